//! A Vulkan driver without a GPU, for tests.

mod blit;
mod blit_rules;
mod codec;
mod command_buffers;
mod discard;
pub(crate) mod driver;
mod external;
mod fault_state;
mod faults;
mod features;
mod hazards;
mod host_image_copy;
mod image_copy;
mod linear;
mod moved;
mod ownership;
pub(crate) mod pending;
mod plan;
mod registry;
mod resources;
pub(crate) mod rules;
mod second_queue;
mod submission;
mod surface;
mod transfer;
mod work;
