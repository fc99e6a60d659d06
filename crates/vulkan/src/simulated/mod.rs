//! A Vulkan driver without a GPU, for tests.

pub(crate) mod driver;
mod external;
mod features;
mod image_copy;
mod linear;
mod ownership;
pub(crate) mod pending;
mod registry;
mod resources;
pub(crate) mod rules;
mod second_queue;
mod submission;
mod transfer;
