//! A device that knows no driver, behind its handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use ash::vk::{self, Handle};
use vkmem_engine::DeviceMemory;

/// A device that knows no driver.
pub struct FakeVulkan {
    memory: Arc<dyn DeviceMemory>,
    /// Bit i: resources may live in memory type i.
    pub memory_type_bits: AtomicU32,
    /// Alignment of every resource, in bytes.
    pub alignment: AtomicU64,
    /// Resources that are there.
    pub live_resources: AtomicU64,
}

impl FakeVulkan {
    /// Over some memory. Boxed, as its address is its handle.
    pub fn new(memory: Arc<dyn DeviceMemory>) -> Box<Self> {
        Box::new(Self {
            memory,
            memory_type_bits: AtomicU32::new(u32::MAX),
            alignment: AtomicU64::new(256),
            live_resources: AtomicU64::new(0),
        })
    }

    /// What stands behind it.
    pub fn memory(&self) -> &Arc<dyn DeviceMemory> {
        &self.memory
    }

    fn raw(&self) -> u64 {
        std::ptr::from_ref(self).expose_provenance() as u64
    }

    /// `VkInstance`
    pub fn instance(&self) -> vk::Instance {
        vk::Instance::from_raw(self.raw())
    }

    /// `VkPhysicalDevice`
    pub fn physical_device(&self) -> vk::PhysicalDevice {
        vk::PhysicalDevice::from_raw(self.raw())
    }

    /// `VkDevice`
    pub fn device(&self) -> vk::Device {
        vk::Device::from_raw(self.raw())
    }
}

/// The device behind a handle.
///
/// # Safety
/// The handle is that of a live [`FakeVulkan`].
pub(super) unsafe fn behind<'a>(handle: u64) -> &'a FakeVulkan {
    // SAFETY: the handle is the exposed address of one, which lives as the caller promises.
    unsafe { &*std::ptr::with_exposed_provenance::<FakeVulkan>(handle as usize) }
}
