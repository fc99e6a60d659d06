//! A Vulkan driver without a GPU, for tests.

mod blit;
mod codec;
pub(crate) mod driver;
mod external;
mod features;
mod hazards;
mod image_copy;
mod linear;
pub(crate) mod pending;
mod plan;
mod registry;
mod resources;
pub(crate) mod rules;
mod submission;
mod surface;
mod transfer;
