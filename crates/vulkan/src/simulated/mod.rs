//! A Vulkan driver that is none, for tests without a GPU.

pub(crate) mod driver;
mod external;
mod registry;
mod resources;
pub(crate) mod rules;
mod transfer;
