//! Commands that a device executes on its queue, and their submissions.

use std::fmt::Debug;

use ash::vk;
use vkmem_engine::CallError;

use crate::driver::texel;

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
    /// `vkCmdCopyImage`. Consecutive copies between one pair of images become one call.
    CopyImage {
        /// The image to read.
        source: vk::Image,
        /// The image to write; may be the source.
        target: vk::Image,
        /// The texels, and their place in the target.
        region: vk::ImageCopy,
        /// The layouts of the source before and after the copy.
        source_layouts: LayoutChange,
        /// The layouts of the target before and after the copy.
        target_layouts: LayoutChange,
    },
    /// `vkCmdBlitImage`: copies with scaling and conversion, on a queue with `GRAPHICS`. Consecutive blits with
    /// one filter between one pair of images become one call.
    BlitImage {
        /// The image to read.
        source: vk::Image,
        /// The image to write; may be the source, for another mip level of it.
        target: vk::Image,
        /// The texels to read, and those to write.
        region: vk::ImageBlit,
        /// How texels are interpolated.
        filter: vk::Filter,
        /// The layouts of the source before and after the blit.
        source_layouts: LayoutChange,
        /// The layouts of the target before and after the blit.
        target_layouts: LayoutChange,
    },
    /// `vkCmdClearColorImage` or `vkCmdClearDepthStencilImage`, of all texels in the range of `layouts`. Colour takes
    /// a queue with `GRAPHICS` or `COMPUTE`, depth and stencil one with `GRAPHICS`.
    ClearImage {
        /// The image to write.
        image: vk::Image,
        /// What each texel becomes.
        value: ClearValue,
        /// The layouts before and after the clear.
        layouts: LayoutChange,
    },
    /// Changes the layout of a part of an image, without a copy. No other command between the same two barriers
    /// uses that part.
    TransitionImage {
        /// The image.
        image: vk::Image,
        /// The layouts before and after.
        layouts: LayoutChange,
    },
    /// `vkCmdPipelineBarrier`: the commands before it complete, and their writes are visible, before those
    /// after it begin.
    Barrier,
}

/// What the texels of an image become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClearValue {
    /// The bits of red, green, blue and alpha: 32-bit floats, or integers for formats of integers.
    Colour([u32; 4]),
    /// For formats of depth or stencil.
    DepthStencil {
        /// From 0 to 1.
        depth: f32,
        /// The lower bits count.
        stencil: u32,
    },
}

/// What a command does with a part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageUse {
    Read,
    Write,
    /// Changes its layout only.
    Transition,
}

impl TransferCommand {
    /// Returns whether the command uses images.
    pub(crate) fn has_images(&self) -> bool {
        !matches!(self, Self::FillBuffer { .. } | Self::CopyBuffer { .. } | Self::Barrier)
    }

    /// Returns the parts of images that the command uses, source before target.
    pub(crate) fn images(&self) -> [Option<(vk::Image, ImageUse, LayoutChange)>; 2] {
        match *self {
            Self::FillBuffer { .. } | Self::CopyBuffer { .. } | Self::Barrier => [None, None],
            Self::CopyBufferToImage { image, layouts, .. }
            | Self::ClearImage { image, layouts, .. } => {
                [Some((image, ImageUse::Write, layouts)), None]
            }
            Self::CopyImageToBuffer { image, layouts, .. } => {
                [Some((image, ImageUse::Read, layouts)), None]
            }
            Self::CopyImage { source, target, source_layouts, target_layouts, .. }
            | Self::BlitImage { source, target, source_layouts, target_layouts, .. } => [
                Some((source, ImageUse::Read, source_layouts)),
                Some((target, ImageUse::Write, target_layouts)),
            ],
            Self::TransitionImage { image, layouts } => {
                [Some((image, ImageUse::Transition, layouts)), None]
            }
        }
    }
}

/// Returns the aspects of a format that change their layout together: `COLOR` for formats with planes.
pub fn layout_aspects(format: vk::Format) -> vk::ImageAspectFlags {
    let aspects = texel::aspects(format);
    let of_depth = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
    if aspects.intersects(of_depth) { aspects } else { vk::ImageAspectFlags::COLOR }
}

/// The layouts of a part of an image before and after a command.
#[derive(Clone, Copy, Debug)]
pub struct LayoutChange {
    /// The subresources that contain the texels of the command, or more: `REMAINING_MIP_LEVELS` and
    /// `REMAINING_ARRAY_LAYERS` are allowed. Its aspects are those of [`layout_aspects`]: both of a format for
    /// depth and stencil, `COLOR` for all planes. Ranges of one image between two barriers are either equal or
    /// disjoint. A range that is read and written between two barriers is in `GENERAL` meanwhile.
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

    /// Returns the change of a whole image of a format.
    pub fn of_whole(format: vk::Format, old: vk::ImageLayout, new: vk::ImageLayout) -> Self {
        let mut change = Self::of_new_image(new);
        change.range.aspect_mask = layout_aspects(format);
        Self { old, ..change }
    }

    /// Returns the change of the level and the layers of a copy, in all aspects of a format.
    pub fn of_layers(
        format: vk::Format,
        part: vk::ImageSubresourceLayers,
        old: vk::ImageLayout,
        new: vk::ImageLayout,
    ) -> Self {
        let range = vk::ImageSubresourceRange {
            aspect_mask: layout_aspects(format),
            base_mip_level: part.mip_level,
            level_count: 1,
            base_array_layer: part.base_array_layer,
            layer_count: part.layer_count,
        };
        Self { range, old, new }
    }

    /// Returns the change of a region of one aspect that is in a layout, and is returned to it.
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

/// The name of [`QueueLock::lock`] in errors, in place of the name of a driver call: nothing was submitted.
pub const QUEUE_LOCK: &str = "queue_lock";
/// The name of [`QueueLock::unlock`] in errors: the commands were submitted, and have ended by then.
pub const QUEUE_UNLOCK: &str = "queue_lock (unlock)";

/// Takes an error of [`QUEUE_UNLOCK`] apart from the outcome of a submission, whose commands have run: they have
/// ended, as [`Submission::NONE`].
///
/// # Errors
/// All others: nothing has run.
pub fn has_run(
    outcome: Result<Submission, CallError>,
) -> Result<(Submission, Option<CallError>), CallError> {
    match outcome {
        Ok(submission) => Ok((submission, None)),
        Err(error) if error.call == QUEUE_UNLOCK => Ok((Submission::NONE, Some(error))),
        Err(error) => Err(error),
    }
}

/// The lock of the other code that submits to the queue of a wrapped device.
///
/// Held around each `vkQueueSubmit` and `vkQueueWaitIdle`, but not while a thread waits for a submission. A
/// thread that takes it holds no lock of this library.
pub trait QueueLock: Debug + Send + Sync {
    /// Locks it. On an error, of [`QUEUE_LOCK`], it is not locked, and nothing is submitted.
    fn lock(&self) -> Result<(), CallError>;

    /// Unlocks it. Called after each `lock` that succeeded. On an error, of [`QUEUE_UNLOCK`], what was submitted
    /// meanwhile is waited for, and has run.
    fn unlock(&self) -> Result<(), CallError>;
}
