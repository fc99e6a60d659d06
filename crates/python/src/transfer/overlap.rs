//! Arrays that lie in the memory of the resource itself: views of it, as `Buffer.numpy()` returns them.
//!
//! A copy between them ends with the bytes that NumPy's assignment would: those that the source had before.

use std::ops::Range;

use pyo3::prelude::*;
use vkmem_engine::{Error, MemoryPropertyFlags};

use super::way::properties;
use crate::interpreter::detach;
use crate::lifetime::ownership::Resource;

/// Where the host sees the memory of a resource now; `None` where it does not, and no view of it exists.
pub fn mapped_range(py: Python<'_>, resource: &Resource) -> Option<Range<usize>> {
    let allocation = resource.allocation();
    let start = match allocation.mapped {
        Some(address) => address,
        None if properties(resource).contains(MemoryPropertyFlags::HOST_VISIBLE) => {
            let found = detach(py, || resource.allocator.engine().mapped_at(allocation.id));
            found?.at(resource.start())
        }
        None => return None,
    };
    let (start, size) = (start.0.get(), usize::try_from(resource.host_size).ok()?);
    Some(start..start.saturating_add(size))
}

/// Whether two ranges of addresses share a byte.
pub fn meet(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end && !one.is_empty() && !other.is_empty()
}

/// Memory for a copy of `size` bytes; zeroed, as the caller may fill it in any order.
pub fn temporary(size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Error::NoHostMemory("a copy of the array"))?;
    bytes.resize(size, 0);
    Ok(bytes)
}
