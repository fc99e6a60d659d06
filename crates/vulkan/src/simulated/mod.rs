//! A Vulkan driver without a GPU, for tests.

pub(crate) mod driver;
mod external;
mod image_copy;
mod registry;
mod resources;
pub(crate) mod rules;
pub(crate) mod submission;
mod transfer;
