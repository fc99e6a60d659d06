//! A resource as one of its Python objects shows it: a `Buffer` has the bytes that were asked for, and the
//! `Allocation` behind it all of the memory.

use pyo3::prelude::*;
use vkmem_engine::words::bytes;

use super::ownership::ResourceRef;
use crate::errors::invalid;

/// See the module.
pub struct Face<'a> {
    /// What it is of.
    pub resource: &'a ResourceRef,
    /// Whether it is the `Allocation` of a `Buffer` or an `Image`.
    pub is_allocation: bool,
}

impl Face<'_> {
    /// Bytes that the host may see.
    pub fn size(&self) -> u64 {
        if self.is_allocation { self.resource.allocation().size } else { self.resource.host_size }
    }

    /// `Allocation of Buffer 'staging' (16384 bytes, memory type 3)`
    pub fn describe(&self) -> String {
        if !self.is_allocation {
            return self.resource.describe();
        }
        let (owner, size) = (self.resource.title(), self.size());
        let memory_type = self.resource.allocation().memory_type_index;
        format!("Allocation of {owner} ({}, memory type {memory_type})", bytes(size))
    }

    /// An exception unless the range lies in what the host may see.
    pub fn check_range(&self, py: Python<'_>, offset: u64, size: u64) -> PyResult<()> {
        let whole = self.size();
        let inside = offset <= whole && size <= whole - offset;
        if inside { Ok(()) } else { Err(self.outside(py, offset, size)) }
    }

    /// The exception of such a range.
    pub fn outside(&self, py: Python<'_>, offset: u64, size: u64) -> PyErr {
        let what = self.describe();
        if offset > self.size() {
            return invalid(py, format!("offset {offset} is outside of {what}"));
        }
        invalid(py, format!("{} at offset {offset}: outside of {what}", bytes(size)))
    }
}
