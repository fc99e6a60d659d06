//! What a device does on its queue: commands, and what is known of them once they are submitted.

use std::fmt::Debug;

use ash::vk;
use vkmem_engine::CallError;

/// Work that was submitted to a device's queue; the later of two of one device is the greater one.
///
/// Once it has ended, so have all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submission(pub(crate) u64);

impl Submission {
    /// Stands for no work at all: it has always ended.
    pub const NONE: Self = Self(0);
}

/// One command on the device's own queue.
///
/// Commands between two [`Barrier`](Self::Barrier)s may run in any order and at the same time: none of
/// them reads or writes what another one writes. Nothing needs a barrier against what was submitted
/// before, nor against the host.
#[derive(Clone, Copy, Debug)]
pub enum TransferCommand {
    /// `vkCmdFillBuffer`. Offset and size are multiples of 4.
    FillBuffer {
        /// Written.
        buffer: vk::Buffer,
        /// In bytes.
        offset: u64,
        /// In bytes.
        size: u64,
        /// Repeated in the host's byte order.
        value: u32,
    },
    /// `vkCmdCopyBuffer`. Copies between one pair of buffers that follow each other become one call.
    CopyBuffer {
        /// Read.
        source: vk::Buffer,
        /// In bytes.
        source_offset: u64,
        /// Written.
        target: vk::Buffer,
        /// In bytes.
        target_offset: u64,
        /// In bytes.
        size: u64,
    },
    /// `vkCmdCopyBufferToImage`. Regions between one buffer and one image that follow each other become
    /// one call.
    CopyBufferToImage {
        /// Read.
        buffer: vk::Buffer,
        /// Written.
        image: vk::Image,
        /// Which texels, and where they lie in the buffer. A row length and an image height of 0: rows
        /// and slices follow each other without gaps.
        region: vk::BufferImageCopy,
        /// Around the copy.
        layouts: LayoutChange,
    },
    /// `vkCmdCopyImageToBuffer`, the way back.
    CopyImageToBuffer {
        /// Read.
        image: vk::Image,
        /// Written.
        buffer: vk::Buffer,
        /// As above.
        region: vk::BufferImageCopy,
        /// Around the copy.
        layouts: LayoutChange,
    },
    /// `vkCmdPipelineBarrier`: what stands before it has ended, and its writes are seen, where anything
    /// behind it begins.
    Barrier,
}

/// The layouts of a part of an image before and after a copy.
#[derive(Clone, Copy, Debug)]
pub struct LayoutChange {
    /// Contains what is copied; both aspects of a format for depth and stencil. Of an image that is
    /// copied several times between two barriers, those ranges are either the same or disjoint.
    pub range: vk::ImageSubresourceRange,
    /// Before. `UNDEFINED`: what the range held is lost.
    pub old: vk::ImageLayout,
    /// After. Where no image can be put into it (`UNDEFINED`, `PREINITIALIZED`), the range stays in the
    /// layout of the copy.
    pub new: vk::ImageLayout,
}

impl LayoutChange {
    /// All of a colour image, whose contents are lost but for what is copied.
    pub fn of_new_image(new: vk::ImageLayout) -> Self {
        let range = vk::ImageSubresourceRange {
            aspect_mask: vk::ImageAspectFlags::COLOR,
            base_mip_level: 0,
            level_count: vk::REMAINING_MIP_LEVELS,
            base_array_layer: 0,
            layer_count: vk::REMAINING_ARRAY_LAYERS,
        };
        Self { range, old: vk::ImageLayout::UNDEFINED, new }
    }

    /// What a region covers is in a layout, and is put back into it.
    pub fn kept(region: &vk::BufferImageCopy, layout: vk::ImageLayout) -> Self {
        let part = region.image_subresource;
        let range = vk::ImageSubresourceRange {
            aspect_mask: part.aspect_mask,
            base_mip_level: part.mip_level,
            level_count: 1,
            base_array_layer: part.base_array_layer,
            layer_count: part.layer_count,
        };
        Self { range, old: layout, new: layout }
    }

    /// Whether an image can be put into `new`.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self.new, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED)
    }
}

/// The whole first mip level and layer of a colour image, tightly packed from an offset in bytes on.
pub fn first_texels(buffer_offset: u64, extent: vk::Extent3D) -> vk::BufferImageCopy {
    vk::BufferImageCopy {
        buffer_offset,
        buffer_row_length: 0,
        buffer_image_height: 0,
        image_subresource: vk::ImageSubresourceLayers {
            aspect_mask: vk::ImageAspectFlags::COLOR,
            mip_level: 0,
            base_array_layer: 0,
            layer_count: 1,
        },
        image_offset: vk::Offset3D::default(),
        image_extent: extent,
    }
}

/// The name of a [`QueueLock`] in errors, where else the name of a call of the driver stands.
pub const QUEUE_LOCK: &str = "queue_lock";

/// The lock of whoever owns the queue of a wrapped device, and submits to it as well.
///
/// It is held around each `vkQueueSubmit` and `vkQueueWaitIdle`, and around no wait for what was
/// submitted. Whoever takes it holds no lock of this library.
pub trait QueueLock: Debug + Send + Sync {
    /// Waits for it. An error, of [`QUEUE_LOCK`]: it is not held, and nothing is submitted.
    fn lock(&self) -> Result<(), CallError>;

    /// Lets go of it. Follows each `lock` without an error.
    fn unlock(&self) -> Result<(), CallError>;
}
