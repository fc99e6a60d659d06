//! Numbers, flags and handles from Python, with one clear line for what is none.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::invalid;

/// A non-negative integer: a size, an offset, flags of any binding.
pub fn unsigned(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    if let Ok(number) = value.extract::<u64>() {
        return Ok(number);
    }
    let py = value.py();
    let shown = value.repr().map(|it| it.to_string()).unwrap_or_else(|_| "?".into());
    if value.extract::<i128>().is_ok_and(|number| number < 0) {
        return Err(invalid(py, format!("{name} is {shown}; it must not be negative")));
    }
    let kind = value.get_type().name()?.to_string();
    if kind == "int" {
        return Err(invalid(py, format!("{name} is {shown}; it does not fit 64 bits")));
    }
    Err(pyo3::exceptions::PyTypeError::new_err(format!("{name} must be an integer, not {kind}")))
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
    if value.is_exact_instance_of::<pyo3::types::PyInt>() {
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
