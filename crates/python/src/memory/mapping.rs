//! `vk_mem.Mapping`: the memory of a resource under Python's buffer protocol.
//!
//! ```text
//!   resource  <-- pin --  Mapping  <-- reference --  memoryview  <--  NumPy array, slices ...
//! ```
//!
//! A mapping ends when it is closed *and* its last view is gone; until then the resource cannot be
//! destroyed. So no Python program can keep a view of freed memory.

use std::ffi::c_int;

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use pyo3::{PyTraverseError, PyVisit, ffi};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::words::bytes;
use vkmem_engine::{HostAddress, HostWriter, WriterId};

use super::host_copy;
use crate::errors::{IntoPyResult, invalid, pinned};
use crate::interpreter::{detach, try_attach};
use crate::lifetime::face::Face;
use crate::lifetime::ownership::{Resource, ResourceRef};
use crate::process::links::Link;

/// What a mapping is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `map(readonly=True)`.
    Read,
    /// `map()`.
    Write,
    /// `mapped`: the memory is persistently mapped, and the view ends with its last reference.
    Persistent,
}

#[derive(Debug, Default)]
struct State {
    /// Number of buffers that Python holds, and of running calls.
    exports: usize,
    /// Whether new views are refused; the mapping ends with the last one.
    closing: bool,
    ended: bool,
}

/// A mapped range of the memory of a resource.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Mapping {
    resource: ResourceRef,
    /// Offset from the start of the resource, in bytes.
    offset: u64,
    size: u64,
    address: HostAddress,
    access: Access,
    /// Whether it has counted a map, which its end has to undo.
    is_counted: bool,
    /// The writer to flush at its end, on non-coherent memory.
    writer: Option<WriterId>,
    /// The object whose memory it is, if that refers to other Python objects.
    owner: Option<Link<PyAny>>,
    state: Mutex<State, rank::MappingViews>,
    /// The view that `__enter__` returned.
    view: Mutex<Option<Py<PyMemoryView>>, rank::MappingView>,
}

impl Mapping {
    /// Maps a range and makes device writes visible. `owner` is the object whose memory it is, if that refers
    /// to other Python objects.
    pub fn open(
        py: Python<'_>,
        face: &Face<'_>,
        owner: Option<Link<PyAny>>,
        offset: u64,
        size: Option<u64>,
        access: Access,
    ) -> PyResult<Self> {
        let resource = face.resource;
        let pin = match access {
            Access::Read => face.enter_host_to_read(py)?,
            Access::Write => face.enter_host_to_write(py)?,
            // It is there all the time, and who looks need not write.
            Access::Persistent => face.enter_host(py)?,
        };
        let size = size.unwrap_or_else(|| face.size().saturating_sub(offset));
        face.check_range(py, offset, size)?;
        let (start, is_counted) = match resource.allocation().mapped {
            Some(address) => (address, false),
            None => (detach(py, || resource.map()).or_raise(py)?, true),
        };
        let mut mapping = Self {
            resource: resource.clone(),
            offset,
            size,
            address: start.at(offset),
            access,
            is_counted,
            writer: None,
            owner,
            state: Mutex::default(),
            view: Mutex::default(),
        };
        // The pin is released when the mapping ends; from here on `drop` undoes everything.
        std::mem::forget(pin);
        resource.begin_mapping();
        if resource.atom_size().is_some() {
            let begin = || match access {
                Access::Read => resource.refresh(offset, size).map(|()| None),
                Access::Write | Access::Persistent => {
                    resource.begin_write(offset, size, HostWriter::View)
                }
            };
            mapping.writer = detach(py, begin).or_raise(py)?;
        }
        if access == Access::Read {
            resource.tell_host_access(py, offset, size, false);
        }
        Ok(mapping)
    }

    /// Flushes, unmaps and unpins the resource; only the first call has an effect.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let first = !std::mem::replace(&mut self.state.lock().ended, true);
        if !first {
            return Ok(());
        }
        let resource = &self.resource;
        if resource.allocator.device.is_forked() {
            // The parent flushes and unmaps, and the locks on the way there may be held for ever.
            self.resource.pins.remove(py);
            return Ok(());
        }
        let ended = detach(py, || {
            let flushed = self
                .writer
                .map_or(Ok(()), |writer| resource.end_write(writer, self.offset, self.size));
            resource.end_mapping();
            let unmapped = if self.is_counted { resource.unmap() } else { Ok(()) };
            flushed.and(unmapped)
        });
        self.resource.pins.remove(py);
        // The device may use in this frame what was written.
        self.resource.touch(py);
        ended.or_raise(py)
    }

    /// Ends the mapping now, or with its last view.
    fn end_when_unused(&self, py: Python<'_>) -> PyResult<()> {
        let unused = {
            let mut state = self.state.lock();
            state.closing = true;
            state.exports == 0
        };
        if unused { self.end(py) } else { Ok(()) }
    }

    /// Adds a user: a view, or a call that needs the memory mapped until it returns. The lock is never held
    /// while Python code can run: a garbage collection may release other views of this mapping.
    pub(crate) fn begin_use(&self, while_closing: bool) -> bool {
        let mut state = self.state.lock();
        let open = !state.ended && (while_closing || !state.closing);
        state.exports += usize::from(open);
        open
    }

    /// Removes a user; the last one of a closed mapping ends it.
    pub(crate) fn end_use(&self, py: Python<'_>) -> PyResult<()> {
        let last = {
            let mut state = self.state.lock();
            state.exports -= 1;
            state.exports == 0 && state.closing
        };
        if last { self.end(py) } else { Ok(()) }
    }

    /// Where its bytes start, how many they are, and whether they may be written.
    pub(crate) fn bytes(&self) -> (usize, u64, bool) {
        (self.address.0.get(), self.size, self.access != Access::Read)
    }

    /// An exception in the child of a fork.
    pub(crate) fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        self.resource.allocator.device.check_process(py)
    }

    /// Runs a function on a range with the GIL released; no other thread can unmap the memory meanwhile.
    fn detached(
        &self,
        py: Python<'_>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
        run: impl FnOnce(&Resource, u64, u64) -> Result<(), vkmem_engine::Error> + Send,
    ) -> PyResult<()> {
        self.check_process(py)?;
        let (offset, size) = (host_copy::offset(offset)?, host_copy::size(size)?);
        let size = size.unwrap_or_else(|| self.size.saturating_sub(offset));
        if offset > self.size || size > self.size - offset {
            let whole = self.size;
            let (size, whole) = (bytes(size), bytes(whole));
            return Err(invalid(
                py,
                format!("{size} at offset {offset}: outside of a mapping of {whole}"),
            ));
        }
        if !self.begin_use(true) {
            return Err(closed(py));
        }
        let done = detach(py, || run(&self.resource, self.offset + offset, size));
        self.end_use(py)?;
        done.or_raise(py)
    }

    fn release_view(&self, py: Python<'_>) {
        let view = self.view.lock().take();
        if let Some(view) = view {
            // Fails while an array still uses the view; then that array keeps the mapping open.
            let _ = view.call_method0(py, "release");
        }
    }
}

#[pymethods]
impl Mapping {
    /// Offset of the mapping in its resource, in bytes.
    #[getter]
    fn offset(&self) -> u64 {
        self.offset
    }

    /// Size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// Address of the first byte in this process, for C libraries. Valid while the mapping is open.
    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<usize> {
        if self.state.lock().ended {
            return Err(closed(py));
        }
        Ok(self.address.0.get())
    }

    /// Whether it was closed and no view is left.
    #[getter]
    fn closed(&self) -> bool {
        self.state.lock().ended
    }

    /// Unmaps the memory, after a flush if needed. Does nothing if it was called before.
    ///
    /// Raises `BufferError` while a view of it is in use.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.release_view(py);
        if self.state.lock().exports > 0 {
            let why = "a view of it is in use, or another thread uses it";
            return Err(pinned(format!("cannot close the mapping: {why}")));
        }
        self.end_when_unused(py)
    }

    /// Flushes `size` bytes from `offset` of the mapping: makes what was written so far available to the
    /// device. Without a size, up to the end. Rounded outward to `non_coherent_atom_size`. Does nothing on
    /// coherent memory, nor if the mapping is read-only.
    ///
    /// Raises `InvalidArgumentError` outside of the mapping, `UseAfterFreeError` after `close`.
    #[pyo3(signature = (offset = None, size = None))]
    fn flush(
        &self,
        py: Python<'_>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let readonly = self.access == Access::Read;
        self.detached(py, offset, size, |resource, offset, size| {
            if readonly { Ok(()) } else { resource.flush(offset, size) }
        })
    }

    /// Invalidates `size` bytes from `offset` of the mapping: makes device writes visible to the host.
    /// Without a size, up to the end. Unflushed host writes are lost.
    ///
    /// Raises what `flush` raises.
    #[pyo3(signature = (offset = None, size = None))]
    fn invalidate(
        &self,
        py: Python<'_>,
        offset: Option<&Bound<'_, PyAny>>,
        size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.detached(py, offset, size, Resource::invalidate)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        let this = slf.get();
        if this.state.lock().ended {
            return Err(closed(slf.py()));
        }
        let view = PyMemoryView::from(slf.as_any())?;
        let before = this.view.lock().replace(view.clone().unbind());
        // Dropped without the lock: it may be the last reference, whose drop comes back here.
        drop(before);
        Ok(view)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release_view(py);
        let viewed = self.state.lock().exports > 0;
        if viewed && self.access != Access::Read {
            // An array of the view may live on; what was written by now has to be flushed now.
            self.flush(py, None, None)?;
        }
        self.end_when_unused(py)
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { "closed" } else { "open" };
        let Self { offset, size, .. } = self;
        let place = if *offset > 0 { format!(" at offset {offset}") } else { String::new() };
        format!("<vk_mem.Mapping of {}{place}, {state}>", bytes(*size))
    }

    /// Traverses the view that `__enter__` returned, as it and the mapping refer to each other: without this,
    /// a mapping that is never left would pin its memory for ever.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(Some(view)) = self.view.try_lock().as_deref() {
            visit.call(view)?;
        }
        self.owner.as_ref().map_or(Ok(()), |owner| visit.call(&**owner))
    }

    fn __clear__(&self) {
        let view = self.view.lock().take();
        drop(view);
    }

    /// # Safety
    /// `view` is passed by CPython.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let length = isize::try_from(this.size)
            .map_err(|_| PyBufferError::new_err("too large for a Python buffer"))?;
        let readonly = this.access == Access::Read;
        if readonly && flags & ffi::PyBUF_WRITABLE != 0 {
            return Err(PyBufferError::new_err("the mapping is read-only"));
        }
        if !this.begin_use(false) {
            return Err(PyBufferError::new_err("the mapping is closed"));
        }
        let readonly = c_int::from(readonly);
        let start = this.address.0.get() as *mut std::ffi::c_void;
        // SAFETY: CPython passes a valid view; the memory stays mapped until the exports are released.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, readonly, flags) };
        if filled != 0 {
            let error = PyErr::fetch(slf.py());
            this.end_use(slf.py())?;
            return Err(error);
        }
        Ok(())
    }

    /// # Safety
    /// `_view` was filled by `__getbuffer__`.
    unsafe fn __releasebuffer__(&self, py: Python<'_>, _view: *mut ffi::Py_buffer) {
        report_unraised(py, || self.end_use(py));
    }
}

/// Runs a function in a place where nothing may be raised: prints its exception and keeps the current one.
pub(crate) fn report_unraised(py: Python<'_>, run: impl FnOnce() -> PyResult<()>) {
    let on_its_way = PyErr::take(py);
    if let Err(error) = run() {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}

/// Returns the exception for every use of a closed mapping.
pub(crate) fn closed(py: Python<'_>) -> PyErr {
    crate::errors::use_after_free(py, "the mapping is closed")
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.state.get_mut().ended {
            return;
        }
        try_attach(|py| report_unraised(py, || self.end(py)));
    }
}
