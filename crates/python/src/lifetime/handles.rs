//! The Vulkan object on top of a memory.

use ash::vk::{self, Handle};

/// What was made on top of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handles {
    /// Nothing.
    Memory,
    /// A `VkBuffer`.
    Buffer(vk::Buffer),
    /// A `VkImage`.
    Image(vk::Image),
}

impl Handles {
    /// The name of the Python class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Memory => "Allocation",
            Self::Buffer(_) => "Buffer",
            Self::Image(_) => "Image",
        }
    }

    /// As a number; 0 for bare memory.
    pub fn raw(self) -> u64 {
        match self {
            Self::Memory => 0,
            Self::Buffer(buffer) => buffer.as_raw(),
            Self::Image(image) => image.as_raw(),
        }
    }
}
