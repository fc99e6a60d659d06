//! The Vulkan handle of a resource.

use ash::vk::{self, Handle};

/// The Vulkan object that uses an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceHandle {
    /// No object: memory only.
    Memory,
    /// A `VkBuffer`.
    Buffer(vk::Buffer),
    /// A `VkImage`.
    Image(vk::Image),
}

impl ResourceHandle {
    /// Names the class of the resource, for messages.
    pub fn class(self) -> &'static str {
        match self {
            Self::Memory => "Allocation",
            Self::Buffer(_) => "Buffer",
            Self::Image(_) => "Image",
        }
    }

    /// Returns the handle as a number; 0 for bare memory.
    pub fn raw(self) -> u64 {
        match self {
            Self::Memory => 0,
            Self::Buffer(buffer) => buffer.as_raw(),
            Self::Image(image) => image.as_raw(),
        }
    }

    /// Returns the handle as those who record an allocator are told it: its number, and whether it is an image.
    pub fn as_told(self) -> (u64, bool) {
        (self.raw(), matches!(self, Self::Image(_)))
    }
}
