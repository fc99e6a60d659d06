//! Numbers, flags and handles from Python, with one clear line for what is none.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyType};

use crate::errors::invalid;

/// A non-negative integer: a size, an offset, flags of any binding.
pub fn unsigned(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    let py = value.py();
    match value.extract::<u64>() {
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            Err(out_of_range(value, name)?)
        }
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            let kind = value.get_type().name()?;
            Err(PyTypeError::new_err(format!("{name} must be an integer, not {kind}")))
        }
        // Whatever the value's own `__index__` raised.
        Err(error) => Err(error),
    }
}

/// What to raise for an integer that is negative or has more than 64 bits.
fn out_of_range(value: &Bound<'_, PyAny>, name: &str) -> PyResult<PyErr> {
    let number = value.call_method0("__index__")?;
    let bits: u64 = number.call_method0("bit_length")?.extract()?;
    // Thousands of digits help nobody, and Python refuses to write them.
    let shown =
        if bits <= 128 { number.str()?.to_string() } else { format!("a number of {bits} bits") };
    let why = if number.lt(0)? { "must not be negative" } else { "does not fit 64 bits" };
    Ok(invalid(value.py(), format!("{name} is {shown}; it {why}")))
}

/// The same for 32 bits.
pub fn unsigned_32(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u32> {
    let number = unsigned(value, name)?;
    u32::try_from(number)
        .map_err(|_| invalid(value.py(), format!("{name} is {number}; it does not fit 32 bits")))
}

/// A handle of any Vulkan binding, as `vk_mem.interop` reads it; `type_name` is that of Vulkan, as
/// `VkBuffer`.
pub fn handle(value: &Bound<'_, PyAny>, type_name: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return unsigned(value, type_name);
    }
    let interop = value.py().import("vk_mem.interop")?;
    unsigned(&interop.call_method1("to_int", (value, type_name))?, type_name)
}

/// The same, but null is refused.
pub fn live_handle(value: &Bound<'_, PyAny>, type_name: &str) -> PyResult<u64> {
    match handle(value, type_name)? {
        0 => Err(invalid(value.py(), format!("a null handle is no {type_name}"))),
        handle => Ok(handle),
    }
}

/// Bits or a number as a class of `vk_mem.flags`; numbers that have no name there stay numbers.
pub fn flags<'py>(py: Python<'py>, class: &str, bits: u64) -> PyResult<Bound<'py, PyAny>> {
    let named = py.import("vk_mem.flags")?.getattr(class)?.call1((bits,));
    match named {
        Err(error) if error.is_instance_of::<PyValueError>(py) => {
            Ok(bits.into_pyobject(py)?.into_any())
        }
        named => named,
    }
}

/// Classes of `vk_mem.flags` that arguments are checked against, as soon as one was seen: names are
/// looked up and compared once.
static CLASSES: [(&str, PyOnceLock<Py<PyType>>); 7] = [
    ("BufferUsage", PyOnceLock::new()),
    ("ImageUsage", PyOnceLock::new()),
    ("Format", PyOnceLock::new()),
    ("MemoryUsage", PyOnceLock::new()),
    ("AllocationCreateFlags", PyOnceLock::new()),
    ("MemoryPropertyFlags", PyOnceLock::new()),
    ("ExternalMemoryHandleType", PyOnceLock::new()),
];

/// The class of `vk_mem.flags` that a value is of, if it is of one.
fn flag_class(value: &Bound<'_, PyAny>) -> Option<String> {
    let class = value.get_type();
    let ours = class.module().is_ok_and(|it| it.to_string().starts_with("vk_mem.flags"));
    ours.then(|| class.name().map_or(String::new(), |name| name.to_string()))
}

/// Bits or a number of a class of `vk_mem.flags`, or a plain integer of any binding. Another class
/// of this package means that arguments were mixed up.
pub fn of_class(value: &Bound<'_, PyAny>, name: &str, class: &str) -> PyResult<u32> {
    let py = value.py();
    let known = CLASSES.iter().find(|(name, _)| *name == class).map(|(_, known)| known);
    let is_known = known
        .and_then(|it| it.get(py))
        .is_some_and(|it| value.get_type_ptr() == it.as_ptr().cast());
    if is_known || value.is_exact_instance_of::<PyInt>() {
        return unsigned_32(value, name);
    }
    if let Some(given) = flag_class(value) {
        if given != class {
            return Err(PyTypeError::new_err(format!("{name} is a {given}; it takes {class}")));
        }
        if let Some(known) = known {
            known.get_or_init(py, || value.get_type().unbind());
        }
    }
    unsigned_32(value, name)
}

/// A number that no class of `vk_mem.flags` can be.
pub fn quantity(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return unsigned(value, name);
    }
    match flag_class(value) {
        Some(given) => Err(PyTypeError::new_err(format!("{name} is a {given}; it takes a number"))),
        None => unsigned(value, name),
    }
}
