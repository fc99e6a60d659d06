//! Structs of the caller: `pNext` chains for memory and for binding, and `VkAllocationCallbacks`.

use pyo3::prelude::*;
use vkmem_vulkan::AllocationCallbacks;

use crate::errors::invalid;
use crate::package::{CHAIN_ADDRESS, STRUCT_ADDRESS};
use crate::process::forks::in_one_process;
use crate::process::links::Link;

/// Returns the address of a `pNext` chain, given its first struct or a number; 0 for None.
pub fn chain_address(value: &Bound<'_, PyAny>, keyword: &str) -> PyResult<usize> {
    let py = value.py();
    in_one_process(py, || CHAIN_ADDRESS.get(py)?.call1((value, keyword)))??.extract()
}

/// Reads the caller's `VkAllocationCallbacks`; returns them with the object that keeps them alive.
pub fn allocation_callbacks(
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Option<AllocationCallbacks>, Option<Link<PyAny>>)> {
    let Some(value) = value else { return Ok((None, None)) };
    let py = value.py();
    let (name, size) = ("VkAllocationCallbacks", AllocationCallbacks::SIZE);
    let what = (value, name, size, "allocation_callbacks");
    let found = in_one_process(py, || STRUCT_ADDRESS.get(py)?.call1(what))??;
    let address: u64 = found.get_item(0)?.extract()?;
    // SAFETY: there is such a struct, or the caller guarantees memory of its size.
    let callbacks = unsafe { AllocationCallbacks::read(address) };
    match callbacks.missing() {
        None => Ok((Some(callbacks), Some(Link::new(value.clone().unbind())))),
        Some(function) => {
            Err(invalid(py, format!("allocation_callbacks: {function} is null, and may not be")))
        }
    }
}
