//! Commands that a device executes on its queue, and their submissions.

use std::fmt::Debug;

use ash::vk;
use vkmem_engine::CallError;

/// Work that was submitted to a device's queue. Of two submissions to one device the later one is greater.
///
/// When it has ended, all before it have ended, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submission(pub(crate) u64);

impl Submission {
    /// No work at all: it has always ended.
    pub const NONE: Self = Self(0);
}

/// One command on a device's own queue.
///
/// Commands between two [`Barrier`](Self::Barrier)s may run in any order and concurrently: none of them
/// accesses a range that another one writes. No barriers are needed against earlier submissions, nor against
/// the host.
#[derive(Clone, Copy, Debug)]
pub enum TransferCommand {
    /// `vkCmdFillBuffer`. Offset and size are multiples of 4 bytes.
    FillBuffer {
        /// The buffer to write.
        buffer: vk::Buffer,
        /// Offset in bytes.
        offset: u64,
        /// Size in bytes.
        size: u64,
        /// The value to repeat, in the host's byte order.
        value: u32,
    },
    /// `vkCmdCopyBuffer`. Consecutive copies between one pair of buffers become one call.
    CopyBuffer {
        /// The buffer to read.
        source: vk::Buffer,
        /// Offset in the source, in bytes.
        source_offset: u64,
        /// The buffer to write.
        target: vk::Buffer,
        /// Offset in the target, in bytes.
        target_offset: u64,
        /// Size in bytes.
        size: u64,
    },
    /// `vkCmdCopyBufferToImage`. Consecutive copies between one buffer and one image become one call.
    CopyBufferToImage {
        /// The buffer to read.
        buffer: vk::Buffer,
        /// The image to write.
        image: vk::Image,
        /// The texels, and their place in the buffer. A row length and an image height of 0 mean rows and
        /// slices without gaps.
        region: vk::BufferImageCopy,
        /// The layouts before and after the copy.
        layouts: LayoutChange,
    },
    /// `vkCmdCopyImageToBuffer`. Consecutive copies between one image and one buffer become one call.
    CopyImageToBuffer {
        /// The image to read.
        image: vk::Image,
        /// The buffer to write.
        buffer: vk::Buffer,
        /// The texels, and their place in the buffer. A row length and an image height of 0 mean rows and
        /// slices without gaps.
        region: vk::BufferImageCopy,
        /// The layouts before and after the copy.
        layouts: LayoutChange,
    },
    /// `vkCmdPipelineBarrier`: the commands before it complete, and their writes are visible, before those
    /// after it begin.
    Barrier,
}

/// A range of a buffer that a command uses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferUse {
    pub(crate) buffer: vk::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) is_written: bool,
}

impl TransferCommand {
    /// Returns the ranges of buffers whose size the command names itself; not those of copies from and to
    /// images, which [`image_buffer`](Self::image_buffer) returns.
    pub(crate) fn buffer_ranges(&self) -> impl Iterator<Item = BufferUse> + use<> {
        let part =
            |buffer, offset, size, is_written| BufferUse { buffer, offset, size, is_written };
        let parts = match *self {
            Self::FillBuffer { buffer, offset, size, .. } => {
                [Some(part(buffer, offset, size, true)), None]
            }
            Self::CopyBuffer { source, source_offset, target, target_offset, size } => [
                Some(part(source, source_offset, size, false)),
                Some(part(target, target_offset, size, true)),
            ],
            Self::CopyBufferToImage { .. } | Self::CopyImageToBuffer { .. } | Self::Barrier => {
                [None, None]
            }
        };
        parts.into_iter().flatten()
    }

    /// Returns the buffer of a copy from or to an image, and whether it is written.
    pub(crate) fn image_buffer(&self) -> Option<(vk::Buffer, bool)> {
        match *self {
            Self::CopyBufferToImage { buffer, .. } => Some((buffer, false)),
            Self::CopyImageToBuffer { buffer, .. } => Some((buffer, true)),
            Self::FillBuffer { .. } | Self::CopyBuffer { .. } | Self::Barrier => None,
        }
    }

    /// Returns the images that the command uses, with their layouts during and around it.
    pub(crate) fn image_uses(
        &self,
    ) -> impl Iterator<Item = (vk::Image, vk::ImageLayout, LayoutChange)> + use<> {
        let part = match *self {
            Self::CopyBufferToImage { image, layouts, .. } => {
                Some((image, vk::ImageLayout::TRANSFER_DST_OPTIMAL, layouts))
            }
            Self::CopyImageToBuffer { image, layouts, .. } => {
                Some((image, vk::ImageLayout::TRANSFER_SRC_OPTIMAL, layouts))
            }
            Self::FillBuffer { .. } | Self::CopyBuffer { .. } | Self::Barrier => None,
        };
        part.into_iter()
    }
}

/// The layouts of a part of an image before and after a copy.
#[derive(Clone, Copy, Debug)]
pub struct LayoutChange {
    /// The subresources that contain the copied texels; both aspects of a format for depth and stencil.
    /// Ranges of one image between two barriers are either equal or disjoint.
    pub range: vk::ImageSubresourceRange,
    /// The layout before. `UNDEFINED` discards the contents of the range.
    pub old: vk::ImageLayout,
    /// The layout after. If no image can be transitioned to it (`UNDEFINED`, `PREINITIALIZED`), the range
    /// stays in the layout of the copy.
    pub new: vk::ImageLayout,
}

impl LayoutChange {
    /// Returns the change of a whole colour image whose previous contents are discarded.
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

    /// Returns the change of a region that is in a layout, and is returned to it.
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

    /// Returns whether an image can be transitioned to `new`.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self.new, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED)
    }
}

/// Returns the region of the whole first mip level and layer of a colour image, tightly packed from an offset
/// in bytes.
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

/// The name of a [`QueueLock`] in errors, in place of the name of a driver call.
pub const QUEUE_LOCK: &str = "queue_lock";

/// The lock of the other code that submits to the queue of a wrapped device.
///
/// Held around each `vkQueueSubmit` and `vkQueueWaitIdle`, but not while a thread waits for a submission. A
/// thread that takes it holds no lock of this library.
pub trait QueueLock: Debug + Send + Sync {
    /// Locks it. On an error, of [`QUEUE_LOCK`], it is not locked, and nothing is submitted.
    fn lock(&self) -> Result<(), CallError>;

    /// Unlocks it. Called after each `lock` that succeeded.
    fn unlock(&self) -> Result<(), CallError>;
}
