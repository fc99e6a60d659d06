//! A Vulkan driver without a GPU, for tests.

pub(crate) mod driver;
mod external;
mod features;
mod image_copy;
mod linear;
pub(crate) mod pending;
mod registry;
mod resources;
pub(crate) mod rules;
mod submission;
mod transfer;
