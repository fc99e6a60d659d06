//! The Python classes of devices, resources, pools, virtual blocks, statistics.

pub(crate) mod allocation;
pub(crate) mod allocation_create_info;
pub(crate) mod arrays;
pub(crate) mod binding;
pub(crate) mod buffer;
pub(crate) mod device;
pub(crate) mod device_info;
pub(crate) mod image;
pub(crate) mod image_layout;
pub(crate) mod loss_callbacks;
pub(crate) mod losses;
pub(crate) mod moves;
pub(crate) mod pool;
pub(crate) mod recording;
pub(crate) mod resource;
pub(crate) mod simulated;
mod simulated_commands;
mod simulated_faults;
pub(crate) mod statistics;
pub(crate) mod violation;
pub(crate) mod virtual_block;
pub(crate) mod virtual_blocks;
pub(crate) mod watch;
