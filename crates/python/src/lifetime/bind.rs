//! Binding a resource to memory after both were made.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{DeviceError, Error, MemoryHandle};

use crate::arguments::chains::chain_address;
use crate::arguments::numbers::unsigned;
use crate::errors::IntoPyResult;
use crate::lifetime::bindings::{Binding, Kept};
use crate::lifetime::counted::Held;
use crate::lifetime::ownership::Handles;

/// Where in a memory something is bound, and how.
#[derive(Clone, Copy, Default)]
pub struct BindPlace {
    /// In bytes, from the start of the allocation.
    offset: u64,
    /// Address of a `pNext` chain, or 0.
    next: usize,
}

impl BindPlace {
    /// From arguments.
    pub fn read(
        offset: Option<&Bound<'_, PyAny>>,
        bind_next: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            offset: offset.map_or(Ok(0), |offset| unsigned(offset, "offset"))?,
            next: bind_next.map_or(Ok(0), |next| chain_address(next, "bind_next"))?,
        })
    }
}

impl Held {
    /// Binds a resource of the caller's, or one of DONT_BIND, to this memory.
    pub fn bind(&self, py: Python<'_>, what: Handles, place: BindPlace) -> PyResult<()> {
        let _pin = self.enter(py)?;
        // The exception is made without the lock: that runs Python code, which may come back here.
        self.try_bind(what, place).or_raise(py)
    }

    /// The same without the interpreter's part.
    pub fn try_bind(&self, what: Handles, place: BindPlace) -> Result<(), Error> {
        let BindPlace { offset, next } = place;
        let driver = self.allocator.device_allocator.driver();
        let device = &self.allocator.device;
        // Declared first, so dropped last.
        let mut _kept = Kept::default();
        let mut bindings = device.bindings.lock();
        if !bindings.contains_key(&what) && !device.bindings.is_complete() {
            _kept = device.bindings.complete(&mut bindings, device)?;
        }
        if let Some(Binding::Own | Binding::Foreign(_)) = bindings.get(&what) {
            let class = what.class();
            return Err(Error::InvalidArgument(format!("the {class} is bound already")));
        }
        let needs = match what {
            Handles::Memory => return Ok(()),
            // SAFETY: the caller vouches for the buffer.
            Handles::Buffer(buffer) => unsafe { driver.buffer_requirements(buffer) },
            // SAFETY: the caller vouches for the image.
            Handles::Image(image) => unsafe { driver.image_requirements(image) },
        };
        self.check_fit(&needs, offset)?;
        let place = self.allocation.offset + offset;
        let memory = self.allocation.memory;
        // SAFETY: the memory is live, pinned and fits; the caller vouches for the resource and the chain.
        unsafe { self.call_bind(what, memory, place, next) }?;
        if let Some(binding) = bindings.get_mut(&what) {
            *binding = if what == self.handles {
                Binding::Own
            } else {
                self.bound_here.fetch_add(1, Ordering::AcqRel);
                Binding::Foreign(self.clone())
            };
        }
        Ok(())
    }

    /// # Safety
    /// Resource and memory are live and fit; the chain is valid, or 0.
    unsafe fn call_bind(
        &self,
        what: Handles,
        memory: MemoryHandle,
        offset: u64,
        next: usize,
    ) -> Result<(), Error> {
        let driver = self.allocator.device_allocator.driver();
        let (call, bound) = match (what, next) {
            (Handles::Memory, _) => return Ok(()),
            (Handles::Buffer(buffer), 0) => {
                // SAFETY: of the caller; so it is below.
                ("vkBindBufferMemory", unsafe { driver.bind_buffer(buffer, memory, offset) })
            }
            (Handles::Buffer(buffer), next) => {
                // SAFETY: see above.
                let bound = unsafe { driver.bind_buffer_with(buffer, memory, offset, next) };
                ("vkBindBufferMemory2", bound)
            }
            (Handles::Image(image), 0) => {
                // SAFETY: see above.
                ("vkBindImageMemory", unsafe { driver.bind_image(image, memory, offset) })
            }
            (Handles::Image(image), next) => {
                // SAFETY: see above.
                let bound = unsafe { driver.bind_image_with(image, memory, offset, next) };
                ("vkBindImageMemory2", bound)
            }
        };
        bound.map_err(|error| match error {
            DeviceError::FeatureNotPresent if next != 0 => Error::FeatureNotPresent(format!(
                "bind_next needs {call}: Vulkan 1.1 or VK_KHR_bind_memory2, which is not enabled on this \
                 device"
            )),
            other => self.bind_error(call, other),
        })
    }
}
