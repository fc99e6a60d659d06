//! `vk_mem._vk_mem._VirtualBlocks`: divides the buffers of a `BufferHeap`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::suballocator::SlotKey;
use vkmem_trace::{RecordedBlocks as Engine, Recording, SpaceInfo};

use crate::arguments::numbers::unsigned;
use crate::arguments::options::algorithm;
use crate::arguments::text::Text;
use crate::errors::{IntoPyResult, corruption};
use crate::process::forks::Process;
use crate::process::number::Number;
use crate::recording::space::RecordedSpace;

/// Identifies a block: its number, which is reused, and a serial number.
#[derive(Clone, Copy, PartialEq)]
struct BlockId {
    number: u32,
    serial: u64,
}

/// The place of a range.
#[derive(Clone, Copy)]
struct Place {
    block: BlockId,
    key: SlotKey,
    offset: u64,
}

struct Blocks {
    engine: Engine,
    /// The serial number of the block with each number; `None` if there is no such block.
    serials: Vec<Option<u64>>,
    next_serial: u64,
    /// Ranges whose owner was dropped without freeing them.
    dropped: Vec<Place>,
}

impl Blocks {
    fn is_there(&self, block: BlockId) -> bool {
        self.serials.get(block.number as usize) == Some(&Some(block.serial))
    }
}

/// The blocks of one heap.
type Shared = Mutex<Blocks, rank::VirtualBlock>;

impl RecordedSpace for Shared {
    fn begin(&self, recording: &Recording, allocator: u16, is_new: bool) {
        self.lock().engine.begin(recording, allocator, is_new);
    }

    fn end(&self) {
        self.lock().engine.end();
    }
}

/// Many virtual blocks as one. Private: the heap locks its own lock around every use, and checks for forks.
#[pyclass(name = "_VirtualBlocks", module = "vk_mem._vk_mem", frozen)]
pub struct VirtualBlocks {
    blocks: Arc<Shared>,
    process: Process,
}

impl Drop for VirtualBlocks {
    fn drop(&mut self) {
        // Ranges that live longer are of no heap any more. In the child of a fork the lock may be held for ever.
        if self.process.is_this() {
            self.blocks.end();
        }
    }
}

/// A range, owned by this object. Python may be interrupted between any two calls: a range that is dropped
/// without having been freed is kept for `take_dropped`.
#[pyclass(name = "_Range", module = "vk_mem._vk_mem", frozen)]
pub struct Range {
    blocks: Arc<Shared>,
    place: Place,
    freed: AtomicBool,
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.freed.load(Ordering::Relaxed) {
            return;
        }
        let mut blocks = self.blocks.lock();
        // Without host memory for the entry the range is lost, rather than aborting the process.
        if blocks.is_there(self.place.block) && blocks.dropped.try_reserve(1).is_ok() {
            blocks.dropped.push(self.place);
        }
    }
}

#[pymethods]
impl Range {
    /// Number of its block.
    #[getter]
    fn block(&self) -> u32 {
        self.place.block.number
    }

    /// Offset in the block.
    #[getter]
    fn offset(&self) -> Number {
        Number(self.place.offset)
    }
}

impl VirtualBlocks {
    /// Returns what is recorded with the allocator of its heap.
    pub fn recorded(&self) -> Arc<dyn RecordedSpace> {
        self.blocks.clone()
    }

    fn range(&self, place: Place) -> Range {
        Range { blocks: Arc::clone(&self.blocks), place, freed: AtomicBool::new(false) }
    }
}

#[pymethods]
impl VirtualBlocks {
    #[new]
    #[pyo3(signature = (algorithm, alignment, margin = 0))]
    fn new(py: Python<'_>, algorithm: Text, alignment: u64, margin: u64) -> PyResult<Self> {
        let algorithm = self::algorithm(py, &algorithm.0)?;
        let engine = Engine::new(SpaceInfo { size: None, algorithm, alignment, margin });
        let blocks = Blocks { engine, serials: Vec::new(), next_serial: 0, dropped: Vec::new() };
        Ok(Self { blocks: Arc::new(Mutex::new(blocks)), process: Process::current() })
    }

    /// Sum of the sizes of all allocations.
    #[getter]
    fn allocated(&self) -> u64 {
        self.blocks.lock().engine.allocated()
    }

    /// Adds a block of `size` units; returns its number.
    fn add(&self, py: Python<'_>, size: &Bound<'_, PyAny>) -> PyResult<u32> {
        let size = unsigned(size, "size")?;
        let added = {
            let mut blocks = self.blocks.lock();
            let added = blocks.engine.add(size);
            if let Ok(number) = added {
                let serial = blocks.next_serial;
                blocks.next_serial += 1;
                if blocks.serials.len() <= number as usize {
                    blocks.serials.resize(number as usize + 1, None);
                }
                blocks.serials[number as usize] = Some(serial);
            }
            added
        };
        added.or_raise(py)
    }

    /// Removes a block with all its ranges.
    fn remove(&self, py: Python<'_>, block: u32) -> PyResult<()> {
        let removed = {
            let mut blocks = self.blocks.lock();
            if let Some(serial) = blocks.serials.get_mut(block as usize) {
                *serial = None;
            }
            blocks.engine.remove(block)
        };
        removed.or_raise(py)
    }

    /// Allocates a range; None if there is no room.
    fn allocate(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyAny>,
        alignment: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Range>> {
        let (size, alignment) = (unsigned(size, "size")?, unsigned(alignment, "alignment")?);
        let found = {
            let mut blocks = self.blocks.lock();
            let found = blocks.engine.allocate(size, alignment);
            found.map(|found| {
                found.and_then(|(number, made)| {
                    let serial = blocks.serials[number as usize]?;
                    let block = BlockId { number, serial };
                    Some(Place { block, key: made.key, offset: made.offset })
                })
            })
        };
        Ok(found.or_raise(py)?.map(|place| self.range(place)))
    }

    /// Frees a range; returns whether its block is empty now, or None if the range was freed or removed
    /// before.
    fn free(&self, py: Python<'_>, range: &Range) -> PyResult<Option<bool>> {
        let freed = {
            let mut blocks = self.blocks.lock();
            let ours = Arc::ptr_eq(&self.blocks, &range.blocks);
            if !ours || range.freed.swap(true, Ordering::Relaxed) {
                return Ok(None);
            }
            if !blocks.is_there(range.place.block) {
                return Ok(None);
            }
            blocks.engine.free(range.place.block.number, range.place.key)
        };
        freed.or_raise(py).map(Some)
    }

    /// Removes and returns the ranges whose owners were dropped without freeing them.
    fn take_dropped(&self) -> Vec<Range> {
        let dropped = std::mem::take(&mut self.blocks.lock().dropped);
        dropped.into_iter().map(|place| self.range(place)).collect()
    }

    /// Checks all bookkeeping. Raises `CorruptionError` with the first fault found.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        let checked = self.blocks.lock().engine.validate();
        checked.map_err(|broken| corruption(py, &broken))
    }
}
