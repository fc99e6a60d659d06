//! The contract between an allocator and a device, and the reading of Vulkan's structures.

pub(crate) mod binding_log;
pub(crate) mod chain;
pub(crate) mod contract;
pub mod disjoint;
pub mod external;
pub(crate) mod faults;
pub mod format;
pub(crate) mod host_image_copy;
pub mod image_format;
pub(crate) mod image_layouts;
pub mod kept_info;
pub(crate) mod ownership;
pub(crate) mod resource_handle;
pub(crate) mod stopped;
pub(crate) mod submission;
pub mod texel;
pub(crate) mod transfer_queue;
