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

use vkmem_engine::{Allocator, AllocatorOptions, Error};

use crate::driver::contract::Driver;
use image_limits::ImageFormats;

/// An engine and the device it allocates from.
pub struct DeviceAllocator {
    engine: Allocator,
    driver: Arc<dyn Driver>,
    image_formats: ImageFormats,
}

impl DeviceAllocator {
    /// Creates an allocator without memory objects.
    ///
    /// # Errors
    /// The errors of [`Allocator::new`].
    pub fn new(driver: Arc<dyn Driver>, options: &AllocatorOptions) -> Result<Self, Error> {
        let engine = Allocator::new(driver.clone(), options)?;
        Ok(Self { engine, driver, image_formats: ImageFormats::default() })
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Allocator {
        &self.engine
    }

    /// Returns the device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    pub(crate) fn image_formats(&self) -> &ImageFormats {
        &self.image_formats
    }
}
