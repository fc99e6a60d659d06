//! Checks whether a call may use a device, an allocator, a pool or a resource: it has not ended, and is of
//! this process and this device.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use vkmem_vulkan::ResourceHandle;

use pyo3::prelude::*;
use vkmem_engine::Allocator as Engine;

use super::describe::quoted;
use super::ownership::{AllocatorState, Debugger, DeviceCore, PoolState, Resource};
use super::pins::Pinned;
use crate::errors::{invalid, lost_error, use_after_free};
use crate::interpreter::enter_thread;

impl DeviceCore {
    /// Returns whether this is the child of a fork, where threads and locks of the driver are the parent's:
    /// the device cannot be used there, nor destroyed.
    pub fn is_forked(&self) -> bool {
        !self.process.is_this()
    }

    /// Raises an exception in the child of a fork.
    pub fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        enter_thread();
        if !self.is_forked() {
            return Ok(());
        }
        Err(invalid(py, "the device was opened before os.fork(): open another in this process"))
    }
}

impl AllocatorState {
    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        self.device_allocator.engine()
    }

    /// Pins the allocator for a call; raises after `close`.
    pub fn enter<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        self.device.check_process(py)?;
        match self.pins.pin_unwatched(py) {
            Some(pin) => Ok(pin),
            None => self.enter_watched(py),
        }
    }

    /// Raises after `close`.
    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        self.device.check_process(py)?;
        if self.pins.is_closed() { Err(closed(py)) } else { Ok(()) }
    }

    /// Does the work of a call that ends or changes something, of which nothing must be left undone: where each call
    /// checks all memory, what the check before it has found is raised after it.
    #[inline]
    pub fn change<T>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        if self.pins.is_watched() { self.change_watched(py, work) } else { work() }
    }

    #[cold]
    fn change_watched<T>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        // What cannot be entered is refused by the work.
        let (Some(_inside), Some(debugger)) = (self.pins.pin(py), self.debugger()) else {
            return work();
        };
        if self.device.is_forked() || !debugger.begin_change(py, self)? {
            return work();
        }
        let change = Change(debugger);
        let done = work();
        drop(change);
        // An error of the call's own comes first: the next call raises what was found.
        let done = done?;
        debugger.raise(py, self).map(|()| done)
    }

    /// Pins the allocator after a check of its memory, if each call checks that.
    #[cold]
    fn enter_watched<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.pins.pin(py).ok_or_else(|| closed(py))?;
        match self.debugger() {
            Some(debugger) => debugger.enter(py, self).map(|()| pin),
            None => Ok(pin),
        }
    }
}

/// A call that changes something, on this thread.
struct Change<'a>(&'a Arc<dyn Debugger>);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.end_change();
    }
}

#[cold]
fn closed(py: Python<'_>) -> PyErr {
    use_after_free(py, "the allocator is closed")
}

/// Pins the pool of a `pool=` keyword for a call; raises if it is closed or of another allocator.
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

/// Returns the exception for a use of what was lost.
#[cold]
fn lost(py: Python<'_>, what: String) -> PyErr {
    lost_error(
        py,
        format!("{what} was lost: its memory was taken away (CAN_BECOME_LOST); create it again"),
    )
}

impl Resource {
    /// Pins the resource, which is a use in this frame; raises after `destroy`.
    pub fn enter<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        let pin = self.enter_unused(py)?;
        self.touch(py);
        Ok(pin)
    }

    /// Pins the resource, although nothing in its memory is used; raises after `destroy`.
    pub fn enter_unused<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        self.allocator.device.check_process(py)?;
        match self.pins.pin_unwatched(py) {
            Some(pin) => Ok(pin),
            None if self.pins.is_watched() => self.enter_watched(py),
            None => self.enter_after_move(py)?.ok_or_else(|| self.ended_error(py)),
        }
    }

    /// Pins the resource after a check of all memory.
    #[cold]
    fn enter_watched<'a>(&'a self, py: Python<'a>) -> PyResult<Pinned<'a>> {
        if let Some(debugger) = self.allocator.debugger() {
            debugger.enter(py, &self.allocator)?;
        }
        // The check has let other threads run.
        match self.pins.pin(py) {
            Some(pin) => Ok(pin),
            None => self.enter_after_move(py)?.ok_or_else(|| self.ended_error(py)),
        }
    }

    /// Raises if the resource has ended.
    pub fn check_live(&self, py: Python<'_>) -> PyResult<()> {
        if self.pins.is_closed() { Err(self.ended_error(py)) } else { Ok(()) }
    }

    /// Raises if the resource is of another device, where its handle is meaningless; drivers do not check
    /// that.
    pub fn check_device(&self, py: Python<'_>, device: &Arc<DeviceCore>) -> PyResult<()> {
        if Arc::ptr_eq(device, &self.allocator.device) {
            return Ok(());
        }
        Err(invalid(py, format!("{} is of another device", self.describe())))
    }

    fn ended_error(&self, py: Python<'_>) -> PyErr {
        if self.is_lost() {
            return lost(py, self.title());
        }
        let verb = match self.handle() {
            _ if self.retired.load(Ordering::Relaxed) => "retired",
            ResourceHandle::Memory => "freed",
            ResourceHandle::Buffer(_) | ResourceHandle::Image(_) => "destroyed",
        };
        let name = self.last_name().map_or(String::new(), quoted);
        use_after_free(py, format!("{}{name} was {verb}", self.handle().class()))
    }
}
