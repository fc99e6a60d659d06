//! Copies between Python buffers and mapped memory.

use std::ops::Range;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use vkmem_engine::words::bytes;
use vkmem_engine::{HostAddress, HostWriter};
use vkmem_vulkan::{Target, copy_bytes};

use crate::arguments::numbers::unsigned;
use crate::arguments::plain::PlainBuffer;
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::detach;
use crate::lifetime::face::Face;
use crate::lifetime::ownership::Resource;

/// Copies above this size, in bytes, release the GIL.
const LARGE: usize = 64 << 10;

/// Size in bytes from which new memory is requested in huge pages, as NumPy does: the first access to each
/// small page takes several times as long as the copy into it.
#[cfg(target_os = "linux")]
const HUGE: usize = 4 << 20;

/// Requests huge pages for the pages inside a range. A hint: if refused, nothing changes.
#[cfg(target_os = "linux")]
fn advise_huge_pages(start: usize, length: usize) {
    // The largest base page size of any system that has huge pages.
    const PAGE: usize = 64 << 10;
    let (first, end) = (start.next_multiple_of(PAGE), (start + length) / PAGE * PAGE);
    if length >= HUGE && first < end {
        // SAFETY: inside of memory that is owned here, whose contents do not change.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: usize, _: usize) {}

/// Reads an optional offset argument, in bytes.
pub fn offset(value: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    value.map_or(Ok(0), |value| unsigned(value, "offset"))
}

/// Reads an optional size argument in bytes. `VK_WHOLE_SIZE` gives `None`; the binding `vulkan` defines it as
/// -1.
pub fn size(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    let is_whole =
        || value.is_exact_instance_of::<PyInt>() && value.extract().is_ok_and(|it: i64| it == -1);
    match unsigned(value, "size") {
        Ok(u64::MAX) => Ok(None),
        Err(_) if is_whole() => Ok(None),
        size => size.map(Some),
    }
}

/// Holds the buffer of an object for a copy; errors name the argument.
fn hold(
    data: &mut PlainBuffer,
    object: &Bound<'_, PyAny>,
    name: &str,
    writable: bool,
) -> PyResult<()> {
    let py = object.py();
    data.hold(object, writable).map_err(|why| {
        let text = why.value(py);
        // NumPy raises ValueError where the standard library raises BufferError.
        if why.is_instance_of::<PyBufferError>(py) || why.is_instance_of::<PyValueError>(py) {
            invalid(py, format!("{name} cannot be copied in one piece: {text}"))
        } else if why.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err(format!("{name}: {text}"))
        } else {
            why
        }
    })
}

/// Copies between a host address and a Python buffer, which both stay valid for the call.
///
/// # Safety
/// Both ranges are valid for `length` bytes, the target for writing.
unsafe fn copy(py: Python<'_>, from: usize, to: usize, length: usize, target: Target) {
    // SAFETY: the caller guarantees both; they may overlap if one is a view of the other.
    let run = || unsafe { copy_bytes(from, to, length, target) };
    if length > LARGE { detach(py, run) } else { run() }
}

/// Maps the memory for one copy.
fn with_mapped<T>(
    py: Python<'_>,
    resource: &Resource,
    run: impl FnOnce(HostAddress) -> PyResult<T>,
) -> PyResult<T> {
    if let Some(address) = resource.allocation().mapped {
        return run(address);
    }
    let address = detach(py, || resource.map()).or_raise(py)?;
    let result = run(address);
    let unmapped = detach(py, || resource.unmap()).or_raise(py);
    result.and_then(|value| unmapped.map(|()| value))
}

/// Implements `write(data, offset)`: copies and flushes.
pub fn write(
    py: Python<'_>,
    face: &Face<'_>,
    object: &Bound<'_, PyAny>,
    offset: u64,
) -> PyResult<()> {
    write_at(py, face, object, |length| face.check_range(py, offset, length).map(|()| offset))
}

/// Writes into a part of the memory; the offset counts from the start of the part.
pub fn write_part(
    py: Python<'_>,
    face: &Face<'_>,
    object: &Bound<'_, PyAny>,
    offset: u64,
    part: Range<u64>,
) -> PyResult<()> {
    write_at(py, face, object, |length| place_in_part(py, face, &part, offset, length))
}

/// Where so many bytes at an offset into a part of the memory lie.
fn place_in_part(
    py: Python<'_>,
    face: &Face<'_>,
    part: &Range<u64>,
    offset: u64,
    length: u64,
) -> PyResult<u64> {
    let whole = part.end.saturating_sub(part.start);
    if offset > whole || length > whole - offset {
        let (length, whole) = (bytes(length), bytes(whole));
        let why = format!("{length} at offset {offset}: outside of a slice of {whole}");
        return Err(invalid(py, why));
    }
    face.check_range(py, part.start + offset, length).map(|()| part.start + offset)
}

/// Writes at the offset that `place` returns for the number of bytes.
fn write_at(
    py: Python<'_>,
    face: &Face<'_>,
    object: &Bound<'_, PyAny>,
    place: impl FnOnce(u64) -> PyResult<u64>,
) -> PyResult<()> {
    let resource = face.resource;
    resource.allocator.change(py, || {
        let _pin = face.enter_host_to_write(py)?;
        let mut data = PlainBuffer::none();
        hold(&mut data, object, "data", false)?;
        let length = data.len();
        let offset = place(length as u64)?;
        if length == 0 {
            return Ok(());
        }
        resource.tell_host_access(py, offset, length as u64, true);
        with_mapped(py, resource, |address| {
            // SAFETY: the source is held, the target mapped, pinned and in bounds.
            let run = || unsafe {
                copy(py, data.address(), address.at(offset).0.get(), length, Target::InUse)
            };
            if resource.atom_size().is_none() {
                run();
                return Ok(());
            }
            let size = length as u64;
            let begun = detach(py, || resource.begin_write(offset, size, HostWriter::Copy));
            let Some(writer) = begun.or_raise(py)? else { return Ok(()) };
            run();
            detach(py, || resource.end_write(writer, offset, size)).or_raise(py)
        })
    })
}

/// Implements `read_into(target, offset)`: invalidates and copies.
pub fn read_into(
    py: Python<'_>,
    face: &Face<'_>,
    object: &Bound<'_, PyAny>,
    offset: u64,
) -> PyResult<()> {
    read_into_at(py, face, object, |length| face.check_range(py, offset, length).map(|()| offset))
}

/// Reads from a part of the memory alone, whose start the offset counts from.
pub fn read_part_into(
    py: Python<'_>,
    face: &Face<'_>,
    object: &Bound<'_, PyAny>,
    offset: u64,
    part: Range<u64>,
) -> PyResult<()> {
    read_into_at(py, face, object, |length| place_in_part(py, face, &part, offset, length))
}

/// `place` says where so many bytes come from.
fn read_into_at(
    py: Python<'_>,
    face: &Face<'_>,
    object: &Bound<'_, PyAny>,
    place: impl FnOnce(u64) -> PyResult<u64>,
) -> PyResult<()> {
    let _pin = face.enter_host_to_read(py)?;
    let mut target = PlainBuffer::none();
    hold(&mut target, object, "target", true)?;
    let offset = place(target.len() as u64)?;
    read_to(py, face.resource, target.address(), offset, target.len(), Target::InUse)
}

/// Implements `read(offset, size)`: invalidates and copies.
pub fn read<'py>(
    py: Python<'py>,
    face: &Face<'_>,
    offset: u64,
    size: Option<u64>,
) -> PyResult<Bound<'py, PyBytes>> {
    let resource = face.resource;
    let _pin = face.enter_host_to_read(py)?;
    let size = size.unwrap_or_else(|| face.size().saturating_sub(offset));
    face.check_range(py, offset, size)?;
    // CPython adds a header to the bytes.
    let length = isize::try_from(size).ok().filter(|length| *length < isize::MAX - 4096);
    let length =
        length.ok_or_else(|| invalid(py, format!("a bytes object cannot have {}", bytes(size))))?;
    // SAFETY: allocates uninitialised bytes, all of which are written before any other code sees them; a
    // failure is the exception that CPython has set.
    let bytes = unsafe {
        let raw = ffi::PyBytes_FromStringAndSize(std::ptr::null(), length);
        Bound::from_owned_ptr_or_err(py, raw)?.cast_into_unchecked::<PyBytes>()
    };
    // SAFETY: a bytes object that no other code refers to.
    let target = unsafe { ffi::PyBytes_AsString(bytes.as_ptr()) };
    advise_huge_pages(target as usize, length.unsigned_abs());
    read_to(py, resource, target as usize, offset, length.unsigned_abs(), Target::New)?;
    Ok(bytes)
}

fn read_to(
    py: Python<'_>,
    resource: &Resource,
    target: usize,
    offset: u64,
    length: usize,
    kind: Target,
) -> PyResult<()> {
    if length == 0 {
        return Ok(());
    }
    with_mapped(py, resource, |address| {
        if resource.atom_size().is_some() {
            detach(py, || resource.refresh(offset, length as u64)).or_raise(py)?;
        }
        resource.tell_host_access(py, offset, length as u64, false);
        // SAFETY: the source is mapped, pinned and in bounds; the target has the same length and is owned
        // here.
        unsafe { copy(py, address.at(offset).0.get(), target, length, kind) };
        Ok(())
    })
}
