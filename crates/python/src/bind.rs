//! Binding a resource to memory after both were made.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{DeviceError, Error};

use crate::bindings::{Binding, Kept};
use crate::chains::chain_address;
use crate::errors::IntoPyResult;
use crate::held::Held;
use crate::numbers::unsigned;
use crate::resource::Handles;

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
        match what {
            Handles::Memory => {}
            // SAFETY: the memory is live, pinned and fits; the caller vouches for the buffer. So it is below,
            // and for the chain as well.
            Handles::Buffer(buffer) if next == 0 => {
                unsafe { driver.bind_buffer(buffer, memory, place) }
                    .map_err(|error| self.bind_error("vkBindBufferMemory", error))?
            }
            // SAFETY: see above.
            Handles::Buffer(buffer) => {
                unsafe { driver.bind_buffer_with(buffer, memory, place, next) }
                    .map_err(|error| self.bind2_error("vkBindBufferMemory2", error))?
            }
            // SAFETY: see above.
            Handles::Image(image) if next == 0 => {
                unsafe { driver.bind_image(image, memory, place) }
                    .map_err(|error| self.bind_error("vkBindImageMemory", error))?
            }
            // SAFETY: see above.
            Handles::Image(image) => unsafe { driver.bind_image_with(image, memory, place, next) }
                .map_err(|error| self.bind2_error("vkBindImageMemory2", error))?,
        }
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

    #[cold]
    fn bind2_error(&self, call: &str, error: DeviceError) -> Error {
        match error {
            DeviceError::FeatureNotPresent => Error::FeatureNotPresent(format!(
                "bind_next needs {call}: Vulkan 1.1 or VK_KHR_bind_memory2, which is not enabled on this \
                 device"
            )),
            other => self.bind_error(call, other),
        }
    }
}
