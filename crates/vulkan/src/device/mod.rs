//! [`VulkanDevice`](vulkan_device::VulkanDevice): a real device, opened here or wrapped around a caller's
//! handles.

pub(crate) mod callbacks;
mod command_slots;
mod external;
mod external_functions;
mod faults;
mod fd_kind;
mod host_image_copy;
mod host_images;
mod logical;
pub(crate) mod memory_locks;
pub(crate) mod open;
mod ownership_barriers;
mod resources;
mod submission;
mod transfer_commands;
mod transfer_submission;
pub(crate) mod vulkan_device;
pub(crate) mod wrap;
