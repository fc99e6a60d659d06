//! `ExternalMemoryHandleType`: kinds of handles of exported memory.

use pyo3::prelude::*;
use vkmem_vulkan::external::handle_type_names;

use crate::arguments::numbers::{HANDLE_TYPE, of_class};
use crate::errors::invalid;

pub const OPAQUE_FD: u32 = 0x1;
pub const OPAQUE_WIN32: u32 = 0x2;
pub const HOST_ALLOCATION: u32 = 0x80;

/// Reads one `ExternalMemoryHandleType`.
pub fn handle_type(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    of_class(value, "handle_type", &HANDLE_TYPE)
}

/// Raises unless a handle type is one of the allowed ones.
pub fn check_one_of(py: Python<'_>, handle_type: u32, allowed: u32) -> PyResult<()> {
    if handle_type.count_ones() == 1 && handle_type & allowed != 0 {
        return Ok(());
    }
    let (given, allowed) = (handle_type_names(handle_type), handle_type_names(allowed));
    let allowed = allowed.replace('|', ", ");
    Err(invalid(py, format!("handle_type is {given}; here it is one of {allowed}")))
}

/// Reads `export_handle_types`; None gives 0, no type.
pub fn export_types(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let name = "export_handle_types";
    if value.is_none() { Ok(0) } else { of_class(value, name, &HANDLE_TYPE) }
}
