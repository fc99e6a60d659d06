//! Arrays whose own pages the device uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ash::vk;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::bytes;
use vkmem_engine::{AllocationCreateInfo, MemoryImport, MemoryPropertyFlags};
use vkmem_vulkan::{Import, Sharing, TransferQueue};

use super::state::{Registration, TransfersState};
use crate::debugging::raising::{end_block, is_failing};
use crate::errors::{IntoPyResult, feature_not_present, invalid};
use crate::interop::handle_types::HOST_ALLOCATION;
use crate::interpreter::{detach, try_attach, warn_unclosed};
use crate::lifetime::host_buffer::HeldBuffer;
use crate::lifetime::ownership::AllocatorState;
use crate::memory::mapping::Mapping;

/// An array that `Transfers.register` has registered: a context manager.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct RegisteredArray {
    state: Arc<TransfersState>,
    allocator: Arc<AllocatorState>,
    registration: Arc<Registration>,
    /// Here and not in the shared half, so that the cycle collector can follow it.
    held: Mutex<Option<HeldBuffer>, rank::RegisteredArray>,
}

impl RegisteredArray {
    pub(super) fn new(
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        array: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = array.py();
        let driver = allocator.device_allocator.driver();
        let Some(page) = driver.external().host_pointer_alignment() else {
            let why = "the device cannot use pages of the host: it has no \
                       VK_EXT_external_memory_host";
            return Err(feature_not_present(py, why));
        };
        let held = HeldBuffer::of(array, "array", &py.get_type::<Mapping>())?;
        let (start, length) = (held.address() as usize, held.len() as usize);
        if length == 0 {
            return Err(invalid(py, "the array has no bytes to register"));
        }
        let page = page as usize;
        let first = start / page * page;
        let size = ((start + length).next_multiple_of(page) - first) as u64;
        let usage = vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
        // Both queues use the pages of one array at the same time.
        let queue = driver.transfer_queue().filter(TransferQueue::is_of_another_family);
        let families = queue.map(|it| [it.main_family_index, it.family_index]);
        let mut info = vk::BufferCreateInfo::default().size(size).usage(usage);
        let mut sharing = Sharing::Exclusive;
        if let Some(families) = &families {
            info = info.sharing_mode(vk::SharingMode::CONCURRENT).queue_family_indices(families);
            sharing = Sharing::Concurrent;
        }
        let create = AllocationCreateInfo {
            // What the host and the device write is seen by the other one as it is.
            required_flags: MemoryPropertyFlags::HOST_COHERENT,
            ..Default::default()
        };
        let memory = MemoryImport { handle_type: HOST_ALLOCATION, handle: first as u64 };
        let import = Import { memory, size: Some(size), offset: 0, memory_type_index: None };
        let made = detach(py, || {
            let on = &allocator.device_allocator;
            // SAFETY: made here; the pages are held until the registration has ended.
            unsafe { on.import_buffer(&info, &import, &create, &mut |on, it| on.import(it)) }
        });
        let (buffer, allocation) = made.or_raise(py)?;
        let registration = Arc::new(Registration {
            start,
            end: start + length,
            page: first,
            buffer,
            sharing,
            id: allocation.id,
            uses: AtomicU64::new(0),
            is_open: AtomicBool::new(true),
            held: Mutex::new(None),
        });
        state.registrations.lock().push(registration.clone());
        let (state, allocator) = (state.clone(), allocator.clone());
        Ok(Self { state, allocator, registration, held: Mutex::new(Some(held)) })
    }

    fn forget(&self) {
        self.state.registrations.lock().retain(|it| !Arc::ptr_eq(it, &self.registration));
    }
}

#[pymethods]
impl RegisteredArray {
    /// Bytes of the array.
    #[getter]
    fn nbytes(&self) -> usize {
        self.registration.end - self.registration.start
    }

    /// Whether the device no longer uses its pages.
    #[getter]
    fn closed(&self) -> bool {
        !self.registration.is_open.load(Ordering::Acquire) || self.allocator.pins.is_closed()
    }

    /// Waits for transfers that use the pages, and ends that the device does. Nothing happens the second
    /// time.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.allocator.change(py, || {
            if !self.closed() {
                let _inside = self.allocator.enter(py)?;
                // From here on no transfer finds it.
                self.forget();
                if self.registration.uses.load(Ordering::Acquire) > 0
                    && let Err(error) = self.state.wait_all(py, &self.allocator, None)
                {
                    self.state.registrations.lock().push(self.registration.clone());
                    return Err(error);
                }
                let (registration, allocator) = (&self.registration, &self.allocator);
                detach(py, || registration.end(allocator));
            }
            let held = self.held.lock().take();
            drop(held);
            Ok(())
        })
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let this = slf.get();
        this.allocator.check_open(slf.py())?;
        if this.closed() {
            return Err(crate::errors::use_after_free(slf.py(), "the registration is closed"));
        }
        Ok(slf)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        end_block(py, &self.allocator, is_failing(exception), 1, || self.close(py))
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { "closed" } else { "open" };
        format!("<vk_mem.RegisteredArray of {}, {state}>", bytes(self.nbytes() as u64))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Another thread that holds it is alive, and so is what it holds.
        let held = self.held.try_lock();
        held.as_deref().and_then(Option::as_ref).map_or(Ok(()), |held| held.visit(&visit))
    }
}

impl Drop for RegisteredArray {
    fn drop(&mut self) {
        if self.closed() || self.allocator.device.is_forked() {
            return;
        }
        // The device may use the pages still: they stay until the transfers end.
        let held = self.held.lock().take();
        *self.registration.held.lock() = held;
        let message = format!(
            "unclosed RegisteredArray of {}: it is released with its transfers",
            bytes(self.nbytes() as u64)
        );
        try_attach(|py| warn_unclosed(py, &message));
    }
}
