//! The engine of vk-mem: decides where every Vulkan allocation goes.
#![forbid(unsafe_code)]

pub mod device;
pub mod error;
pub mod request;

pub use device::*;
pub use error::*;
pub use request::*;
