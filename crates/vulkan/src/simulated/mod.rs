//! A Vulkan driver that is none, for tests without a GPU.

pub(crate) mod driver;
mod external;
mod image_copy;
mod registry;
mod resources;
pub(crate) mod rules;
pub(crate) mod submission;
mod transfer;
