//! The only crate of vk-mem that calls Vulkan.

mod allocator;
mod budget;
mod capabilities;
mod chain;
mod device;
pub mod driver;
mod extensions;
pub mod format;
mod functions;
mod info;
mod instance;
mod loader;
mod open;
mod open_error;
mod resource_calls;
mod simulated;
mod transfer;
mod validation;
mod wrap;

pub use allocator::{AllocateFn, DeviceAllocator, allocate_here};
pub use chain::buffer_usage;
pub use device::VulkanDevice;
pub use driver::{DeviceHandles, Driver, TransferCommand};
pub use info::PhysicalDeviceSummary;
pub use open::{DeviceSelector, OpenOptions, enumerate};
pub use open_error::OpenError;
pub use simulated::{RequirementRules, SimulatedDriver};
pub use validation::ValidationLog;
pub use wrap::WrapOptions;
