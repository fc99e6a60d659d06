//! [`FakeVulkan`]: a device without a driver, and its handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use ash::vk::{self, Handle};
use vkmem_engine::DeviceMemory;

/// A device without a driver.
pub struct FakeVulkan {
    memory: Arc<dyn DeviceMemory>,
    /// Bit i: resources may use memory type i.
    pub memory_type_bits: AtomicU32,
    /// Alignment of every resource in bytes.
    pub alignment: AtomicU64,
    /// Number of live resources.
    pub live_resources: AtomicU64,
}

impl FakeVulkan {
    /// Creates a device over some memory. Boxed, as its address is its handle.
    pub fn new(memory: Arc<dyn DeviceMemory>) -> Box<Self> {
        Box::new(Self {
            memory,
            memory_type_bits: AtomicU32::new(u32::MAX),
            alignment: AtomicU64::new(256),
            live_resources: AtomicU64::new(0),
        })
    }

    /// Returns the memory behind it.
    pub fn memory(&self) -> &Arc<dyn DeviceMemory> {
        &self.memory
    }

    fn raw(&self) -> u64 {
        std::ptr::from_ref(self).expose_provenance() as u64
    }

    /// Returns its `VkInstance`.
    pub fn instance(&self) -> vk::Instance {
        vk::Instance::from_raw(self.raw())
    }

    /// Returns its `VkPhysicalDevice`.
    pub fn physical_device(&self) -> vk::PhysicalDevice {
        vk::PhysicalDevice::from_raw(self.raw())
    }

    /// Returns its `VkDevice`.
    pub fn device(&self) -> vk::Device {
        vk::Device::from_raw(self.raw())
    }
}

/// Returns the device of a handle.
///
/// # Safety
/// The handle is that of a live [`FakeVulkan`].
pub(super) unsafe fn behind<'a>(handle: u64) -> &'a FakeVulkan {
    // SAFETY: the handle is the exposed address of a device, which is live as the caller guarantees.
    unsafe { &*std::ptr::with_exposed_provenance::<FakeVulkan>(handle as usize) }
}
