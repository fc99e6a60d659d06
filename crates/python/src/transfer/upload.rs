//! Uploads: from an array into a buffer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_engine::{HostWriter, MemoryRange};
use vkmem_vulkan::{BufferPart, HostSide, Job, Stopped, Target, TransferCall, TransferDirection};

use super::copies::{Part, check_written};
use super::many::Listed;
use super::overlap::mapped_range;
use super::source::{Reader, Source};
use super::state::{Registration, Transfer, TransfersState, Way};
use super::watch::Watch;
use super::way::{Chosen, Place, choose};
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, Resource};

/// Bytes that the host copies at once between two calls of `progress=`.
pub const STEP: usize = 128 << 20;

/// An upload that was checked, and that nothing was done of.
pub struct Prepared {
    pub(super) source: Source,
    pub(super) place: Place,
    pub(super) chosen: Chosen,
}

impl Prepared {
    /// Checks everything.
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    pub fn new(
        py: Python<'_>,
        state: &TransfersState,
        allocator: &Arc<AllocatorState>,
        source: Source,
        part: &Part<'_>,
        offset: u64,
        wanted: Option<Way>,
    ) -> PyResult<Self> {
        let size = source.size();
        let place = Place::of(py, allocator, part, offset, size as u64)?;
        let host = source.address().map(|address| (address, size));
        let chosen = choose(py, state, &place, TransferDirection::Upload, host, wanted)?;
        if size > 0 && chosen.way != Way::Direct {
            let Place { handle, offset, size, .. } = place;
            let written = HostSide::Buffer { buffer: handle, offset, size };
            check_written(py, &place.resource, written)?;
        }
        let source = match chosen.way {
            Way::Ring => source.with_grain(py, state.engine.largest_grain())?,
            Way::Direct | Way::Import | Way::Host | Way::Blit => source,
        };
        Ok(Self { source, place, chosen })
    }

    /// Begins it. Where the caller interrupts it, what was submitted goes on by itself.
    pub fn start(
        self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        batch: Option<u64>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Transfer>> {
        let Self { source, place, chosen } = self;
        let size = place.size;
        let watch = Watch::of(progress, size)?;
        if chosen.waits {
            state.wait_for_resource(py, allocator, &place.resource)?;
        }
        let source = match chosen.way {
            Way::Import => source,
            _ => source.apart_from(py, mapped_range(py, &place.resource))?,
        };
        let transfer =
            chosen.transfer(py, state, &place.resource, size, TransferDirection::Upload)?;
        let mut done = Ok(());
        if size == 0 {
            state.engine.done_by_host(&transfer.job, Ok(()));
        } else {
            match (chosen.way, &chosen.registration) {
                (Way::Import, Some(registration)) => {
                    let address = source.address().unwrap_or_default();
                    *transfer.kept.lock() = source.into_kept();
                    let host = registration.part(address);
                    let (part, job) = (place.buffer_part(), &transfer.job);
                    detach(py, || copy_imported(state, allocator, job, batch, host, part, true));
                }
                (Way::Direct | Way::Host, _) | (Way::Import, None) => {
                    let _pin = place.resource.enter_memory(py)?;
                    let reader = source.reader();
                    let job = &transfer.job;
                    let written = detach(py, || write(&place, &reader, &watch));
                    reader.raised()?;
                    match written {
                        Ok(()) => state.engine.done_by_host(job, Ok(())),
                        Err(Stopped::Failed(error)) => state.engine.done_by_host(job, Err(error)),
                        Err(Stopped::Interrupted) => done = Err(Stopped::Interrupted),
                    }
                    if done.is_err() {
                        return Err(watch.result(py, done).err().unwrap_or_else(|| {
                            crate::errors::invalid(py, "the upload was interrupted")
                        }));
                    }
                }
                (Way::Ring | Way::Blit, _) => {
                    let reader = source.reader();
                    let (grain, is_serial) = (source.grain(), reader.is_serial());
                    done = detach(py, || {
                        let call = TransferCall {
                            allocator: &allocator.device_allocator,
                            job: &transfer.job,
                            batch,
                            part: place.buffer_part(),
                            pause: &|| watch.pause(),
                            between: &|so_far| watch.between(so_far),
                        };
                        let fill = |from: u64, length: usize, to: usize| {
                            // SAFETY: the engine asks for parts of the source, which is held, and for
                            // memory of its ring.
                            unsafe { reader.fill(from as usize, length, to) }
                        };
                        state.engine.upload(&call, &fill, grain, is_serial)
                    });
                    let raised = reader.raised();
                    if raised.is_err() || done.is_err() {
                        // What was submitted of it still runs.
                        state.count(&transfer);
                        state.add(transfer.into_object(py)?);
                        raised?;
                        watch.result(py, done)?;
                        return Err(crate::errors::invalid(py, "the upload was interrupted"));
                    }
                }
            }
        }
        state.count(&transfer);
        let is_pinned = transfer.is_pinned.load(Ordering::Relaxed);
        let transfer = transfer.into_object(py)?;
        if is_pinned {
            state.add(transfer.clone_ref(py));
        }
        watch.finish(py, &transfer.get().job)?;
        Ok(transfer)
    }
}

impl Listed for Prepared {
    const DIRECTION: TransferDirection = TransferDirection::Upload;

    fn place(&self) -> &Place {
        &self.place
    }

    fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    fn address(&self) -> Option<usize> {
        self.source.address()
    }

    fn target(&self) -> Target {
        Target::InUse
    }

    fn give(self, _: &Transfer) -> Option<Source> {
        Some(self.source)
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

impl Registration {
    /// An address of the array, as a place in the buffer of its pages.
    pub fn part(&self, address: usize) -> BufferPart {
        let offset = (address - self.page) as u64;
        BufferPart { buffer: self.buffer, offset, is_shared: true, sharing: self.sharing }
    }
}

/// Submits a copy between pages of an array and a buffer, alone or with the others of a batch.
pub fn copy_imported(
    state: &TransfersState,
    allocator: &AllocatorState,
    job: &Arc<Job>,
    batch: Option<u64>,
    host: BufferPart,
    part: BufferPart,
    writes: bool,
) {
    let on = &allocator.device_allocator;
    match batch {
        Some(batch) => state.engine.copy_whole(on, job, batch, host, part, writes),
        None => {
            let batch = state.engine.open_batch();
            state.engine.copy_whole(on, job, batch, host, part, writes);
            state.engine.close_batch(on, batch);
        }
    }
}

/// The memory of a part of a resource, for checks of simulated devices.
pub fn memory_range(resource: &Resource, offset: u64, size: u64) -> MemoryRange {
    let allocation = resource.allocation();
    MemoryRange { memory: allocation.memory, offset: allocation.offset + offset, size }
}

/// Writes to the buffer's own memory.
fn write(place: &Place, reader: &Reader<'_>, watch: &Watch) -> Result<(), Stopped> {
    let Place { resource, offset, size, .. } = place;
    let (address, is_counted) = match resource.allocation().mapped {
        Some(address) => (address, false),
        None => (resource.map()?, true),
    };
    let written = (|| {
        let driver = resource.allocator.device_allocator.driver();
        driver.host_access(memory_range(resource, *offset, *size), true);
        let writer = resource.begin_write(*offset, *size, HostWriter::Copy)?;
        let (whole, start) = (*size as usize, address.at(*offset).0.get());
        let mut filled = Ok(());
        for from in (0..whole).step_by(STEP) {
            let length = STEP.min(whole - from);
            // SAFETY: the source is held, the target mapped, pinned by the caller and in range.
            filled = unsafe { reader.fill(from, length, start + from) };
            if filled.is_ok() && whole > STEP && watch.between((from + length) as u64) {
                filled = Err(Stopped::Interrupted);
            }
            if filled.is_err() {
                break;
            }
        }
        let flushed = writer.map_or(Ok(()), |writer| resource.end_write(writer, *offset, *size));
        filled.and(flushed.map_err(Stopped::Failed))
    })();
    let unmapped = if is_counted { resource.unmap() } else { Ok(()) };
    written.and(unmapped.map_err(Stopped::Failed))
}
