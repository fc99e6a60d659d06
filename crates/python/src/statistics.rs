//! Counts of blocks, allocations and unused ranges, and budgets.

use pyo3::prelude::*;
use vkmem_engine as engine;

/// What some blocks hold.
///
/// `block_count` and `block_bytes` are the `VkDeviceMemory` objects (or the virtual block) and their
/// bytes, `allocation_count` and `allocation_bytes` what lives in them, `unused_range_count` the gaps.
/// `allocation_size_min`, `allocation_size_max`, `unused_range_size_min` and `unused_range_size_max` are
/// the smallest and the largest of these, None where there are none. All sizes are in bytes, of a virtual
/// block in its own unit, and as requested: what alignment adds counts neither as used nor as a range.
#[pyclass(module = "vk_mem", frozen, get_all, eq)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    block_count: u64,
    block_bytes: u64,
    allocation_count: u64,
    allocation_bytes: u64,
    unused_range_count: u64,
    allocation_size_min: Option<u64>,
    allocation_size_max: Option<u64>,
    unused_range_size_min: Option<u64>,
    unused_range_size_max: Option<u64>,
}

impl From<engine::Statistics> for Statistics {
    fn from(it: engine::Statistics) -> Self {
        let allocated = |size| (it.allocation_count > 0).then_some(size);
        let unused = |size| (it.unused_range_count > 0).then_some(size);
        Self {
            block_count: it.block_count,
            block_bytes: it.block_bytes,
            allocation_count: it.allocation_count,
            allocation_bytes: it.allocation_bytes,
            unused_range_count: it.unused_range_count,
            allocation_size_min: allocated(it.allocation_size_min),
            allocation_size_max: allocated(it.allocation_size_max),
            unused_range_size_min: unused(it.unused_range_size_min),
            unused_range_size_max: unused(it.unused_range_size_max),
        }
    }
}

#[pymethods]
impl Statistics {
    fn __repr__(&self) -> String {
        format!(
            "Statistics(block_count={}, block_bytes={}, allocation_count={}, \
             allocation_bytes={}, unused_range_count={})",
            self.block_count,
            self.block_bytes,
            self.allocation_count,
            self.allocation_bytes,
            self.unused_range_count
        )
    }
}

/// Statistics by memory type and by heap (`VmaTotalStatistics`).
///
/// `memory_types` and `memory_heaps` are lists with a `Statistics` for each, by index, custom pools
/// included; `total` is all of them.
#[pyclass(module = "vk_mem", frozen, get_all)]
pub struct TotalStatistics {
    memory_types: Vec<Statistics>,
    memory_heaps: Vec<Statistics>,
    total: Statistics,
}

impl TotalStatistics {
    /// Walks everything.
    pub fn of(allocator: &engine::Allocator) -> Self {
        let info = allocator.device().info();
        let types: Vec<engine::Statistics> =
            (0..info.types.len() as u32).map(|it| allocator.statistics_of_type(it)).collect();
        let sum = |wanted: &dyn Fn(u32) -> bool| {
            let mut sum = engine::Statistics::default();
            let heaps = info.types.iter().map(|it| it.heap_index);
            heaps.zip(&types).filter(|(heap, _)| wanted(*heap)).for_each(|(_, it)| sum.add(it));
            Statistics::from(sum)
        };
        let heaps = (0..info.heaps.len() as u32).map(|heap| sum(&|it| it == heap));
        Self {
            memory_heaps: heaps.collect(),
            total: sum(&|_| true),
            memory_types: types.iter().copied().map(Statistics::from).collect(),
        }
    }
}

#[pymethods]
impl TotalStatistics {
    fn __repr__(&self) -> String {
        format!("TotalStatistics(total={})", self.total.__repr__())
    }
}

/// Usage and budget of one heap (`VmaBudget`).
///
/// `block_count` and `block_bytes` are the `VkDeviceMemory` objects that this allocator holds of the heap
/// and their bytes, `allocation_count` and `allocation_bytes` what lives in them. `usage` and `budget` are
/// bytes: what the whole process has in use and may have, as the driver says
/// (`VK_EXT_memory_budget`); without that extension `block_bytes`, and 80 % of the heap or of its limit in
/// `heap_size_limits`. No field is None.
#[pyclass(module = "vk_mem", frozen, get_all, eq)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeapBudget {
    block_count: u32,
    block_bytes: u64,
    allocation_count: u64,
    allocation_bytes: u64,
    usage: u64,
    budget: u64,
}

impl From<engine::HeapBudget> for HeapBudget {
    fn from(it: engine::HeapBudget) -> Self {
        Self {
            block_count: it.block_count,
            block_bytes: it.block_bytes,
            allocation_count: it.allocation_count,
            allocation_bytes: it.allocation_bytes,
            usage: it.usage,
            budget: it.budget,
        }
    }
}

#[pymethods]
impl HeapBudget {
    fn __repr__(&self) -> String {
        format!(
            "HeapBudget(usage={}, budget={}, block_count={}, block_bytes={}, \
             allocation_count={}, allocation_bytes={})",
            self.usage,
            self.budget,
            self.block_count,
            self.block_bytes,
            self.allocation_count,
            self.allocation_bytes
        )
    }
}
