//! Counts of blocks, allocations and unused ranges, and budgets.

use pyo3::prelude::*;
use vkmem_engine as engine;
use vkmem_engine::PoolKey;

use crate::lifetime::ownership::AllocatorState;
use crate::package::{self, Name};

/// Has `vk_mem.observe.tables` put an object into words.
fn table(object: Bound<'_, PyAny>, function: &Name) -> PyResult<String> {
    function.get(object.py())?.call1((object,))?.extract()
}

/// What some blocks hold. Sizes are bytes; of a `VirtualBlock`, its own unit. Printed, it is a table.
#[pyclass(module = "vk_mem", frozen, eq)]
#[derive(Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Memory objects.
    #[pyo3(get)]
    block_count: u64,
    /// Bytes of them.
    #[pyo3(get)]
    block_bytes: u64,
    /// Live allocations.
    #[pyo3(get)]
    allocation_count: u64,
    /// Bytes of them, as requested.
    #[pyo3(get)]
    allocation_bytes: u64,
    /// Free ranges of blocks.
    #[pyo3(get)]
    unused_range_count: u64,
    /// Bytes of them. Less than the blocks leave beside the allocations where ends were rounded to an
    /// alignment.
    #[pyo3(get)]
    unused_range_bytes: u64,
    /// None without allocations.
    #[pyo3(get)]
    allocation_size_min: Option<u64>,
    /// None without allocations.
    #[pyo3(get)]
    allocation_size_max: Option<u64>,
    /// None without unused ranges.
    #[pyo3(get)]
    unused_range_size_min: Option<u64>,
    /// None without unused ranges.
    #[pyo3(get)]
    unused_range_size_max: Option<u64>,
    /// 1 - largest unused range / all unused bytes, over all blocks that are counted here: 0 while what
    /// is unused is one piece, or nothing is; close to 1 when it is scattered, so that a large request
    /// needs a new block although there is room in sum. A second empty block raises it as well.
    #[pyo3(get)]
    fragmentation: f64,
    /// Whether sizes are bytes.
    #[pyo3(get)]
    _in_bytes: bool,
}

impl Statistics {
    /// In the unit of a virtual block.
    pub fn of_units(it: engine::Statistics) -> Self {
        Self { _in_bytes: false, ..it.into() }
    }
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
            unused_range_bytes: it.unused_range_bytes,
            allocation_size_min: allocated(it.allocation_size_min),
            allocation_size_max: allocated(it.allocation_size_max),
            unused_range_size_min: unused(it.unused_range_size_min),
            unused_range_size_max: unused(it.unused_range_size_max),
            fragmentation: it.fragmentation(),
            _in_bytes: true,
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

    fn __str__(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::STATISTICS_TEXT)
    }

    fn _repr_html_(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::STATISTICS_HTML)
    }
}

/// What a custom pool holds.
#[pyclass(module = "vk_mem", frozen)]
#[derive(Clone)]
pub struct PoolStatistics {
    /// As given to `create_pool`; None if it has none.
    #[pyo3(get)]
    name: Option<String>,
    /// Index into the device's memory types.
    #[pyo3(get)]
    memory_type_index: u32,
    /// The figures.
    #[pyo3(get)]
    statistics: Statistics,
}

#[pymethods]
impl PoolStatistics {
    fn __repr__(&self) -> String {
        let quoted = |name: &String| format!("'{}'", name.escape_debug());
        let name = self.name.as_ref().map_or("None".into(), quoted);
        format!(
            "PoolStatistics(name={name}, memory_type_index={}, statistics={})",
            self.memory_type_index,
            self.statistics.__repr__()
        )
    }

    fn __str__(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::POOL_STATISTICS_TEXT)
    }

    fn _repr_html_(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::POOL_STATISTICS_HTML)
    }
}

/// Bytes of each heap, and heap and property flags of each memory type.
type Layout = (Vec<u64>, Vec<(u32, u32)>);

/// Statistics by memory type, heap and custom pool. Printed, it is a table.
#[pyclass(module = "vk_mem", frozen)]
pub struct TotalStatistics {
    /// Of each memory type, its custom pools included.
    #[pyo3(get)]
    memory_types: Vec<Statistics>,
    /// Of each heap.
    #[pyo3(get)]
    memory_heaps: Vec<Statistics>,
    /// Of each custom pool, in the order of memory types.
    #[pyo3(get)]
    pools: Vec<PoolStatistics>,
    /// Of everything.
    #[pyo3(get)]
    total: Statistics,
    #[pyo3(get)]
    _layout: Layout,
}

impl TotalStatistics {
    /// Walks everything, each pool once.
    pub fn of(state: &AllocatorState) -> Result<Self, engine::Error> {
        let allocator = state.engine();
        let info = allocator.device().info();
        let mut counted = allocator.statistics_of_pools()?;
        counted.sort_by_key(|it| it.memory_type_index);
        let mut types = vec![engine::Statistics::default(); info.types.len()];
        for pool in &counted {
            types[pool.memory_type_index as usize].add(&pool.statistics);
        }
        let names = state.pool_names.lock().clone();
        let pools = counted.iter().filter_map(|it| match it.pool_key {
            PoolKey::Default(_) => None,
            PoolKey::Custom(id) => Some(PoolStatistics {
                name: names.get(&id).map(|name| name.to_string()),
                memory_type_index: it.memory_type_index,
                statistics: it.statistics.into(),
            }),
        });
        let layout = (
            info.heaps.iter().map(|it| it.size).collect(),
            info.types.iter().map(|it| (it.heap_index, it.flags.bits())).collect(),
        );
        let sum = |wanted: &dyn Fn(u32) -> bool| {
            let mut sum = engine::Statistics::default();
            let heaps = info.types.iter().map(|it| it.heap_index);
            heaps.zip(&types).filter(|(heap, _)| wanted(*heap)).for_each(|(_, it)| sum.add(it));
            Statistics::from(sum)
        };
        let heaps = (0..info.heaps.len() as u32).map(|heap| sum(&|it| it == heap));
        Ok(Self {
            memory_heaps: heaps.collect(),
            total: sum(&|_| true),
            memory_types: types.iter().copied().map(Statistics::from).collect(),
            pools: pools.collect(),
            _layout: layout,
        })
    }
}

#[pymethods]
impl TotalStatistics {
    fn __repr__(&self) -> String {
        format!("TotalStatistics(total={})", self.total.__repr__())
    }

    fn __str__(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::TOTAL_STATISTICS_TEXT)
    }

    fn _repr_html_(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::TOTAL_STATISTICS_HTML)
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
    /// Memory objects of this allocator.
    block_count: u32,
    /// Bytes of them.
    block_bytes: u64,
    /// Live allocations of this allocator.
    allocation_count: u64,
    /// Bytes of them, as requested.
    allocation_bytes: u64,
    /// Bytes that the whole process uses, other allocators included where the driver tells.
    usage: u64,
    /// Bytes that it may use before it is slowed down or refused memory.
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

    fn __str__(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::BUDGET_TEXT)
    }

    fn _repr_html_(slf: Bound<'_, Self>) -> PyResult<String> {
        table(slf.into_any(), &package::BUDGET_HTML)
    }
}

/// A list that prints as a table.
pub fn heap_budgets<'py>(
    py: Python<'py>,
    budgets: Vec<engine::HeapBudget>,
) -> PyResult<Bound<'py, PyAny>> {
    let budgets: Vec<_> = budgets.into_iter().map(HeapBudget::from).collect();
    package::HEAP_BUDGETS.get(py)?.call1((budgets,))
}
