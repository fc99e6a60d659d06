//! `vk_mem.VirtualBlock`: the suballocators for resources other than Vulkan memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::suballocator::SlotKey;
use vkmem_engine::words::counted;
use vkmem_engine::{Error, FailedItem, VirtualBlock as Engine, VirtualMove, VirtualRequest};
use vkmem_trace::RecordedBlock;

use super::recording::session_of_keyword;
use super::statistics::Statistics;
use crate::arguments::numbers::{refuse_handle, unsigned};
use crate::arguments::sequences::{self, Integers};
use crate::arguments::text::Text;
use crate::arguments::{arrays, options};
use crate::debugging::read::margin_only;
use crate::errors::{IntoPyResult, invalid, out_of_host_memory, to_py_of_item, use_after_free};
use crate::interpreter::{detach, enter_thread, try_attach};
use crate::lifetime::extras::text_of;
use crate::package::{VIRTUAL_ALLOCATIONS, VIRTUAL_MOVE};
use crate::process::forks::Process;
use crate::process::host_memory;
use crate::process::links::Link;
use crate::process::number::Number;
use crate::recording::session::Session;
use crate::recording::space::BlockLock;

/// A range of numbers that is divided into allocations: bytes of a buffer, slots of a table, frames of a
/// sound (`VmaVirtualBlock`).
///
/// `size` is in the caller's unit. `algorithm` is "tlsf", "linear" or "buddy". A `debug` of `Debug(margin=n)` leaves n
/// units before and n behind each allocation that belong to none, with more before where alignment adds some: what
/// the caller finds changed there was written past an end. `record` is the path of a file, a `Ring` or a `Recording`
/// that has its calls; a file is complete at the end of a `with` block, or when the block is gone. By default it is
/// recorded if `VK_MEM_RECORD` says so; False is not recorded in any case. Can be used from many threads
/// at once. In the child of `os.fork()` every use of a block of the parent raises `InvalidArgumentError`, as
/// with a device: another thread may have been changing it during the fork.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct VirtualBlock {
    /// Never held while an exception is created: that runs Python code, which may come back here.
    block: Arc<BlockLock>,
    /// User data by handle; most handles have none.
    user_data: Mutex<HashMap<u64, Link<PyAny>>, rank::UserData>,
    process: Process,
    /// Whether allocations may be elsewhere than where they were made.
    has_moved: AtomicBool,
    /// Who records it, and whether that recording ends with it.
    recorded: Mutex<Option<(Arc<Session>, bool)>, rank::AttachedAllocators>,
}

/// A range of a `VirtualBlock`.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct VirtualAllocation {
    block: Link<VirtualBlock>,
    handle: u64,
    /// Where it was when somebody asked last.
    offset: AtomicU64,
    size: u64,
}

impl VirtualBlock {
    /// Returns the engine's block; raises in the child of a fork, where a lock that another thread held is
    /// never released.
    fn engine(&self, py: Python<'_>) -> PyResult<&BlockLock> {
        enter_thread();
        if self.process.is_this() {
            return Ok(&self.block);
        }
        let why = "the virtual block was made before os.fork(): make another in this process";
        Err(invalid(py, why))
    }

    /// Raises in the child of a fork.
    pub fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        self.engine(py).map(drop)
    }

    /// Returns the block as recordings know it.
    pub fn shared(&self) -> &Arc<BlockLock> {
        &self.block
    }

    /// Records the block from now on; what exists is told first. Ends what recorded it until now.
    pub fn attach(
        &self,
        py: Python<'_>,
        session: &Arc<Session>,
        is_own: bool,
        is_new: bool,
    ) -> PyResult<()> {
        let engine = self.engine(py)?;
        session.check_process(py)?;
        let texts = self.custom_data(py)?;
        let text_of = |key: SlotKey| texts.get(&key.to_bits()).map(String::as_str);
        self.end_recording(py);
        detach(py, || engine.lock().begin(session.recording(), is_new, &text_of));
        *self.recorded.lock() = Some((session.clone(), is_own));
        Ok(())
    }

    /// Ends the recording of the block, and the recording itself if it has no other use.
    fn end_recording(&self, py: Python<'_>) {
        let recorded = self.recorded.lock().take();
        if let Some((session, is_own)) = recorded {
            detach(py, || self.block.lock().end_in(session.recording()));
            if is_own {
                session.end(py);
            }
        }
    }

    /// Tells who records the block how custom data show themselves.
    fn note_data(&self, handle: u64, data: Option<&Bound<'_, PyAny>>) {
        if !self.block.lock().is_recorded() {
            return;
        }
        // Without the lock: it runs Python code.
        let text = data.map(text_of);
        self.block.lock().note_data(SlotKey::from_bits(handle), || text.as_deref());
    }

    /// Returns the user data as texts, by handle.
    fn custom_data(&self, py: Python<'_>) -> PyResult<HashMap<u64, String>> {
        let user_data = self.user_data.lock();
        let mut texts = HashMap::new();
        texts.try_reserve(user_data.len()).map_err(|_| PyMemoryError::new_err(()))?;
        texts.extend(user_data.iter().map(|(&handle, data)| (handle, text_of(data.bind(py)))));
        Ok(texts)
    }

    fn free_handle(&self, py: Python<'_>, handle: u64) -> PyResult<()> {
        let freed = self.engine(py)?.lock().free(SlotKey::from_bits(handle));
        freed.map_err(|error| stale(py, &error))?;
        let data = self.user_data.lock().remove(&handle);
        // Dropped without the lock: its finaliser may come back here.
        drop(data);
        Ok(())
    }
}

fn stale(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::UseAfterFree => use_after_free(py, "the virtual allocation was freed"),
        other => crate::errors::to_py(py, other),
    }
}

/// Frees the allocations of a failed call: in reverse order, as a linear block requires.
fn undo(block: &mut RecordedBlock, handles: &[[u8; 8]]) {
    for handle in handles.iter().rev() {
        // Code that found the arrays through the cycle collector may have freed one already.
        let _ = block.free(SlotKey::from_bits(u64::from_ne_bytes(*handle)));
    }
}

impl Drop for VirtualBlock {
    fn drop(&mut self) {
        if !self.process.is_this() {
            // What it shares with the parent stays as it is.
            std::mem::forget(self.recorded.get_mut().take());
        } else if self.recorded.get_mut().is_some() {
            try_attach(|py| self.end_recording(py));
        }
    }
}

/// Returns the handle of a `VirtualAllocation` of this block, or a given handle.
fn handle_of(slf: &Bound<'_, VirtualBlock>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let Ok(allocation) = value.cast::<VirtualAllocation>() else {
        return unsigned(value, "allocation");
    };
    if !allocation.get().block.is(slf) {
        return Err(invalid(slf.py(), "the virtual allocation is of another block"));
    }
    Ok(allocation.get().handle)
}

/// One alignment for all allocations, or one for each.
enum Alignments {
    All(u64),
    Each(Integers),
}

impl Alignments {
    fn get(&self, index: usize) -> u64 {
        match self {
            Self::All(alignment) => *alignment,
            Self::Each(alignments) => alignments.get(index),
        }
    }
}

#[pymethods]
impl VirtualBlock {
    #[new]
    #[pyo3(
        signature = (size, *, algorithm = Text("tlsf".into()), debug = None, record = None),
        text_signature = "(size, *, algorithm='tlsf', debug=None, record=None)"
    )]
    fn new(
        py: Python<'_>,
        size: &Bound<'_, PyAny>,
        algorithm: Text,
        debug: Option<&Bound<'_, PyAny>>,
        record: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        host_memory::check(py)?;
        let algorithm = options::algorithm(py, &algorithm.0)?;
        let margin = debug.map_or(Ok(0), |debug| margin_only(debug, "a VirtualBlock"))?;
        let size = unsigned(size, "size")?;
        let block = Engine::with_margin(size, algorithm, margin).or_raise(py)?;
        let session = session_of_keyword(py, record)?;
        let made = Self {
            block: Arc::new(Mutex::new(RecordedBlock::new(block))),
            user_data: Mutex::default(),
            process: Process::current(),
            has_moved: AtomicBool::new(false),
            recorded: Mutex::default(),
        };
        if let Some((session, is_own)) = session {
            made.attach(py, &session, is_own, true)?;
        }
        Ok(made)
    }

    /// Size in the caller's unit.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.engine(py)?.lock().size())
    }

    /// "tlsf", "linear" or "buddy".
    #[getter]
    fn algorithm(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.engine(py)?.lock().algorithm().name())
    }

    /// Units before and behind each allocation that belong to none; 0 without `debug`.
    #[getter]
    fn margin(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.engine(py)?.lock().margin())
    }

    /// Number of live allocations.
    #[getter]
    fn allocation_count(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.engine(py)?.lock().live().0)
    }

    /// Sum of the sizes of all live allocations, in the caller's unit.
    #[getter]
    fn allocated(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.engine(py)?.lock().live().1)
    }

    /// Allocates `size` units (`vmaVirtualAllocate`).
    ///
    /// `alignment` is any number, such as a vertex's 12 bytes; 0 and 1 require none. One that is not a power
    /// of two costs a division. `upper_address` allocates at the upper end of a linear block. `strategy` is
    /// one of the `STRATEGY` flags.
    ///
    /// Raises `OutOfDeviceMemoryError` if there is no room, `InvalidArgumentError`.
    #[pyo3(signature = (
        size, alignment = None, *, upper_address = false, strategy = None, user_data = None
    ))]
    fn allocate(
        slf: &Bound<'_, Self>,
        size: &Bound<'_, PyAny>,
        alignment: Option<&Bound<'_, PyAny>>,
        upper_address: bool,
        strategy: Option<&Bound<'_, PyAny>>,
        user_data: Option<Py<PyAny>>,
    ) -> PyResult<VirtualAllocation> {
        let request = VirtualRequest {
            size: unsigned(size, "size")?,
            alignment: alignment.map_or(Ok(1), |it| unsigned(it, "alignment"))?,
            upper: upper_address,
            strategy: options::strategy(strategy)?,
        };
        let this = slf.get();
        host_memory::check(slf.py())?;
        if user_data.is_some() && this.user_data.lock().try_reserve(1).is_err() {
            return Err(out_of_host_memory(slf.py()));
        }
        let made = this.engine(slf.py())?.lock().allocate(&request);
        let made = made.or_raise(slf.py())?;
        let handle = made.key.to_bits();
        if let Some(data) = user_data {
            this.note_data(handle, Some(data.bind(slf.py())));
            this.user_data.lock().insert(handle, Link::new(data));
        }
        Ok(VirtualAllocation::new(slf, handle, made.offset, made.size))
    }

    /// Allocates many ranges, all or none.
    ///
    /// `sizes` and `alignments` are sequences of integers or arrays of them; a contiguous array of unsigned
    /// 64-bit integers, such as NumPy's uint64, is read without an object for each. A single alignment
    /// applies to all. Returns `VirtualAllocations`, a tuple of handles and offsets, as memoryviews of
    /// unsigned 64-bit integers (format "Q"), which `numpy.asarray` takes without a copy.
    ///
    /// Raises what `allocate` raises; `item` of the error is the index of the range, counted from 0.
    #[pyo3(signature = (sizes, alignments = None, *, strategy = None))]
    fn allocate_many<'py>(
        &self,
        py: Python<'py>,
        sizes: &Bound<'py, PyAny>,
        alignments: Option<&Bound<'py, PyAny>>,
        strategy: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let engine = self.engine(py)?;
        let sizes = Integers::read(sizes, "sizes", "size")?;
        let alignments = match alignments {
            None => Alignments::All(1),
            // Arrays of numbers cannot be converted to a number; any other error is raised.
            Some(value) => {
                match refuse_handle(value, "alignments").and_then(|()| value.extract()) {
                    Ok(one) => Alignments::All(one),
                    Err(error) if error.is_instance_of::<PyTypeError>(py) => {
                        Alignments::Each(Integers::read(value, "alignments", "alignment")?)
                    }
                    Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
                        Alignments::All(unsigned(value, "alignments")?)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if let Alignments::Each(alignments) = &alignments
            && alignments.len() != sizes.len()
        {
            let given = counted(alignments.len(), "alignment");
            let wanted = counted(sizes.len(), "size");
            return Err(invalid(py, format!("{given} for {wanted}")));
        }
        let strategy = options::strategy(strategy)?;
        // Filled before any Python code can refer to these arrays.
        let two = arrays::pair(py, sizes.len(), |handles, offsets| {
            let fill = || {
                let mut block = engine.lock();
                block.reserve(sizes.len());
                let requests = (0..sizes.len()).map(|index| {
                    let (size, alignment) = (sizes.get(index), alignments.get(index));
                    VirtualRequest { size, alignment, upper: false, strategy }
                });
                let (mut count, mut places) = (0, handles.iter_mut().zip(offsets));
                let done = block.allocate_many(requests, |allocation| {
                    if let Some((handle, offset)) = places.next() {
                        *handle = allocation.key.to_bits().to_ne_bytes();
                        *offset = allocation.offset.to_ne_bytes();
                        count += 1;
                    }
                });
                done.map_err(|error| {
                    undo(&mut block, &handles[..count]);
                    FailedItem { index: count, error }
                })
            };
            detach(py, fill).map_err(|failed| to_py_of_item(py, &failed.error, failed.index))
        })?;
        // If the views cannot be created, the handles would be lost.
        let named = || VIRTUAL_ALLOCATIONS.get(py)?.call1(two.views()?);
        named().inspect_err(|_| undo(&mut engine.lock(), &two.first()))
    }

    /// Frees a `VirtualAllocation` or its handle (`vmaVirtualFree`).
    ///
    /// Raises `UseAfterFreeError` if it was freed before.
    fn free(slf: &Bound<'_, Self>, allocation: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().free_handle(slf.py(), handle_of(slf, allocation)?)
    }

    /// Frees many handles, all or none: an array of unsigned 64-bit integers, or a sequence.
    ///
    /// Raises `UseAfterFreeError` if one was freed before or occurs twice.
    fn free_many(&self, py: Python<'_>, handles: &Bound<'_, PyAny>) -> PyResult<()> {
        let engine = self.engine(py)?;
        // Read once, as another thread may change the array.
        let handles = sequences::integers(handles, "handles", "handle")?;
        let freed = detach(py, || {
            let mut block = engine.lock();
            block.free_many(handles.iter().copied().map(SlotKey::from_bits))
        });
        freed.map_err(|error| stale(py, &error))?;
        if self.user_data.lock().is_empty() {
            return Ok(());
        }
        for handle in handles {
            // Dropped without the lock: its finaliser may come back here.
            let data = self.user_data.lock().remove(&handle);
            drop(data);
        }
        Ok(())
    }

    /// Frees all allocations (`vmaClearVirtualBlock`).
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.engine(py)?.lock().clear();
        let dropped = std::mem::take(&mut *self.user_data.lock());
        drop(dropped);
        Ok(())
    }

    /// Returns the allocation of a handle (`vmaGetVirtualAllocationInfo`).
    ///
    /// Raises `UseAfterFreeError` if it was freed before.
    fn info(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<VirtualAllocation> {
        let handle = handle_of(slf, handle)?;
        let found = slf.get().engine(slf.py())?.lock().info(SlotKey::from_bits(handle));
        let found = found.map_err(|error| stale(slf.py(), &error))?;
        Ok(VirtualAllocation::new(slf, handle, found.offset, found.size))
    }

    /// Moves allocations down, so that free ranges become fewer and larger, and returns the moves: a list of
    /// `VirtualMove`.
    ///
    /// The block has its new layout at once; handles, sizes, alignments and user data stay. Copy the contents
    /// in the order of the list: a destination may overlap its own source (copy as `memmove` does), but no
    /// source of a later move. `algorithm` is one of
    ///
    /// - "fast": moves into free ranges that exist,
    /// - "balanced": also slides allocations down over free ranges of at least half their size,
    /// - "full" or "extensive": slides all together, so that nothing is free below the last allocation but
    ///   what alignments require.
    ///
    /// A buddy block joins free ranges of equal size, whichever is given.
    ///
    /// Raises `FeatureNotPresentError` for a linear block, whose order is the caller's; `InvalidArgumentError`.
    #[pyo3(signature = (*, algorithm = Text("balanced".into())), text_signature = "($self, *, algorithm='balanced')")]
    fn defragment<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        algorithm: Text,
    ) -> PyResult<Bound<'py, PyList>> {
        let this = slf.get();
        host_memory::check(py)?;
        let algorithm = options::defragmentation_algorithm(py, &algorithm.0)?;
        let engine = this.engine(py)?;
        let move_class = VIRTUAL_MOVE.get(py)?;
        // Before the first offset changes: other threads may read offsets.
        this.has_moved.store(true, Relaxed);
        let moves = detach(py, || engine.lock().defragment(algorithm)).or_raise(py)?;
        let list = PyList::empty(py);
        for it in moves {
            let VirtualMove { key, old_offset, new_offset, size } = it;
            let allocation = VirtualAllocation::new(slf, key.to_bits(), new_offset, size);
            let (old, new, size) = (Number(old_offset), Number(new_offset), Number(size));
            list.append(move_class.call1((allocation, old, new, size))?)?;
        }
        Ok(list)
    }

    /// Increases the size of the block; allocations keep their offsets.
    ///
    /// Raises `InvalidArgumentError` for a smaller size.
    fn grow(&self, py: Python<'_>, size: &Bound<'_, PyAny>) -> PyResult<()> {
        let size = unsigned(size, "size")?;
        let grown = self.engine(py)?.lock().grow(size);
        grown.or_raise(py)
    }

    /// Counts allocations and unused ranges (`vmaCalculateVirtualBlockStatistics`).
    fn statistics(&self, py: Python<'_>) -> PyResult<Statistics> {
        let engine = self.engine(py)?;
        Ok(Statistics::of_units(detach(py, || engine.lock().statistics())))
    }

    /// Returns all regions as JSON (`vmaBuildVirtualBlockStatsString`): a block of VMA's dump, with
    /// `TotalBytes`, `UnusedBytes`, `Allocations`, `UnusedRanges` and, if `detailed`, `Suballocations` with
    /// `Offset`, `Type`, `Size` and, for allocations with user data, `CustomData`: the letters and digits of
    /// a text, a number, or else the class and the `id()` of the object.
    #[pyo3(signature = (detailed = true))]
    fn build_stats_string(&self, py: Python<'_>, detailed: bool) -> PyResult<String> {
        let engine = self.engine(py)?;
        let texts = if detailed { self.custom_data(py)? } else { HashMap::new() };
        let text_of = |key: SlotKey| texts.get(&key.to_bits()).map(String::as_str);
        detach(py, || engine.lock().build_stats_string(detailed, &text_of)).or_raise(py)
    }

    /// Checks all bookkeeping. Raises `CorruptionError` with the first fault found.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine(py)?;
        let checked = detach(py, || engine.lock().validate());
        checked.map_err(|broken| crate::errors::corruption(py, &broken))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.clear(py)?;
        let is_own = self.recorded.lock().as_ref().is_some_and(|it| it.1);
        if is_own {
            self.end_recording(py);
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        if !self.process.is_this() {
            return "<vk_mem.VirtualBlock, from before os.fork()>".into();
        }
        let block = self.block.lock();
        let (name, size, (count, used)) = (block.algorithm().name(), block.size(), block.live());
        format!(
            "<vk_mem.VirtualBlock {name}, {used} of {size} in {}>",
            counted(count, "allocation")
        )
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.user_data.try_lock() {
            Some(data) => data.values().try_for_each(|data| visit.call(&**data)),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let dropped = std::mem::take(&mut *self.user_data.lock());
        drop(dropped);
    }
}

impl VirtualAllocation {
    fn new(block: &Bound<'_, VirtualBlock>, handle: u64, offset: u64, size: u64) -> Self {
        let block = Link::new(block.clone().unbind());
        Self { block, handle, offset: AtomicU64::new(offset), size }
    }

    /// Returns the offset, which only a defragmentation changes. That of a freed one is the last one known.
    fn offset_now(&self) -> u64 {
        let block = self.block.get();
        if block.has_moved.load(Relaxed)
            && block.process.is_this()
            && let Ok(found) = block.block.lock().info(SlotKey::from_bits(self.handle))
        {
            self.offset.store(found.offset, Relaxed);
        }
        self.offset.load(Relaxed)
    }
}

#[pymethods]
impl VirtualAllocation {
    /// Handle for `free`, `free_many` and `info`.
    #[getter]
    fn handle(&self) -> Number {
        Number(self.handle)
    }

    /// Offset in the block, in the caller's unit; changes when the block is defragmented.
    #[getter]
    fn offset(&self) -> Number {
        Number(self.offset_now())
    }

    /// Requested size, in the caller's unit.
    #[getter]
    fn size(&self) -> Number {
        Number(self.size)
    }

    /// The block that it is allocated from.
    #[getter]
    fn block(&self, py: Python<'_>) -> Py<VirtualBlock> {
        self.block.clone_ref(py)
    }

    /// Any Python object that the caller attaches to the allocation.
    #[getter]
    fn user_data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.block.get().user_data.lock().get(&self.handle).map(|data| data.clone_ref(py))
    }

    #[setter]
    fn set_user_data(&self, py: Python<'_>, data: Option<Py<PyAny>>) -> PyResult<()> {
        let block = self.block.get();
        let known = block.engine(py)?.lock().info(SlotKey::from_bits(self.handle));
        known.map_err(|error| stale(py, &error))?;
        block.note_data(self.handle, data.as_ref().map(|it| it.bind(py)));
        let mut all = block.user_data.lock();
        let before = match data {
            Some(data) => all.insert(self.handle, Link::new(data)),
            None => all.remove(&self.handle),
        };
        drop(all);
        drop(before);
        Ok(())
    }

    /// Frees the allocation. Does nothing if it was freed before.
    fn free(&self, py: Python<'_>) -> PyResult<()> {
        let block = self.block.get();
        if block.engine(py)?.lock().info(SlotKey::from_bits(self.handle)).is_err() {
            return Ok(());
        }
        block.free_handle(py, self.handle)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.free(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&*self.block)
    }

    fn __repr__(&self) -> String {
        format!("<vk_mem.VirtualAllocation of {} at {}>", self.size, self.offset_now())
    }
}
