//! The loader, the instance, and the properties of physical devices.

pub(crate) mod budget;
pub(crate) mod capabilities;
pub(crate) mod extensions;
pub(crate) mod features;
pub(crate) mod functions;
pub(crate) mod info;
pub(crate) mod loader;
pub(crate) mod nearest;
pub(crate) mod open_error;
pub(crate) mod validation;
pub(crate) mod vulkan_instance;
