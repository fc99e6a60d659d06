//! The types of transfers, and which of them are in flight; their calls are in the other files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Instant;

use pyo3::ffi;
use pyo3::prelude::*;
use vkmem_engine::AllocationId;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_vulkan::{Job, Progress, QueueChoice, Sharing, TransferDirection, TransferEngine};

use super::jobs::InFlight;
use super::watch::Watch;
use crate::arguments::plain::PlainBuffer;
use crate::errors::use_after_free;
use crate::interpreter::{detach, try_attach};
use crate::lifetime::host_buffer::HeldBuffer;
use crate::lifetime::ownership::{AllocatorState, Background, Resource, ResourceRef};
use crate::lifetime::pins::{Pinned, Pins};

/// How bytes get to where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The host reads or writes the buffer's own memory.
    Direct,
    /// Through staging memory.
    Ring,
    /// The device reads or writes the array's own pages.
    Import,
    /// The host copies texels, and the driver arranges them.
    Host,
    /// The device alone, from one part of an image to another.
    Blit,
}

impl Way {
    /// As Python names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ring => "ring",
            Self::Import => "import",
            Self::Host => "host",
            Self::Blit => "blit",
        }
    }

    /// Whether all is done when the call returns.
    pub fn is_by_host(self) -> bool {
        matches!(self, Self::Direct | Self::Host)
    }
}

/// Memory of a Python object that a transfer uses until it has ended.
pub struct Kept(Box<PlainBuffer>);

// SAFETY: the memory is held by the buffer protocol, which is not tied to a thread; the release attaches to
// the interpreter.
unsafe impl Send for Kept {}
// SAFETY: as above; shared access only reads the address and the length.
unsafe impl Sync for Kept {}

impl Kept {
    /// Takes a buffer that is held.
    pub fn new(buffer: Box<PlainBuffer>) -> Self {
        Self(buffer)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let buffer = std::mem::replace(&mut self.0, Box::new(PlainBuffer::none()));
        let mut buffer = Some(buffer);
        try_attach(|_| drop(buffer.take()));
        // Without an interpreter there is nobody left to release it for.
        std::mem::forget(buffer);
    }
}

/// A copy between an array and a buffer, from `Transfers.upload` or `Transfers.download`.
///
/// It goes on by itself; what goes wrong with it is told here, and not by a later call. `await` waits for
/// its result without blocking the event loop.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Transfer {
    pub(super) state: Arc<TransfersState>,
    pub(super) job: Arc<Job>,
    pub(super) resource: ResourceRef,
    /// It counts as a use of the resource.
    pub(super) is_pinned: AtomicBool,
    /// In bytes: its job may be that of others, too.
    pub(super) size: u64,
    pub(super) way: Way,
    pub(super) direction: TransferDirection,
    /// What a download fills.
    pub(super) result: Mutex<Option<Py<PyAny>>, rank::TransferObjects>,
    /// Memory that the device or a later call uses.
    pub(super) kept: Mutex<Option<Kept>, rank::TransferObjects>,
    /// Whose pages it uses.
    pub(super) registration: Option<Arc<Registration>>,
}

/// Pages of an array that the device can use.
pub struct Registration {
    /// Address of the first byte of the array.
    pub start: usize,
    pub end: usize,
    /// Where the first page starts.
    pub page: usize,
    pub buffer: ash::vk::Buffer,
    /// Which queues may use it.
    pub sharing: Sharing,
    pub id: AllocationId,
    /// Transfers that use it and have not ended.
    pub uses: AtomicU64,
    pub is_open: AtomicBool,
    pub held: Mutex<Option<HeldBuffer>, rank::RegisteredArray>,
}

/// What was done so far.
#[derive(Default)]
pub struct Counts {
    pub bytes_up: AtomicU64,
    pub bytes_down: AtomicU64,
    pub direct: AtomicU64,
    pub ring: AtomicU64,
    pub imported: AtomicU64,
    pub by_host: AtomicU64,
}

/// A batch that a thread has open.
struct Open {
    thread: ThreadId,
    number: u64,
    depth: u32,
}

/// When the transfers in flight are looked through.
#[derive(Debug)]
pub struct Looks {
    pub(super) calls: AtomicU64,
    /// When so many are in flight, all of them are looked at.
    pub(super) all_at: AtomicU64,
}

/// Few enough transfers to be looked at again and again.
pub(super) const FEW: u64 = 64;

impl Default for Looks {
    fn default() -> Self {
        Self { calls: AtomicU64::new(0), all_at: AtomicU64::new(FEW) }
    }
}

/// The shared half of a `Transfers`.
pub struct TransfersState {
    pub engine: TransferEngine,
    /// Who is inside a call; closed with it.
    pub pins: Pins,
    pub counts: Counts,
    pub registrations: Mutex<Vec<Arc<Registration>>, rank::Registrations>,
    pub(super) in_flight: Mutex<InFlight<Py<Transfer>>, rank::TransfersInFlight>,
    pub(super) looks: Looks,
    open: Mutex<Vec<Open>, rank::OpenBatches>,
}

impl TransfersState {
    /// With nothing in flight, entered with its allocator.
    pub fn new(allocator: &AllocatorState, ring_size: u64, queue: QueueChoice) -> Arc<Self> {
        let state = Arc::new(Self {
            engine: TransferEngine::on(ring_size, queue),
            pins: Pins::default(),
            counts: Counts::default(),
            registrations: Mutex::default(),
            in_flight: Mutex::default(),
            looks: Looks::default(),
            open: Mutex::default(),
        });
        allocator.background.lock().push(state.clone());
        state
    }

    /// Registers a call; an exception after close.
    pub fn enter<'a>(
        &'a self,
        py: Python<'a>,
        allocator: &'a AllocatorState,
    ) -> PyResult<(Pinned<'a>, Pinned<'a>)> {
        let inside = allocator.enter(py)?;
        let closed = || use_after_free(py, "the transfers are closed");
        Ok((inside, self.pins.pin(py).ok_or_else(closed)?))
    }

    /// Raises after close.
    pub fn check_open(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()> {
        allocator.check_open(py)?;
        if self.pins.is_closed() {
            return Err(use_after_free(py, "the transfers are closed"));
        }
        Ok(())
    }

    /// The batch that this thread has open.
    pub fn batch(&self) -> Option<u64> {
        let open = self.open.lock();
        if open.is_empty() {
            return None;
        }
        let me = std::thread::current().id();
        open.iter().find(|it| it.thread == me).map(|it| it.number)
    }

    /// Opens one, or goes one deeper.
    pub fn begin_batch(&self) {
        let me = std::thread::current().id();
        let mut open = self.open.lock();
        match open.iter_mut().find(|it| it.thread == me) {
            Some(it) => it.depth += 1,
            None => open.push(Open { thread: me, number: self.engine.open_batch(), depth: 1 }),
        }
    }

    /// The number of the batch that ends, if it is the outermost of this thread.
    pub fn end_batch(&self) -> Option<u64> {
        let me = std::thread::current().id();
        let mut open = self.open.lock();
        let index = open.iter().position(|it| it.thread == me)?;
        open[index].depth -= 1;
        (open[index].depth == 0).then(|| open.swap_remove(index).number)
    }

    /// The pages that an array of some bytes lies in, if they are registered.
    pub fn registration(&self, (start, size): (usize, usize)) -> Option<Arc<Registration>> {
        let all = self.registrations.lock();
        let holds =
            |it: &&Arc<Registration>| it.start <= start && start.saturating_add(size) <= it.end;
        all.iter().filter(|it| it.is_open.load(Ordering::Acquire)).find(holds).cloned()
    }

    /// Counts one that was begun.
    pub fn count(&self, transfer: &Transfer) {
        self.count_all(transfer.direction, transfer.way, transfer.size, 1);
    }

    /// Counts some that were begun, by the bytes of all.
    pub fn count_all(&self, direction: TransferDirection, way: Way, size: u64, number: u64) {
        let Counts { bytes_up, bytes_down, direct, ring, imported, by_host } = &self.counts;
        let bytes = match direction {
            TransferDirection::Upload => bytes_up,
            TransferDirection::Download => bytes_down,
        };
        let way = match way {
            Way::Direct => direct,
            Way::Ring => ring,
            Way::Import => imported,
            Way::Host => by_host,
            Way::Blit => return,
        };
        bytes.fetch_add(size, Ordering::Relaxed);
        way.fetch_add(number, Ordering::Relaxed);
    }

    /// Waits for all that is in flight of an allocator: what uses a buffer may be any of it.
    pub fn wait_for_resource(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        resource: &Resource,
    ) -> PyResult<()> {
        resource.check_live(py)?;
        for it in allocator.background() {
            it.settle(py, allocator, None)?;
        }
        Ok(())
    }
}

impl Background for TransfersState {
    fn retire(&self, py: Python<'_>, allocator: &AllocatorState) {
        self.poll_all(py, allocator);
        self.retire_ended(py);
    }

    fn uses(&self, resource: &Resource) -> bool {
        let is_it =
            |it: &Py<Transfer>| std::ptr::eq(&raw const **it.get().resource_ref(), resource);
        self.in_flight.lock().any(is_it)
    }

    fn is_busy(&self) -> bool {
        self.in_flight() > 0
    }

    fn settle(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        until: Option<Instant>,
    ) -> PyResult<bool> {
        self.wait_all(py, allocator, until)
    }

    fn end(&self, allocator: &AllocatorState) {
        let registrations = std::mem::take(&mut *self.registrations.lock());
        for it in registrations {
            it.end(allocator);
        }
        // SAFETY: nothing is in flight.
        unsafe { self.engine.release(&allocator.device_allocator) };
    }
}

impl Registration {
    /// Gives the pages back. Nothing happens the second time.
    pub fn end(&self, allocator: &AllocatorState) {
        if !self.is_open.swap(false, Ordering::AcqRel) {
            return;
        }
        let buffer = vkmem_vulkan::ResourceHandle::Buffer(self.buffer);
        // SAFETY: made by `register`, and no transfer uses it any more.
        drop(unsafe { allocator.device_allocator.destroy(buffer, Some(self.id)) });
        let held = self.held.lock().take();
        drop(held);
    }
}

impl Transfer {
    /// Which resource it uses.
    pub fn resource_ref(&self) -> &ResourceRef {
        &self.resource
    }

    /// The object of Python. The cycle collector tracks it only if it refers to another one, as it would look at
    /// thousands again and again.
    pub(super) fn into_object(self, py: Python<'_>) -> PyResult<Py<Self>> {
        let leads_on = self.result.lock().is_some();
        let made = Py::new(py, self)?;
        if !leads_on {
            // SAFETY: an object of a class with garbage collection, which CPython tracks when it is new.
            unsafe { ffi::PyObject_GC_UnTrack(made.as_ptr().cast()) };
        }
        Ok(made)
    }

    /// Whether it has ended, without a wait, and without copying a download out.
    pub(super) fn has_ended(&self, allocator: &AllocatorState) -> bool {
        match self.direction {
            TransferDirection::Upload => {
                self.state.engine.poll(&allocator.device_allocator, &self.job)
            }
            TransferDirection::Download => self.job.is_known_to_have_ended(),
        }
    }

    /// It has ended: the resource may end, and the host's memory is free.
    pub(super) fn let_go(&self, py: Python<'_>) {
        // Changed with the interpreter alone.
        if !self.is_pinned.load(Ordering::Relaxed) {
            return;
        }
        self.is_pinned.store(false, Ordering::Relaxed);
        self.resource.pins.remove(py);
        self.resource.touch(py);
        if let Some(registration) = &self.registration {
            registration.uses.fetch_sub(1, Ordering::AcqRel);
        }
        let kept = self.kept.lock().take();
        drop(kept);
    }

    /// Waits until it has ended or the time is up: whether it has.
    pub(super) fn wait_until(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        until: Option<Instant>,
    ) -> PyResult<bool> {
        if !self.job.is_known_to_have_ended() {
            let engine = &self.state.engine;
            let watch = Watch::quiet();
            let waited = detach(py, || {
                engine.wait(&allocator.device_allocator, &self.job, until, &|| watch.pause())
            });
            let ended = watch.result(py, waited)?;
            if !ended {
                return Ok(false);
            }
        }
        self.let_go(py);
        Ok(true)
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Option<vkmem_engine::Error>> {
        match self.job.progress() {
            Progress::Ended(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether memory is contiguous and where: what an exporter said.
pub fn hold_contiguous(object: &Bound<'_, PyAny>, writable: bool) -> PyResult<Box<PlainBuffer>> {
    let mut buffer = Box::new(PlainBuffer::none());
    buffer.hold(object, writable)?;
    Ok(buffer)
}
