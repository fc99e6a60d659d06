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

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `map(readonly=True)`
    Read,
    /// `map()`
    Write,
    /// `mapped`: the memory is mapped for ever, and the view ends with its last reference.
    Persistent,
}

#[derive(Debug, Default)]
struct State {
    /// Buffers that Python holds, and calls that run.
    exports: usize,
    /// No further ones; the mapping ends with the last.
    closing: bool,
    ended: bool,
}

/// A part of the memory of a resource, mapped.
#[pyclass(module = "vk_mem", frozen, weakref)]
pub struct Mapping {
    resource: ResourceRef,
    /// What it shows, from the start of the resource on.
    offset: u64,
    size: u64,
    address: HostAddress,
    access: Access,
    /// Whether it has counted a map.
    is_counted: bool,
    /// What it may have written, where that has to be flushed.
    writer: Option<WriterId>,
    /// Whose memory it is, if that leads on to other Python objects.
    owner: Option<Link<PyAny>>,
    state: Mutex<State, rank::MappingViews>,
    /// What `__enter__` gave out.
    view: Mutex<Option<Py<PyMemoryView>>, rank::MappingView>,
}

impl Mapping {
    /// Maps, and makes what the device wrote visible. `owner` is the object whose memory it is, if that leads
    /// on to other Python objects.
    pub fn open(
        py: Python<'_>,
        face: &Face<'_>,
        owner: Option<Link<PyAny>>,
        offset: u64,
        size: Option<u64>,
        access: Access,
    ) -> PyResult<Self> {
        let resource = face.resource;
        let pin = face.enter_host(py)?;
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
        // Kept until the mapping ends; from here on its own drop undoes everything.
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
        Ok(mapping)
    }

    /// Flushes, unmaps and lets go of the resource; once.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let first = !std::mem::replace(&mut self.state.lock().ended, true);
        if !first {
            return Ok(());
        }
        let resource = &self.resource;
        if resource.allocator.device.is_forked() {
            // Flushing and unmapping are the parent's affair, and so are the locks on the way there.
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
        ended.or_raise(py)
    }

    /// Ends now, or with the last view.
    fn end_when_unused(&self, py: Python<'_>) -> PyResult<()> {
        let unused = {
            let mut state = self.state.lock();
            state.closing = true;
            state.exports == 0
        };
        if unused { self.end(py) } else { Ok(()) }
    }

    /// One more user: a view, or a call that needs the memory mapped until it returns. The lock is
    /// never held while Python code can run: a collection may release other views of this mapping.
    pub(crate) fn begin_use(&self, while_closing: bool) -> bool {
        let mut state = self.state.lock();
        let open = !state.ended && (while_closing || !state.closing);
        state.exports += usize::from(open);
        open
    }

    /// One less; the last one of a closed mapping ends it.
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

    /// Runs on a part without the interpreter; no other thread can unmap the memory meanwhile.
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
            // Refuses while an array still uses it; then that array keeps the mapping open.
            let _ = view.call_method0(py, "release");
        }
    }
}

#[pymethods]
impl Mapping {
    /// Where it starts in its resource, in bytes.
    #[getter]
    fn offset(&self) -> u64 {
        self.offset
    }

    /// In bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// Where its bytes start in this process; for C libraries. Valid while the mapping is open.
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

    /// Unmaps, after a flush if needed. Nothing happens the second time.
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

    /// Makes what was written so far to `size` bytes from `offset` of the mapping on visible to the
    /// device; up to the end without a size. Rounded to `non_coherent_atom_size`; does nothing on coherent
    /// memory, and nothing where the mapping is read-only.
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

    /// Makes what the device wrote so far visible, as `flush` does the opposite. Host writes that are not
    /// flushed are lost.
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
        // Dropped without the lock: it may be the last reference, which comes back here.
        drop(before);
        Ok(view)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.release_view(py);
        let viewed = self.state.lock().exports > 0;
        if viewed && self.access != Access::Read {
            // An array made from the view may live on; what was written by now is to be seen now.
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

    /// It and the view that `__enter__` gave out hold each other; without this, one that is never
    /// left would pin its memory for ever.
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
    /// `view` is what CPython passes.
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
        // SAFETY: CPython gives a valid view; the memory is mapped until the exports are gone.
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

/// Runs where nothing may be raised: an exception that is on its way stays, another one is shown.
pub(crate) fn report_unraised(py: Python<'_>, run: impl FnOnce() -> PyResult<()>) {
    let on_its_way = PyErr::take(py);
    if let Err(error) = run() {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}

/// For every use of a closed mapping.
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
