//! `vk_mem._vk_mem._VirtualBlocks`: what divides the buffers of a `BufferHeap`.

use parking_lot::Mutex;
use pyo3::prelude::*;
use vkmem_engine::VirtualBlocks as Engine;
use vkmem_engine::suballocator::RegionKey;

use crate::errors::{IntoPyResult, corruption};
use crate::numbers::unsigned;
use crate::virtual_block::algorithm;

/// Many virtual blocks as one. Private: the heap has a lock of its own around every use, and looks
/// for forks.
#[pyclass(name = "_VirtualBlocks", module = "vk_mem._vk_mem", frozen)]
pub struct VirtualBlocks {
    blocks: Mutex<Engine>,
}

#[pymethods]
impl VirtualBlocks {
    #[new]
    fn new(py: Python<'_>, algorithm: &str, alignment: u64) -> PyResult<Self> {
        let algorithm = self::algorithm(py, algorithm)?;
        let blocks = Mutex::new(Engine::new(algorithm, alignment));
        Ok(Self { blocks })
    }

    /// What all allocations add up to.
    #[getter]
    fn allocated(&self) -> u64 {
        self.blocks.lock().allocated()
    }

    /// Takes in a block of `size` units; gives its number.
    fn add(&self, py: Python<'_>, size: &Bound<'_, PyAny>) -> PyResult<u32> {
        let size = unsigned(size, "size")?;
        let added = self.blocks.lock().add(size);
        added.or_raise(py)
    }

    /// Removes a block, with whatever lives in it.
    fn remove(&self, py: Python<'_>, block: u32) -> PyResult<()> {
        let removed = self.blocks.lock().remove(block);
        removed.or_raise(py)
    }

    /// Finds a place: the block, a handle and the offset there. None if there is no room.
    fn allocate(
        &self,
        py: Python<'_>,
        size: &Bound<'_, PyAny>,
        alignment: &Bound<'_, PyAny>,
    ) -> PyResult<Option<(u32, u64, u64)>> {
        let (size, alignment) = (unsigned(size, "size")?, unsigned(alignment, "alignment")?);
        let found = self.blocks.lock().allocate(size, alignment);
        let found = found.or_raise(py)?;
        Ok(found.map(|(block, made)| (block, made.key.to_bits(), made.offset)))
    }

    /// Frees one; whether its block is empty now.
    fn free(&self, py: Python<'_>, block: u32, handle: u64) -> PyResult<bool> {
        let freed = self.blocks.lock().free(block, RegionKey::from_bits(handle));
        freed.or_raise(py)
    }

    /// Walks all bookkeeping. Raises `CorruptionError` with what is broken.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        let checked = self.blocks.lock().validate();
        checked.map_err(|broken| corruption(py, &broken))
    }
}
