//! Flushes and invalidates many allocations in one driver call.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::FailedItem;
use vkmem_engine::words::counted;

use super::Allocator;
use crate::arguments::sequences::{self, about_item};
use crate::errors::to_py_of_item;
use crate::interpreter::detach;
use crate::memory::host_access::{Part, flush_many, invalidate_many};
use crate::objects::resource::ResourceObject;

impl Allocator {
    fn synchronise(
        &self,
        allocations: &Bound<'_, PyAny>,
        offsets: Option<&Bound<'_, PyAny>>,
        sizes: Option<&Bound<'_, PyAny>>,
        run: fn(&[Part<'_>]) -> Result<(), FailedItem>,
    ) -> PyResult<()> {
        let py = allocations.py();
        let _inside = self.state.enter(py)?;
        let objects = sequences::objects(allocations, "allocations", |object| {
            self.check_here(object, "Buffer, Image or Allocation").map(drop)
        })?;
        let count = objects.len();
        let offsets = numbers(offsets, "offsets", "offset", 0, count)?;
        let sizes = numbers(sizes, "sizes", "size", u64::MAX, count)?;
        let resources =
            objects.iter().map(|object| Ok(&object.cast::<ResourceObject>()?.get().resource));
        let resources: Vec<_> = resources.collect::<PyResult<_>>()?;
        // Each stays pinned until the driver call returns.
        let mut pins = Vec::with_capacity(count);
        for (index, resource) in resources.iter().enumerate() {
            pins.push(resource.enter_memory(py).map_err(|why| about_item(py, index, why))?);
        }
        let ranges = offsets.into_iter().zip(sizes);
        let parts: Vec<Part<'_>> = resources
            .iter()
            .zip(ranges)
            .map(|(resource, (offset, size))| (&***resource, offset, size))
            .collect();
        detach(py, || run(&parts)).map_err(|failed| to_py_of_item(py, &failed.error, failed.index))
    }
}

/// Reads one number for each allocation; `None` gives all of them the same one.
fn numbers(
    given: Option<&Bound<'_, PyAny>>,
    name: &str,
    one: &str,
    usual: u64,
    count: usize,
) -> PyResult<Vec<u64>> {
    let Some(given) = given else { return Ok(vec![usual; count]) };
    let numbers = sequences::integers(given, name, one)?;
    if numbers.len() == count {
        return Ok(numbers);
    }
    let (given, wanted) = (counted(numbers.len(), one), counted(count, "allocation"));
    Err(PyTypeError::new_err(format!("{name} has {given} for {wanted}")))
}

#[pymethods]
impl Allocator {
    /// Flushes many allocations in one driver call (`vmaFlushAllocations`): each is a `Buffer`, an `Image` or
    /// an `Allocation`.
    ///
    /// `offsets` and `sizes` are in bytes, one for each allocation. Without offsets, ranges start at 0;
    /// without sizes, they go up to the end. Allocations that are coherent or not mapped are skipped. For
    /// each other one this is `flush`.
    ///
    /// Raises what `flush` raises, with the `item` it is about, before anything is flushed.
    #[pyo3(signature = (allocations, offsets = None, sizes = None))]
    fn flush_allocations(
        &self,
        allocations: &Bound<'_, PyAny>,
        offsets: Option<&Bound<'_, PyAny>>,
        sizes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.synchronise(allocations, offsets, sizes, flush_many)
    }

    /// Invalidates many allocations in one driver call (`vmaInvalidateAllocations`). Arguments are those of
    /// `flush_allocations`.
    ///
    /// Raises what `invalidate` raises, with the `item` it is about, before anything is invalidated.
    #[pyo3(signature = (allocations, offsets = None, sizes = None))]
    fn invalidate_allocations(
        &self,
        allocations: &Bound<'_, PyAny>,
        offsets: Option<&Bound<'_, PyAny>>,
        sizes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.synchronise(allocations, offsets, sizes, invalidate_many)
    }
}
