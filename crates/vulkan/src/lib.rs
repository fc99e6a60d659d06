//! The only crate of vk-mem that calls Vulkan.

pub mod driver;

pub use driver::{DeviceHandles, Driver, TransferCommand};
