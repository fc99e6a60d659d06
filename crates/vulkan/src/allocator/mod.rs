//! [`DeviceAllocator`]: buffers and images with their memory, created, allocated and bound in one call.

mod alias;
pub(crate) mod bind;
pub(crate) mod create;
mod destroy;
mod image_limits;
pub(crate) mod import;
mod many;
pub(crate) mod recreate;
pub(crate) mod request;
mod resource_api;
pub(crate) mod sharing;

use std::sync::Arc;

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{AllocationId, Allocator, AllocatorOptions, Error};

use crate::driver::contract::Driver;
use image_limits::ImageFormats;

/// An engine and the device it allocates from.
pub struct DeviceAllocator {
    engine: Allocator,
    driver: Arc<dyn Driver>,
    image_formats: ImageFormats,
    /// Buffers that are made here to stay, with their usage.
    own_buffers: Mutex<Vec<(AllocationId, vk::BufferUsageFlags)>, rank::OwnBuffers>,
}

impl DeviceAllocator {
    /// Creates an allocator without memory objects.
    ///
    /// # Errors
    /// The errors of [`Allocator::new`].
    pub fn new(driver: Arc<dyn Driver>, options: &AllocatorOptions) -> Result<Self, Error> {
        let engine = Allocator::new(driver.clone(), options)?;
        let (image_formats, own_buffers) = (ImageFormats::default(), Mutex::default());
        Ok(Self { engine, driver, image_formats, own_buffers })
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Allocator {
        &self.engine
    }

    /// Returns the device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Returns the buffers that the library has made for itself, as rings for transfers, with their usage: for dumps.
    pub fn own_buffers(&self) -> Vec<(AllocationId, vk::BufferUsageFlags)> {
        self.own_buffers.lock().clone()
    }

    /// Notes such a buffer.
    pub(crate) fn add_own_buffer(&self, id: AllocationId, usage: vk::BufferUsageFlags) {
        self.own_buffers.lock().push((id, usage));
    }

    /// Forgets such a buffer, before it is destroyed.
    pub(crate) fn remove_own_buffer(&self, id: AllocationId) {
        self.own_buffers.lock().retain(|it| it.0 != id);
    }

    pub(crate) fn image_formats(&self) -> &ImageFormats {
        &self.image_formats
    }
}
