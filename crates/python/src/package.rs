//! [`Name`] and [`Classes`]: every name that this crate takes from `vk_mem` and from the standard library.
//!
//! They are looked up while the package is imported, some when they are used or as the interpreter begins to
//! exit: later `sys.modules` is emptied before the last finalisers run, and imports fail. Functions and classes
//! are stored, not modules, as modules lose their contents at that time.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::interpreter;

/// A Python function or class.
pub struct Name {
    module: &'static str,
    attribute: &'static str,
    object: PyOnceLock<Py<PyAny>>,
}

impl Name {
    const fn new(module: &'static str, attribute: &'static str) -> Self {
        Self { module, attribute, object: PyOnceLock::new() }
    }

    /// Returns the object.
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        interpreter::enter_thread();
        let look_up = || Ok::<_, PyErr>(py.import(self.module)?.getattr(self.attribute)?.unbind());
        Ok(self.object.get_or_try_init(py, look_up)?.bind(py))
    }
}

/// The classes of a module of `vk_mem`, by their names.
pub struct Classes {
    module: &'static str,
    by_name: PyOnceLock<Py<PyDict>>,
}

impl Classes {
    const fn new(module: &'static str) -> Self {
        Self { module, by_name: PyOnceLock::new() }
    }

    /// Returns a class.
    pub fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        interpreter::enter_thread();
        let look_up = || -> PyResult<_> {
            let (module, by_name) = (py.import(self.module)?, PyDict::new(py));
            for name in module.getattr("__all__")?.try_iter()? {
                let name = name?;
                by_name.set_item(&name, module.getattr(name.cast()?)?)?;
            }
            Ok(by_name.unbind())
        };
        self.by_name.get_or_try_init(py, look_up)?.bind(py).as_any().get_item(name)
    }
}

pub static ERRORS: Classes = Classes::new("vk_mem.errors");
pub static FLAGS: Classes = Classes::new("vk_mem.flags");

pub static ALLOCATION_RECORD: Name = Name::new("vk_mem._records", "AllocationRecord");
pub static CHAIN_ADDRESS: Name = Name::new("vk_mem.interop.bindings", "chain_address");
pub static DEVICE_ARGUMENTS: Name = Name::new("vk_mem.interop.bindings", "device_arguments");
pub static FUNCTION_ADDRESS: Name = Name::new("vk_mem.interop.bindings", "function_address");
pub static IS_STRUCT_AT: Name = Name::new("vk_mem.interop.bindings", "is_struct_at");
pub static STRUCT_ADDRESS: Name = Name::new("vk_mem.interop.bindings", "struct_address");
pub static PARAMETER: Name = Name::new("vk_mem.interop.bindings", "_Parameter");
pub static TO_INT: Name = Name::new("vk_mem.interop.bindings", "to_int");

pub static DEBUG: Name = Name::new("vk_mem.debugging.options", "Debug");
pub static DEBUG_OF_ENVIRONMENT: Name =
    Name::new("vk_mem.debugging.environment", "debug_of_environment");
pub static REFUSE_ALL_BUT: Name = Name::new("vk_mem.debugging.options", "refuse_all_but");
pub static NUMBER_OF_NAMES: Name = Name::new("vk_mem.flags.names", "number_of_names");
pub static UNEXPECTED_KEYWORD: Name = Name::new("vk_mem._keywords", "unexpected_keyword");
pub static ARRAY_OF: Name = Name::new("vk_mem.memory.arrays", "array_of");
pub static BUFFER_RANGE: Name = Name::new("vk_mem.memory.buffer_range", "BufferRange");
pub static DLPACK_OF: Name = Name::new("vk_mem.memory.arrays", "dlpack_of");
pub static RANGE_OF: Name = Name::new("vk_mem.memory.buffer_range", "range_of");
pub static READ_ARRAY: Name = Name::new("vk_mem.memory.arrays", "read_array");
pub static SUBRESOURCE_LAYOUT: Name = Name::new("vk_mem.memory.arrays", "SubresourceLayout");
pub static TEXEL_ARRAY: Name = Name::new("vk_mem.memory.arrays", "texel_array");
pub static VIEW_ARRAY: Name = Name::new("vk_mem.memory.arrays", "view_array");
pub static VIRTUAL_ALLOCATIONS: Name = Name::new("vk_mem.memory.virtual", "VirtualAllocations");
pub static VIRTUAL_MOVE: Name = Name::new("vk_mem.memory.virtual", "VirtualMove");

pub static ARRAY_SOURCE: Name = Name::new("vk_mem.memory.transfers", "array_source");
pub static AWAITED: Name = Name::new("vk_mem.memory.transfers", "awaited");
pub static NEW_ARRAY: Name = Name::new("vk_mem.memory.transfers", "new_array");
pub static NEW_TEXELS: Name = Name::new("vk_mem.memory.transfers", "new_texels");
pub static LOCATION: Name = Name::new("vk_mem.memory.defragmentation", "Location");
pub static MOVE: Name = Name::new("vk_mem.memory.defragmentation", "Move");
pub static DEFRAGMENTATION_STATISTICS: Name =
    Name::new("vk_mem.memory.defragmentation", "DefragmentationStatistics");
pub static TRANSFER_STATISTICS: Name = Name::new("vk_mem.memory.transfers", "TransferStatistics");

pub static EVICTION_STATISTICS: Name = Name::new("vk_mem.dump.evictions", "EvictionStatistics");
pub static FAULT_REPORT: Name = Name::new("vk_mem.observe.faults", "_fault_report");
pub static LEAKS: Name = Name::new("vk_mem.observe.leaks", "_leaks");
pub static LOAD_DUMP: Name = Name::new("vk_mem.dump", "load_dump");

pub static ALLOCATOR_HTML: Name = Name::new("vk_mem.observe.tables", "allocator_html");
pub static BUDGET_HTML: Name = Name::new("vk_mem.observe.tables", "budget_html");
pub static BUDGET_TEXT: Name = Name::new("vk_mem.observe.tables", "budget_text");
pub static HEAP_BUDGETS: Name = Name::new("vk_mem.observe.tables", "HeapBudgets");
pub static POOL_STATISTICS_HTML: Name = Name::new("vk_mem.observe.tables", "pool_statistics_html");
pub static POOL_STATISTICS_TEXT: Name = Name::new("vk_mem.observe.tables", "pool_statistics_text");
pub static STATISTICS_HTML: Name = Name::new("vk_mem.observe.tables", "statistics_html");
pub static STATISTICS_TEXT: Name = Name::new("vk_mem.observe.tables", "statistics_text");
pub static TOTAL_STATISTICS_HTML: Name =
    Name::new("vk_mem.observe.tables", "total_statistics_html");
pub static TOTAL_STATISTICS_TEXT: Name =
    Name::new("vk_mem.observe.tables", "total_statistics_text");

pub static OS_CLOSE: Name = Name::new("os", "close");
pub static OS_FSTAT: Name = Name::new("os", "fstat");

static NAMES: [&Name; 41] = [
    &CHAIN_ADDRESS,
    &DEVICE_ARGUMENTS,
    &FUNCTION_ADDRESS,
    &IS_STRUCT_AT,
    &STRUCT_ADDRESS,
    &PARAMETER,
    &TO_INT,
    &NUMBER_OF_NAMES,
    &UNEXPECTED_KEYWORD,
    &ARRAY_OF,
    &BUFFER_RANGE,
    &DLPACK_OF,
    &RANGE_OF,
    &READ_ARRAY,
    &SUBRESOURCE_LAYOUT,
    &TEXEL_ARRAY,
    &VIEW_ARRAY,
    &VIRTUAL_ALLOCATIONS,
    &VIRTUAL_MOVE,
    &ARRAY_SOURCE,
    &AWAITED,
    &NEW_ARRAY,
    &NEW_TEXELS,
    &LOCATION,
    &MOVE,
    &DEFRAGMENTATION_STATISTICS,
    &TRANSFER_STATISTICS,
    &EVICTION_STATISTICS,
    &LOAD_DUMP,
    &ALLOCATOR_HTML,
    &BUDGET_HTML,
    &BUDGET_TEXT,
    &HEAP_BUDGETS,
    &POOL_STATISTICS_HTML,
    &POOL_STATISTICS_TEXT,
    &STATISTICS_HTML,
    &STATISTICS_TEXT,
    &TOTAL_STATISTICS_HTML,
    &TOTAL_STATISTICS_TEXT,
    &OS_CLOSE,
    &OS_FSTAT,
];

/// Dataclasses, and what makes such: they would take a fifth of the time of an import.
static LATER: [&Name; 6] =
    [&ALLOCATION_RECORD, &DEBUG, &DEBUG_OF_ENVIRONMENT, &REFUSE_ALL_BUT, &FAULT_REPORT, &LEAKS];

/// Returns the exception for an unknown keyword, with the one that may have been meant.
#[cold]
pub fn unexpected_keyword(py: Python<'_>, function: &str, key: &str) -> PyErr {
    let message = || UNEXPECTED_KEYWORD.get(py)?.call1((function, key))?.extract::<String>();
    match message() {
        Ok(message) => PyTypeError::new_err(message),
        Err(error) => error,
    }
}

/// Looks up most names; called once, at the end of `vk_mem/__init__.py`.
#[pyfunction]
pub fn _look_up_names(py: Python<'_>) -> PyResult<()> {
    ERRORS.get(py, "VkMemError")?;
    FLAGS.get(py, "BufferUsage")?;
    NAMES.into_iter().try_for_each(|name| name.get(py).map(drop))
}

/// Looks up the rest, for a program that has an allocator, before imports fail.
#[pyfunction]
pub fn _look_up_other_names(py: Python<'_>) -> PyResult<()> {
    LATER.into_iter().try_for_each(|name| name.get(py).map(drop))
}
