//! Binding a resource to memory after both were made.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::words::bytes;
use vkmem_engine::{Allocation, DeviceError, Error, MemoryHandle, MemoryRequirements};

use super::close::open_allocators;
use super::handles::Handles;
use super::ownership::{AllocatorState, Binding, DeviceCore, Resource, ResourceRef};
use crate::arguments::chains::chain_address;
use crate::arguments::numbers::unsigned;
use crate::errors::IntoPyResult;

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

/// What a walk over live things has held on to. Dropped after the table is unlocked: the last reference
/// of a resource may be among them, and its end looks into the table.
type Kept = Vec<(Arc<AllocatorState>, Vec<ResourceRef>)>;

/// Enters all that lives on a device. O(live resources), once.
#[cold]
fn complete(device: &DeviceCore, known: &mut HashMap<Handles, Binding>) -> Result<Kept, Error> {
    device.bindings.set_complete();
    let mut kept = Vec::new();
    for state in open_allocators() {
        let mut live = Vec::new();
        if std::ptr::eq(&*state.device, device) {
            let count = state.live.lock().len() + state.waiting().0;
            if known.try_reserve(count).is_err() {
                // What is in the table is true.
                device.bindings.set_incomplete();
                return Err(Error::TooManyItems(count));
            }
            live = state.live.lock().all();
            for it in live.iter().filter(|it| it.handles != Handles::Memory) {
                known.entry(it.handles).or_insert_with(|| Binding::of_new(it.dont_bind));
            }
            // These wait for their frame: the handles are good until then.
            for handles in state.waiting_handles() {
                known.entry(handles).or_insert(Binding::Own);
            }
        }
        kept.push((state, live));
    }
    Ok(kept)
}

impl ResourceRef {
    /// Binds a resource of the caller's, or one of DONT_BIND, to this memory.
    pub fn bind(&self, py: Python<'_>, what: Handles, place: BindPlace) -> PyResult<()> {
        let _pin = self.enter(py)?;
        // The exception is made without the lock: that runs Python code, which may come back here.
        self.try_bind(what, place).or_raise(py)
    }

    /// Binds as `bind` does, and raises nothing: the error is the engine's.
    pub fn try_bind(&self, what: Handles, place: BindPlace) -> Result<(), Error> {
        let BindPlace { offset, next } = place;
        let driver = self.allocator.device_allocator.driver();
        let device = &self.allocator.device;
        // Declared first, so dropped last.
        let mut _kept = Kept::default();
        let mut bindings = device.bindings.lock();
        if !bindings.contains_key(&what) && !device.bindings.is_complete() {
            _kept = complete(device, &mut bindings)?;
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

impl Resource {
    fn bind_error(&self, call: &'static str, error: DeviceError) -> Error {
        let Allocation { memory_type_index, size, .. } = self.allocation;
        let figures = self.allocator.engine().figures(Some(memory_type_index), size);
        Error::of_call(call, error, figures)
    }

    /// Vulkan does not check it, and drivers write where they are told to.
    fn check_fit(&self, needs: &MemoryRequirements, offset: u64) -> Result<(), Error> {
        let have = &self.allocation;
        let end = offset.checked_add(needs.size);
        let why = if end.is_none_or(|end| end > have.size) {
            format!("needs {} from offset {offset} on", bytes(needs.size))
        } else if !(have.offset + offset).is_multiple_of(needs.alignment) {
            format!("needs an alignment of {}, which offset {offset} has not", needs.alignment)
        } else if needs.memory_type_bits >> have.memory_type_index & 1 == 0 {
            format!("cannot live in it (memoryTypeBits {:#x})", needs.memory_type_bits)
        } else {
            return Ok(());
        };
        let what = self.describe();
        Err(Error::InvalidArgument(format!("it does not fit {what}: it {why}")))
    }

    /// Whether it has memory, as far as this library knows: some drivers crash when they copy to or
    /// from what has none.
    pub fn is_bound(&self) -> bool {
        !self.dont_bind
            || !matches!(
                self.allocator.device.bindings.lock().get(&self.handles),
                Some(Binding::Unbound)
            )
    }
}
