//! Division of anything but Vulkan memory by the suballocators.

pub(crate) mod block;
pub(crate) mod defragment;
mod margins;
pub(crate) mod set;
