//! Conversion of engine errors to the Python exceptions of `vk_mem.errors`.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use pyo3::exceptions::{PyBufferError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use vkmem_engine::{CallError, Error};
use vkmem_vulkan::{OpenError, QUEUE_LOCK, QUEUE_UNLOCK};

use crate::interpreter::check_locks;
use crate::package::ERRORS;

thread_local! {
    /// What a [`QueueLock`](vkmem_vulkan::QueueLock) raised on this thread: driver errors hold no exceptions.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Keeps what a queue lock raised, for [`to_py`] of the error that follows.
pub fn keep_raised(raised: Option<PyErr>) {
    RAISED.set(raised);
}

/// Returns what a queue lock raised, if that is what the error reports.
pub fn take_raised(error: &CallError) -> Option<PyErr> {
    matches!(error.call, QUEUE_LOCK | QUEUE_UNLOCK).then(|| RAISED.take()).flatten()
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(ERRORS.get(py, name)?.cast_into::<PyType>()?)
}

fn raise(py: Python<'_>, name: &str, message: &str, figures: Option<&Bound<'_, PyDict>>) -> PyErr {
    check_locks();
    // Names and texts of the caller may have several lines; a message has one.
    let message = message.replace(['\n', '\r'], " ");
    let make = || class(py, name)?.call((message,), figures);
    match make() {
        Ok(instance) => raised(instance),
        Err(error) => error,
    }
}

/// Returns an exception to be raised, which gets the one that is being handled then as its context.
pub fn raised(instance: Bound<'_, PyAny>) -> PyErr {
    // `PyErr::from_value` would raise it as it is, and nothing would show what was handled.
    PyErr::from_type(instance.get_type(), instance.unbind())
}

/// Returns whether an exception says that memory was overwritten.
pub fn is_corruption(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "CorruptionError").is_ok_and(|it| error.is_instance(py, &it))
}

/// Returns the exception for an engine error.
pub fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error, None)
}

/// Returns whether an exception is one of this package: creating an exception runs Python code, which may
/// raise an unrelated one, such as `KeyboardInterrupt`.
pub fn is_ours(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "VkMemError").is_ok_and(|base| error.is_instance(py, &base))
}

/// Whether it is a `MemoryMapError`.
pub fn is_map_error(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "MemoryMapError").is_ok_and(|it| error.is_instance(py, &it))
}

/// Returns the exception for an engine error about one item of many, counted from 0.
pub fn to_py_of_item(py: Python<'_>, error: &Error, item: usize) -> PyErr {
    exception(py, error, Some(item))
}

fn exception(py: Python<'_>, error: &Error, item: Option<usize>) -> PyErr {
    if let Error::Device(failed) = error
        && let Some(raised) = take_raised(failed)
    {
        return raised;
    }
    let vk_result = error.vk_result();
    let name = match error {
        Error::InvalidArgument(_) => "InvalidArgumentError",
        Error::UseAfterFree => "UseAfterFreeError",
        _ => match vk_result {
            Some(-1) => "OutOfHostMemoryError",
            Some(-2) => "OutOfDeviceMemoryError",
            Some(-4) => "DeviceLostError",
            Some(-5) => "MemoryMapError",
            Some(-8) => "FeatureNotPresentError",
            // `VK_ERROR_INVALID_EXTERNAL_HANDLE`: the descriptor or handle was the caller's choice.
            Some(-1_000_072_003) => "InvalidArgumentError",
            Some(-10) => "TooManyObjectsError",
            _ => "VkMemError",
        },
    };
    let arguments = PyDict::new(py);
    let fill = || {
        arguments.set_item("vk_result", vk_result)?;
        if item.is_some() {
            arguments.set_item("item", item)?;
        }
        if let Some(figures) = error.figures() {
            arguments.set_item("size", (figures.size > 0).then_some(figures.size))?;
            arguments.set_item("memory_type_index", figures.memory_type_index)?;
            arguments.set_item("heap_index", figures.heap_index)?;
            if figures.heap_index.is_some() {
                arguments.set_item("heap_usage", figures.heap_usage)?;
                arguments.set_item("heap_budget", figures.heap_budget)?;
            }
        }
        Ok::<_, PyErr>(())
    };
    match fill() {
        Ok(()) => {
            let item = item.map_or(String::new(), |item| format!("item {item}: "));
            let hint =
                if vk_result == Some(-4) { "; Allocator.explain_fault() tells more" } else { "" };
            raise(py, name, &format!("{item}{error}{hint}"), Some(&arguments))
        }
        Err(error) => error,
    }
}

/// Conversion of engine results to Python results.
pub trait IntoPyResult<T> {
    /// Returns the value, or the exception for the error.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> IntoPyResult<T> for Result<T, Error> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_py(py, &error))
    }
}

impl<T> IntoPyResult<T> for Result<T, OpenError> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| {
            let class = match error {
                OpenError::Lacks { .. } => "FeatureNotPresentError",
                OpenError::UnknownFeature { .. }
                | OpenError::LeftOut { .. }
                | OpenError::TransferQueue { .. } => "InvalidArgumentError",
                _ => "InitializationError",
            };
            raise(py, class, &error.to_string(), None)
        })
    }
}

/// Returns an `InvalidArgumentError`.
pub fn invalid(py: Python<'_>, message: impl AsRef<str>) -> PyErr {
    raise(py, "InvalidArgumentError", message.as_ref(), None)
}

/// Returns a `UseAfterFreeError`.
pub fn use_after_free(py: Python<'_>, message: impl AsRef<str>) -> PyErr {
    raise(py, "UseAfterFreeError", message.as_ref(), None)
}

/// Returns a `LostError`.
pub fn lost_error(py: Python<'_>, message: impl AsRef<str>) -> PyErr {
    raise(py, "LostError", message.as_ref(), None)
}

/// Returns a `TraceError` with the line or the offset in the file.
pub fn trace_error(py: Python<'_>, message: &str, line: Option<u64>, offset: Option<u64>) -> PyErr {
    let figures = PyDict::new(py);
    let set = figures.set_item("line", line).and_then(|()| figures.set_item("offset", offset));
    match set {
        Ok(()) => raise(py, "TraceError", message, Some(&figures)),
        Err(error) => error,
    }
}

/// Returns a `FeatureNotPresentError`.
pub fn feature_not_present(py: Python<'_>, message: &str) -> PyErr {
    let error = Error::FeatureNotPresent(message.into());
    to_py(py, &error)
}

/// Returns an `OutOfHostMemoryError`: the process gets no more memory.
#[cold]
pub fn out_of_host_memory(py: Python<'_>) -> PyErr {
    let (message, figures) = ("out of host memory: the process gets no more", PyDict::new(py));
    match figures.set_item("vk_result", -1) {
        Ok(()) => raise(py, "OutOfHostMemoryError", message, Some(&figures)),
        Err(error) => error,
    }
}

/// Returns a `BufferError`, which the standard library raises for pinned memory, too.
pub fn pinned(message: impl Into<String>) -> PyErr {
    PyBufferError::new_err(message.into())
}

/// Returns the `OSError` of a file; its number chooses the class, such as `FileNotFoundError`.
#[cold]
pub fn os_error(py: Python<'_>, error: &io::Error, path: Option<&Path>) -> PyErr {
    let class = py.get_type::<PyOSError>();
    let text = error.to_string();
    // A str, as Python's own functions show it.
    let path = path.map(Path::as_os_str);
    let made = match error.raw_os_error() {
        Some(number) => {
            let text = text.split(" (os error").next().unwrap_or_default();
            if cfg!(windows) {
                // Python makes `errno` of a number of Windows.
                class.call1((0, text, path, number))
            } else {
                class.call1((number, text, path))
            }
        }
        None => class.call1((text,)),
    };
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Returns a `CorruptionError`.
pub fn corruption(py: Python<'_>, message: &str) -> PyErr {
    raise(py, "CorruptionError", message, None)
}

/// Creates a `CorruptionError` with figures; its text has several lines.
pub fn corruption_with<'py>(
    py: Python<'py>,
    message: &str,
    figures: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    class(py, "CorruptionError")?.call((message,), Some(figures))
}
