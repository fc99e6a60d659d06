//! A Vulkan driver without a GPU, for tests.

pub(crate) mod driver;
mod external;
mod linear;
mod registry;
mod resources;
pub(crate) mod rules;
mod transfer;
