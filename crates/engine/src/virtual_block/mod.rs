//! Ranges of anything but Vulkan memory, divided by the suballocators.

pub(crate) mod block;
pub(crate) mod set;
