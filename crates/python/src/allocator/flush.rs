//! Flushes and invalidates many allocations in one driver call.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::FailedItem;
use vkmem_engine::words::{bytes, counted};

use super::Allocator;
use crate::arguments::numbers::unsigned;
use crate::arguments::sequences::{self, about_item};
use crate::errors::{invalid, to_py_of_item};
use crate::interpreter::detach;
use crate::lifetime::ownership::Resource;
use crate::memory::host_access::{Part, flush_many, invalidate_many};
use crate::objects::resource::ResourceObject;
use crate::package::BUFFER_RANGE;

impl Allocator {
    fn synchronise(
        &self,
        allocations: &Bound<'_, PyAny>,
        offsets: Option<&Bound<'_, PyAny>>,
        sizes: Option<&Bound<'_, PyAny>>,
        run: fn(&[Part<'_>]) -> Result<(), FailedItem>,
    ) -> PyResult<()> {
        let py = allocations.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            let mut objects = sequences::items(allocations, "allocations")?;
            // Start and size of those that are ranges of a buffer.
            let mut ranges = vec![None; objects.len()];
            for (index, object) in objects.iter_mut().enumerate() {
                let checked = whole(object, &mut ranges[index]).and_then(|()| {
                    self.check_here(object, "Buffer, Image or Allocation").map(drop)
                });
                checked.map_err(|why| about_item(py, index, why))?;
            }
            let count = objects.len();
            let offsets = numbers(offsets, "offsets", "offset", 0, count)?;
            let sizes = numbers(sizes, "sizes", "size", u64::MAX, count)?;
            let faces =
                objects.iter().map(|object| Ok(object.cast::<ResourceObject>()?.get().face()));
            let faces: Vec<_> = faces.collect::<PyResult<_>>()?;
            // Each stays pinned until the driver call returns.
            let mut pins = Vec::with_capacity(count);
            let mut parts: Vec<Part<'_>> = Vec::with_capacity(count);
            for (index, face) in faces.iter().enumerate() {
                let resource: &Resource = face.resource;
                let pin = resource.enter_memory(py).and_then(|pin| {
                    resource.check_host_access(face, py)?;
                    let (offset, size) = inside(py, ranges[index], offsets[index], sizes[index])?;
                    parts.push((resource, offset, size));
                    Ok(pin)
                });
                pins.push(pin.map_err(|why| about_item(py, index, why))?);
            }
            detach(py, || run(&parts))
                .map_err(|failed| to_py_of_item(py, &failed.error, failed.index))
        })
    }
}

/// Puts the buffer in the place of a range of it, whose start and size are noted.
fn whole(object: &mut Bound<'_, PyAny>, range: &mut Option<(u64, u64)>) -> PyResult<()> {
    if object.cast::<ResourceObject>().is_ok()
        || !object.is_instance(BUFFER_RANGE.get(object.py())?)?
    {
        return Ok(());
    }
    let number = |name| unsigned(&object.getattr(name)?, name);
    *range = Some((number("offset")?, number("size")?));
    *object = object.getattr("buffer")?;
    Ok(())
}

/// A part of a range as one of its buffer.
fn inside(
    py: Python<'_>,
    range: Option<(u64, u64)>,
    offset: u64,
    size: u64,
) -> PyResult<(u64, u64)> {
    let Some((start, whole)) = range else { return Ok((offset, size)) };
    let size = if size == u64::MAX { whole.saturating_sub(offset) } else { size };
    if offset > whole || size > whole - offset {
        let (size, whole) = (bytes(size), bytes(whole));
        let why = format!("{size} at offset {offset}: outside of a slice of {whole}");
        return Err(invalid(py, why));
    }
    Ok((start + offset, size))
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
