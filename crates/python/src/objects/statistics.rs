//! Statistics of blocks, allocations and unused ranges, and budgets.

use pyo3::prelude::*;
use vkmem_engine as engine;
use vkmem_engine::PoolKey;

use crate::lifetime::ownership::AllocatorState;
use crate::package::{self, Name};

/// Formats an object with a function of `vk_mem.observe.tables`.
fn table(object: Bound<'_, PyAny>, function: &Name) -> PyResult<String> {
    function.get(object.py())?.call1((object,))?.extract()
}

/// Counts and sizes of a set of blocks. Sizes are in bytes; those of a `VirtualBlock` in its own unit. Prints
/// as a table.
#[pyclass(module = "vk_mem", frozen, eq)]
#[derive(Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Number of memory objects.
    #[pyo3(get)]
    block_count: u64,
    /// Size of all memory objects.
    #[pyo3(get)]
    block_bytes: u64,
    /// Number of live allocations.
    #[pyo3(get)]
    allocation_count: u64,
    /// Size of all live allocations, as requested.
    #[pyo3(get)]
    allocation_bytes: u64,
    /// Number of free ranges in blocks. Margins and memory in quarantine do not count as free.
    #[pyo3(get)]
    unused_range_count: u64,
    /// Size of all free ranges. Less than blocks minus allocations if ends were rounded up to an alignment.
    #[pyo3(get)]
    unused_range_bytes: u64,
    /// Size of the smallest allocation; None without allocations.
    #[pyo3(get)]
    allocation_size_min: Option<u64>,
    /// Size of the largest allocation; None without allocations.
    #[pyo3(get)]
    allocation_size_max: Option<u64>,
    /// Size of the smallest free range; None without free ranges.
    #[pyo3(get)]
    unused_range_size_min: Option<u64>,
    /// Size of the largest free range; None without free ranges.
    #[pyo3(get)]
    unused_range_size_max: Option<u64>,
    /// 1 - largest unused range / all unused bytes, over all blocks that are counted here: 0 if the unused
    /// bytes are one range, or if there are none; close to 1 if they are scattered, so that a large request
    /// needs a new block although their sum would suffice. A second empty block raises it as well.
    #[pyo3(get)]
    fragmentation: f64,
    /// Number of margins, of which each allocation has two or none (`Debug(margin=...)`).
    #[pyo3(get)]
    margin_count: u64,
    /// Size of all margins, with what alignment adds.
    #[pyo3(get)]
    margin_bytes: u64,
    /// Number of freed allocations in quarantine (`Debug(quarantine=...)`).
    #[pyo3(get)]
    quarantined_count: u64,
    /// Size of these, without their margins.
    #[pyo3(get)]
    quarantined_bytes: u64,
    /// Whether sizes are in bytes.
    #[pyo3(get)]
    _in_bytes: bool,
}

impl Statistics {
    /// Converts statistics of a virtual block, in its unit.
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
            margin_count: it.margin_count,
            margin_bytes: it.margin_bytes,
            quarantined_count: it.quarantined_count,
            quarantined_bytes: it.quarantined_bytes,
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

/// Statistics of a custom pool.
#[pyclass(module = "vk_mem", frozen)]
#[derive(Clone)]
pub struct PoolStatistics {
    /// The name given to `create_pool`; None without one.
    #[pyo3(get)]
    name: Option<String>,
    /// Index into the device's memory types.
    #[pyo3(get)]
    memory_type_index: u32,
    /// Statistics of its blocks.
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

/// Size in bytes of each heap; heap index and property flags of each memory type.
type Layout = (Vec<u64>, Vec<(u32, u32)>);

/// Statistics by memory type, heap and custom pool. Printed, it is a table.
#[pyclass(module = "vk_mem", frozen)]
pub struct TotalStatistics {
    /// Statistics of each memory type, including custom pools.
    #[pyo3(get)]
    memory_types: Vec<Statistics>,
    /// Statistics of each heap.
    #[pyo3(get)]
    memory_heaps: Vec<Statistics>,
    /// Statistics of each custom pool, in the order of memory types.
    #[pyo3(get)]
    pools: Vec<PoolStatistics>,
    /// Statistics of the whole allocator.
    #[pyo3(get)]
    total: Statistics,
    evictions: engine::EvictionStatistics,
    memory_type_evictions: Vec<engine::EvictionStatistics>,
    #[pyo3(get)]
    _layout: Layout,
}

/// Converts figures of what may be lost.
fn evictions(py: Python<'_>, it: engine::EvictionStatistics) -> PyResult<Bound<'_, PyAny>> {
    package::EVICTION_STATISTICS.get(py)?.call1((
        it.evictable_count,
        it.evictable_bytes,
        it.lost_count,
        it.lost_bytes,
        it.loss_count,
        it.loss_bytes,
    ))
}

impl TotalStatistics {
    /// Counts every pool once and adds up the results.
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
            evictions: allocator.total_eviction_statistics(),
            memory_type_evictions: (0..info.types.len() as u32)
                .map(|index| allocator.eviction_statistics(index))
                .collect(),
            _layout: layout,
        })
    }
}

#[pymethods]
impl TotalStatistics {
    /// `EvictionStatistics` of what may be lost (`CAN_BECOME_LOST`), and of what was.
    #[getter]
    fn evictions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        evictions(py, self.evictions)
    }

    /// `EvictionStatistics` of each memory type.
    #[getter]
    fn memory_type_evictions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.memory_type_evictions.iter().map(|it| evictions(py, *it)).collect()
    }

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
/// `block_count` and `block_bytes` are number and size of the `VkDeviceMemory` objects that this allocator
/// has in the heap, `allocation_count` and `allocation_bytes` those of the allocations in them. `usage` and
/// `budget` are in bytes: what the whole process uses and may use, as the driver reports it
/// (`VK_EXT_memory_budget`); without that extension `block_bytes`, and 80 % of the heap or of its limit in
/// `heap_size_limits`. No field is None.
#[pyclass(module = "vk_mem", frozen, get_all, eq)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeapBudget {
    /// Number of memory objects of this allocator.
    block_count: u32,
    /// Size of these memory objects in bytes.
    block_bytes: u64,
    /// Number of live allocations of this allocator.
    allocation_count: u64,
    /// Size of these allocations in bytes, as requested.
    allocation_bytes: u64,
    /// Bytes that the whole process uses, including other allocators if the driver reports them.
    usage: u64,
    /// Bytes that the process may use before it is slowed down or allocations fail.
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

/// Returns a list of budgets that prints as a table.
pub fn heap_budgets<'py>(
    py: Python<'py>,
    budgets: Vec<engine::HeapBudget>,
) -> PyResult<Bound<'py, PyAny>> {
    let budgets: Vec<_> = budgets.into_iter().map(HeapBudget::from).collect();
    package::HEAP_BUDGETS.get(py)?.call1((budgets,))
}
