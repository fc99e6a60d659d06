//! Downloads: from a buffer into an array.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_vulkan::{HostSide, Job, Stopped, Target, TransferCall, TransferDirection, copy_bytes};

use super::copies::{Part, check_read};
use super::many::Listed;
use super::overlap::{mapped_range, meet};
use super::source::Source;
use super::state::{Kept, Transfer, TransfersState, Way, hold_contiguous};
use super::upload::{STEP, copy_imported, memory_range};
use super::watch::Watch;
use super::way::{Chosen, Place, choose, is_busy};
use crate::arguments::numbers::unsigned;
use crate::arguments::plain::PlainBuffer;
use crate::errors::invalid;
use crate::interpreter::detach;
use crate::lifetime::ownership::AllocatorState;
use crate::memory::host_copy;
use crate::package::NEW_ARRAY;

/// What to make of the bytes.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a, 'py> {
    pub dtype: Option<&'a Bound<'py, PyAny>>,
    pub shape: Option<&'a Bound<'py, PyAny>>,
    pub offset: Option<&'a Bound<'py, PyAny>>,
    pub size: Option<&'a Bound<'py, PyAny>>,
    pub out: Option<&'a Bound<'py, PyAny>>,
}

/// Memory that a download fills: contiguous and writable.
pub fn hold_target(array: &Bound<'_, PyAny>) -> PyResult<Box<PlainBuffer>> {
    let py = array.py();
    hold_contiguous(array, true).map_err(|why| {
        let text = format!(
            "out cannot be filled: {}; it must be writable, contiguous, and have the buffer protocol",
            why.value(py)
        );
        if why.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err(text)
        } else if why.is_instance_of::<PyBufferError>(py) || why.is_instance_of::<PyValueError>(py)
        {
            invalid(py, text)
        } else {
            why
        }
    })
}

/// A download that was checked, and that nothing was done of.
pub struct Prepared {
    array: Py<PyAny>,
    target: Kept,
    address: usize,
    is_new: bool,
    place: Place,
    chosen: Chosen,
}

impl Prepared {
    /// Checks everything, and makes the array.
    pub fn new(
        py: Python<'_>,
        state: &TransfersState,
        allocator: &Arc<AllocatorState>,
        part: &Part<'_>,
        wanted: &Wanted<'_, '_>,
        way: Option<Way>,
    ) -> PyResult<Self> {
        part.resource().check_live(py)?;
        let offset = host_copy::offset(wanted.offset)?;
        let size = wanted.size.map(|size| unsigned(size, "size")).transpose()?;
        let (array, is_new) = match wanted.out {
            Some(out) => {
                if wanted.dtype.is_some() || wanted.shape.is_some() {
                    return Err(invalid(py, "out= stands instead of dtype= and shape="));
                }
                (out.clone(), false)
            }
            None => {
                let whole = part.size();
                if offset > whole {
                    let what = part.resource().describe();
                    return Err(invalid(py, format!("offset {offset} is outside of {what}")));
                }
                let arguments = (wanted.dtype, wanted.shape, whole - offset, size);
                (NEW_ARRAY.get(py)?.call1(arguments)?, true)
            }
        };
        let buffer = hold_target(&array)?;
        let (address, length) = (buffer.address(), buffer.len() as u64);
        if let Some(size) = size
            && size != length
        {
            return Err(invalid(py, format!("size is {size}, and out has {length} bytes")));
        }
        let place = Place::of(py, allocator, part, offset, length)?;
        let host = Some((address, length as usize));
        let mut chosen = choose(py, state, &place, TransferDirection::Download, host, way)?;
        let filled = address..address + buffer.len();
        if chosen.way == Way::Ring
            && mapped_range(py, &place.resource).is_some_and(|it| meet(&it, &filled))
        {
            // The pieces of a ring would overwrite what later ones read.
            let why = "the array lies in the buffer's own memory";
            let waits = is_busy(py, &place.resource);
            chosen = Chosen { way: Way::Direct, registration: None, waits, why };
        }
        if length > 0 && chosen.way != Way::Direct {
            let Place { handle, offset, size, .. } = place;
            check_read(py, &place.resource, HostSide::Buffer { buffer: handle, offset, size })?;
        }
        let target = Kept::new(buffer);
        Ok(Self { array: array.unbind(), target, address, is_new, place, chosen })
    }

    /// Begins it.
    pub fn start(
        self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        batch: Option<u64>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        let Self { array, target, address, is_new, place, chosen } = self;
        let size = place.size;
        let watch = Watch::of(progress, size)?;
        if chosen.waits {
            state.wait_for_resource(py, allocator, &place.resource)?;
        }
        let transfer =
            chosen.transfer(py, state, &place.resource, size, TransferDirection::Download)?;
        *transfer.result.lock() = Some(array);
        *transfer.kept.lock() = Some(target);
        let job = &transfer.job;
        let mut done = Ok(());
        let kind = if is_new { Target::New } else { Target::InUse };
        match (chosen.way, &chosen.registration) {
            _ if size == 0 => state.engine.done_by_host(job, Ok(())),
            (Way::Import, Some(registration)) => {
                let (host, part) = (registration.part(address), place.buffer_part());
                detach(py, || copy_imported(state, allocator, job, batch, host, part, false));
            }
            (Way::Direct | Way::Host, _) | (Way::Import, None) => {
                let _pin = place.resource.enter_memory(py)?;
                let read = detach(py, || read(&place, address, kind, &watch));
                done = read_by_host(state, job, read);
            }
            (Way::Ring | Way::Blit, _) => {
                done = detach(py, || {
                    let call = TransferCall {
                        allocator: &allocator.device_allocator,
                        job,
                        batch,
                        part: place.buffer_part(),
                        pause: &|| watch.pause(),
                        between: &|so_far| watch.between(so_far),
                    };
                    // SAFETY: what keeps the target stays with the transfer until that has ended.
                    unsafe { state.engine.download(&call, address, kind) }
                });
            }
        }
        hand_out(py, state, transfer, watch, done)
    }
}

/// Notes what the host has read of a download, or why not. `Err` if the caller has interrupted it.
pub(super) fn read_by_host(
    state: &TransfersState,
    job: &Job,
    read: Result<(), Stopped>,
) -> Result<(), Stopped> {
    let (outcome, done) = match read {
        Ok(()) => (Ok(()), Ok(())),
        Err(Stopped::Failed(error)) => (Err(error), Ok(())),
        Err(stopped) => {
            let why = Error::InvalidArgument("the transfer was interrupted".into());
            (Err(why), Err(stopped))
        }
    };
    state.engine.done_by_host(job, outcome);
    done
}

/// Makes the object of a download that has begun. One that the host has read already lets its array go.
pub(super) fn hand_out(
    py: Python<'_>,
    state: &Arc<TransfersState>,
    transfer: Transfer,
    watch: Watch,
    done: Result<(), Stopped>,
) -> PyResult<Py<Transfer>> {
    state.count(&transfer);
    let transfer = transfer.into_object(py)?;
    if transfer.get().is_pinned.load(Ordering::Acquire) {
        state.add(transfer.clone_ref(py));
    } else {
        let kept = transfer.get().kept.lock().take();
        drop(kept);
    }
    if done.is_ok() {
        watch.finish(py, &transfer.get().job)?;
    }
    watch.result(py, done)?;
    Ok(transfer)
}

impl Listed for Prepared {
    const DIRECTION: TransferDirection = TransferDirection::Download;

    fn place(&self) -> &Place {
        &self.place
    }

    fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    fn address(&self) -> Option<usize> {
        Some(self.address)
    }

    fn target(&self) -> Target {
        if self.is_new { Target::New } else { Target::InUse }
    }

    fn give(self, transfer: &Transfer) -> Option<Source> {
        *transfer.result.lock() = Some(self.array);
        *transfer.kept.lock() = Some(self.target);
        None
    }

    fn start_alone(
        self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        batch: Option<u64>,
    ) -> PyResult<Py<Transfer>> {
        self.start(py, state, allocator, batch, None)
    }
}

/// Reads the buffer's own memory.
fn read(place: &Place, to: usize, kind: Target, watch: &Watch) -> Result<(), Stopped> {
    let Place { resource, offset, size, .. } = place;
    let (address, is_counted) = match resource.allocation().mapped {
        Some(address) => (address, false),
        None => (resource.map()?, true),
    };
    let copied = (|| {
        if resource.atom_size().is_some() {
            resource.refresh(*offset, *size)?;
        }
        let driver = resource.allocator.device_allocator.driver();
        driver.host_access(memory_range(resource, *offset, *size), false);
        let (whole, start) = (*size as usize, address.at(*offset).0.get());
        // Bytes that overlap are moved at once: a step would overwrite what the next one reads.
        let step = if start.abs_diff(to) < whole { whole } else { STEP };
        for from in (0..whole).step_by(step) {
            let length = step.min(whole - from);
            // SAFETY: the source is mapped, pinned and in range, the target held and as long.
            unsafe { copy_bytes(start + from, to + from, length, kind) };
            if whole > STEP && watch.between((from + length) as u64) {
                return Err(Stopped::Interrupted);
            }
        }
        Ok(())
    })();
    let unmapped = if is_counted { resource.unmap() } else { Ok(()) };
    copied.and(unmapped.map_err(Stopped::Failed))
}
