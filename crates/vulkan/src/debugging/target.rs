//! What is to be filled, and what was left out.

use ash::vk;
use vkmem_engine::AllocationId;

use crate::driver::resource_handle::ResourceHandle;

/// What a clear of an image needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageContents {
    /// The format.
    pub format: vk::Format,
    /// The tiling.
    pub tiling: vk::ImageTiling,
    /// `VkImageCreateInfo.initialLayout`.
    pub initial_layout: vk::ImageLayout,
}

/// A resource with an allocation of its own, whose memory is to be written.
#[derive(Clone, Copy, Debug)]
pub struct FillTarget {
    /// The buffer or image that is bound to the allocation; [`ResourceHandle::Memory`] if none is.
    pub handle: ResourceHandle,
    /// The usage that it was created with: `VkBufferUsageFlags2` or `VkImageUsageFlags`.
    pub usage: u64,
    /// Size of a buffer in bytes, as it was created.
    pub buffer_size: u64,
    /// What is known of an image; `None` for others.
    pub image: Option<ImageContents>,
    /// Its allocation.
    pub id: AllocationId,
}

impl FillTarget {
    /// Returns the last bytes of memory of a size that its buffer does not have; 0 for others than buffers.
    pub(super) fn slack(&self, size: u64) -> u64 {
        match self.handle {
            ResourceHandle::Buffer(_) => size.saturating_sub(self.buffer_size),
            ResourceHandle::Image(_) | ResourceHandle::Memory => 0,
        }
    }
}

/// The part of a resource's memory that was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOutPart {
    /// The contents of the resource.
    Contents,
    /// The margins before and behind it: they are not checked.
    Margins,
}

/// Memory that was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The allocation.
    pub id: AllocationId,
    /// What was not written.
    pub part: LeftOutPart,
    /// Why not, to be read behind "it is not filled: ".
    pub why: &'static str,
}
