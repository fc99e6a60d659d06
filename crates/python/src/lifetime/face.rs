//! A resource as seen through one of its Python objects: a `Buffer` has the requested size, and its
//! `Allocation` the size of all of the memory.

use pyo3::prelude::*;
use vkmem_engine::words::bytes;

use super::ownership::ResourceRef;
use crate::errors::invalid;

/// A resource as a `Buffer` or `Image` shows it, or as the `Allocation` behind that does.
pub struct Face<'a> {
    /// The resource.
    pub resource: &'a ResourceRef,
    /// Whether it is shown by the `Allocation` of a `Buffer` or an `Image`.
    pub is_allocation: bool,
}

impl Face<'_> {
    /// Returns the size in bytes that the host can access.
    pub fn size(&self) -> u64 {
        if self.is_allocation { self.resource.allocation().size } else { self.resource.host_size }
    }

    /// Returns the description in messages: `Allocation of Buffer 'staging' (16384 bytes, memory type 3)`.
    pub fn describe(&self) -> String {
        if !self.is_allocation {
            return self.resource.describe();
        }
        let (owner, size) = (self.resource.title(), self.size());
        let memory_type = self.resource.allocation().memory_type_index;
        format!("Allocation of {owner} ({}, memory type {memory_type})", bytes(size))
    }

    /// Raises `InvalidArgumentError` unless the range lies in the bytes that the host can access.
    pub fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let whole = self.size();
        let inside = offset <= whole && size <= whole - offset;
        if inside { Ok(()) } else { Err(self.outside(py, offset, size)) }
    }

    /// Returns the exception for an offset, or a range, outside of the bytes that the host can access.
    pub fn outside(&self, py: Python<'_>, offset: u64, size: u64) -> PyErr {
        let what = self.describe();
        if offset > self.size() {
            return invalid(py, format!("offset {offset} is outside of {what}"));
        }
        invalid(py, format!("{} at offset {offset}: outside of {what}", bytes(size)))
    }
}
