//! Whether a call may use a device, an allocator, a pool or a resource: none that has ended, none of
//! another process, none of another device.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use vkmem_vulkan::ResourceHandle;

use pyo3::prelude::*;
use vkmem_engine::Allocator as Engine;

use super::describe::quoted;
use super::ownership::{AllocatorState, DeviceCore, PoolState, Resource};
use super::pins::Pinned;
use crate::errors::{invalid, use_after_free};
use crate::interpreter::enter_thread;

impl DeviceCore {
    /// Whether this is the child of a fork, where the driver's threads and locks are those of the
    /// parent: nothing of the device can be used, not even to end it.
    pub fn is_forked(&self) -> bool {
        !self.process.is_this()
    }

    /// An exception in the child of a fork.
    pub fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        enter_thread();
        if !self.is_forked() {
            return Ok(());
        }
        Err(invalid(py, "the device was opened before os.fork(): open another in this process"))
    }
}

impl AllocatorState {
    /// The engine.
    pub fn engine(&self) -> &Engine {
        self.device_allocator.engine()
    }

    /// Registers a call; an exception after close.
    pub fn enter<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        self.device.check_process(py)?;
        self.pins.pin(py).ok_or_else(|| closed(py))
    }
}

#[cold]
fn closed(py: Python<'_>) -> PyErr {
    use_after_free(py, "the allocator is closed")
}

/// Keeps the pool of a `pool=` keyword open for a call, if it is this allocator's and open.
pub fn enter_pool<'a>(
    py: Python<'a>,
    pool: Option<&'a Arc<PoolState>>,
    allocator: &Arc<AllocatorState>,
) -> PyResult<Option<Pinned<'a>>> {
    let Some(pool) = pool else { return Ok(None) };
    if !Arc::ptr_eq(&pool.allocator, allocator) {
        return Err(invalid(py, format!("{} is of another allocator", pool.describe())));
    }
    if pool.is_collected.load(Ordering::Relaxed) {
        return Err(use_after_free(py, "the pool was collected"));
    }
    pool.pins.pin(py).map(Some).ok_or_else(|| use_after_free(py, "the pool is closed"))
}

impl Resource {
    /// Registers a use; an exception after destroy.
    pub fn enter<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        self.allocator.device.check_process(py)?;
        self.pins.pin(py).ok_or_else(|| self.dead(py))
    }

    /// An exception after destroy.
    pub fn check_live(&self, py: Python<'_>) -> PyResult<()> {
        if self.pins.is_closed() { Err(self.dead(py)) } else { Ok(()) }
    }

    /// That it is of a device. Its handle means nothing on another one, and drivers do not look.
    pub fn check_device(&self, py: Python<'_>, device: &Arc<DeviceCore>) -> PyResult<()> {
        if Arc::ptr_eq(device, &self.allocator.device) {
            return Ok(());
        }
        Err(invalid(py, format!("{} is of another device", self.describe())))
    }

    fn dead(&self, py: Python<'_>) -> PyErr {
        let verb = match self.handle() {
            _ if self.retired.load(Ordering::Relaxed) => "retired",
            ResourceHandle::Memory => "freed",
            ResourceHandle::Buffer(_) | ResourceHandle::Image(_) => "destroyed",
        };
        let name = self.last_name().map_or(String::new(), quoted);
        use_after_free(py, format!("{}{name} was {verb}", self.handle().class()))
    }
}
