//! Export of memory to other APIs.

use pyo3::prelude::*;
use vkmem_engine::{Error, MemoryObjectInfo};
use vkmem_vulkan::external::{FD_TYPES, WIN32_TYPES, handle_type_names};

use super::handle_types::{self, OPAQUE_FD, OPAQUE_WIN32, check_one_of};
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::detach;
use crate::lifetime::ownership::Resource;

/// Returns the size of a resource's memory object in bytes, and the handle types it can be exported as.
pub fn memory_of(py: Python<'_>, resource: &Resource) -> PyResult<MemoryObjectInfo> {
    resource.allocator.device.check_process(py)?;
    resource.allocator.engine().memory_of(resource.allocation().id).or_raise(py)
}

/// Raises unless the memory of a resource can be exported as a handle type.
fn check_export(
    py: Python<'_>,
    resource: &Resource,
    handle_type: u32,
    allowed: u32,
) -> PyResult<()> {
    check_one_of(py, handle_type, allowed)?;
    let allocator = &resource.allocator.device_allocator;
    allocator.check_handle_types(handle_type).or_raise(py)?;
    let exported = memory_of(py, resource)?.export_handle_types;
    if exported & handle_type == 0 {
        let (what, name) = (resource.describe(), handle_type_names(handle_type));
        return Err(invalid(
            py,
            format!(
                "{what} was not allocated to be exported as {name}: create it, or its pool, with \
                 export_handle_types=ExternalMemoryHandleType.{name}"
            ),
        ));
    }
    Ok(())
}

/// Notes that others may use the memory from now on: nothing is written to what is freed of it.
fn note_exported(resource: &Resource) {
    // A pin keeps it.
    let _noted = resource.allocator.engine().note_exported(resource.allocation().id);
}

/// Implements `export_fd(handle_type=OPAQUE_FD)`.
pub fn export_fd(
    py: Python<'_>,
    resource: &Resource,
    handle_type: Option<&Bound<'_, PyAny>>,
) -> PyResult<i32> {
    let _pin = resource.enter(py)?;
    let handle_type = handle_type.map_or(Ok(OPAQUE_FD), handle_types::handle_type)?;
    check_export(py, resource, handle_type, FD_TYPES)?;
    let external = resource.allocator.device_allocator.driver().external();
    let memory = resource.allocation().memory;
    // SAFETY: the memory is live, pinned, and was allocated for this handle type, whose extension is enabled.
    let exported = detach(py, || unsafe { external.export_fd(memory, handle_type) });
    let fd = exported.map_err(|error| Error::from(error.of("vkGetMemoryFdKHR"))).or_raise(py)?;
    note_exported(resource);
    Ok(fd)
}

/// Implements `export_win32_handle(handle_type=OPAQUE_WIN32)`.
pub fn export_win32_handle(
    py: Python<'_>,
    resource: &Resource,
    handle_type: Option<&Bound<'_, PyAny>>,
) -> PyResult<u64> {
    let _pin = resource.enter(py)?;
    let handle_type = handle_type.map_or(Ok(OPAQUE_WIN32), handle_types::handle_type)?;
    check_export(py, resource, handle_type, WIN32_TYPES)?;
    let external = resource.allocator.device_allocator.driver().external();
    let memory = resource.allocation().memory;
    // SAFETY: the memory is live, pinned, and was allocated for this handle type, whose extension is enabled.
    let exported = detach(py, || unsafe { external.export_win32_handle(memory, handle_type) });
    let exported = exported
        .map_err(|error| Error::from(error.of("vkGetMemoryWin32HandleKHR")))
        .or_raise(py)?;
    note_exported(resource);
    Ok(exported)
}
