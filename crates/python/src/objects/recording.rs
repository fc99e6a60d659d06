//! `vk_mem.Ring` and `vk_mem.Recording`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};
use vkmem_engine::lock::{Mutex, rank};

use crate::arguments::iterables;
use crate::arguments::numbers::unsigned;
use crate::arguments::text::Text;
use crate::errors::{invalid, use_after_free};
use crate::interpreter::detach;
use crate::lifetime::ownership::AllocatorState;
use crate::recording::environment;
use crate::recording::session::{AutoSave, Place, Session};
use crate::recording::space::BlockLock;

/// The most events of a ring.
const MOST_EVENTS: u64 = 1 << 28;

/// The last calls of allocators, in memory: `Allocator(record=Ring())`.
///
/// It keeps at least the last `events` calls with their results, about 24 bytes each. `save` writes them to a file like
/// that of any other recording, or as a timeline where the path ends with `.pftrace`, `.perfetto-trace` or `.json`. With a
/// `path` that happens by itself: when an allocation fails for lack of memory ("out_of_memory" in `on`), and when the
/// allocator finds memory that the program has overwritten ("corruption"), at most once a second. Several allocators may
/// share a ring.
#[pyclass(module = "vk_mem", frozen)]
pub struct Ring {
    events: u64,
    auto_save: AutoSave,
    session: OnceLock<Arc<Session>>,
}

impl Ring {
    /// The recording in the ring, which begins with the first allocator.
    pub fn session(&self, py: Python<'_>) -> PyResult<Arc<Session>> {
        if let Some(session) = self.session.get() {
            session.check_process(py)?;
            return Ok(session.clone());
        }
        let session = Session::begin(py, Place::Ring(self.events, self.auto_save.clone()))?;
        Ok(self.session.get_or_init(|| session).clone())
    }
}

#[pymethods]
impl Ring {
    #[new]
    #[pyo3(signature = (events = None, *, path = None, on = None))]
    fn new(
        py: Python<'_>,
        events: Option<&Bound<'_, PyAny>>,
        path: Option<PathBuf>,
        on: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let events = events.map_or(Ok(100_000), |it| unsigned(it, "events"))?;
        if !(1..=MOST_EVENTS).contains(&events) {
            return Err(invalid(py, format!("events is {events}: from 1 to {MOST_EVENTS}")));
        }
        let all = on.is_none();
        let mut auto_save = AutoSave { path, on_out_of_memory: all, on_corruption: all };
        let mut take = |reason: &str| match reason {
            "out_of_memory" => {
                auto_save.on_out_of_memory = true;
                Ok(())
            }
            "corruption" => {
                auto_save.on_corruption = true;
                Ok(())
            }
            other => {
                let other = other.escape_debug();
                let why = format!("on has '{other}': the reasons are out_of_memory and corruption");
                Err(invalid(py, why))
            }
        };
        if let Some(on) = on {
            match on.cast::<PyString>() {
                Ok(one) => take(&one.to_cow()?)?,
                Err(_) => {
                    for reason in iterables::read(on, "on", 16, |it| it.extract::<String>())? {
                        take(&reason)?;
                    }
                }
            }
        }
        Ok(Self { events, auto_save, session: OnceLock::new() })
    }

    /// The number of events that it keeps at least.
    #[getter]
    fn events(&self) -> u64 {
        self.events
    }

    /// The file to which it is saved by itself, if that is wanted.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.auto_save.path.clone()
    }

    /// The reasons for which it is saved by itself, if it has a `path`.
    #[getter]
    fn on<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let AutoSave { on_out_of_memory, on_corruption, .. } = self.auto_save;
        let all = [(on_out_of_memory, "out_of_memory"), (on_corruption, "corruption")];
        PyTuple::new(py, all.iter().filter(|it| it.0).map(|it| it.1).collect::<Vec<_>>())
    }

    /// Writes what it has to a file, by default its own `path`; returns the number of events. It goes on.
    ///
    /// The end of the path says what is written: a recording, a timeline for Perfetto (`.pftrace`, `.perfetto-trace`), or
    /// one for Chrome (`.json`).
    ///
    /// Raises `OSError` if the file cannot be written, `InvalidArgumentError` without a path.
    #[pyo3(signature = (path = None))]
    fn save(&self, py: Python<'_>, path: Option<PathBuf>) -> PyResult<u64> {
        let path = path.or_else(|| self.auto_save.path.clone());
        let path = path.ok_or_else(|| invalid(py, "the ring has no path: say where to save it"))?;
        self.session(py)?.save(py, &path)
    }

    fn __repr__(&self) -> String {
        match &self.auto_save.path {
            Some(path) => format!("<vk_mem.Ring of {} events, {}>", self.events, path.display()),
            None => format!("<vk_mem.Ring of {} events>", self.events),
        }
    }
}

/// A recording that is being made: `record` returns one.
///
/// It is a context manager, and ends with the block, with `close`, or with the interpreter. Its file can be read while it
/// is written; what was called more than half a second ago is in it.
#[pyclass(module = "vk_mem", frozen)]
pub struct Recording {
    session: Arc<Session>,
    allocators: Mutex<Vec<Weak<AllocatorState>>, rank::AttachedAllocators>,
    blocks: Mutex<Vec<Weak<BlockLock>>, rank::AttachedAllocators>,
}

impl Recording {
    /// Creates one of no allocators.
    pub fn new(session: Arc<Session>) -> Self {
        Self { session, allocators: Mutex::default(), blocks: Mutex::default() }
    }

    /// The recording that allocators tell.
    pub fn session(&self, py: Python<'_>) -> PyResult<Arc<Session>> {
        self.session.check_process(py)?;
        match self.session.is_over() {
            true => Err(use_after_free(py, "the recording was closed")),
            false => Ok(self.session.clone()),
        }
    }

    /// Records an allocator, too.
    pub fn add(&self, py: Python<'_>, allocator: &Arc<AllocatorState>) -> PyResult<()> {
        let session = self.session(py)?;
        allocator.attach(py, &session, false)?;
        self.note(allocator);
        Ok(())
    }

    /// Notes a virtual block that is recorded already.
    pub fn note_block(&self, block: &Arc<BlockLock>) {
        self.blocks.lock().push(Arc::downgrade(block));
    }

    /// Notes an allocator that is recorded already.
    pub fn note(&self, allocator: &Arc<AllocatorState>) {
        self.allocators.lock().push(Arc::downgrade(allocator));
    }
}

#[pymethods]
impl Recording {
    /// The file that it is written to; None for a `Ring`.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.session.path.clone()
    }

    /// Whether it has ended.
    #[getter]
    fn closed(&self) -> bool {
        self.session.is_over()
    }

    /// The number of events so far.
    #[getter]
    fn events(&self, py: Python<'_>) -> PyResult<u64> {
        self.session.check_process(py)?;
        Ok(detach(py, || self.session.recording().counts().0))
    }

    /// The number of calls that were not recorded, as the disk was too slow.
    #[getter]
    fn dropped(&self, py: Python<'_>) -> PyResult<u64> {
        self.session.check_process(py)?;
        Ok(detach(py, || self.session.recording().counts().1))
    }

    /// Writes a text into the recording, as a mark of the program.
    fn mark(&self, py: Python<'_>, text: &Bound<'_, PyAny>) -> PyResult<()> {
        let text = Text::string(text, "text")?;
        self.session(py)?.recording().mark(&text);
        Ok(())
    }

    /// Waits until all calls so far are written to the file.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let session = self.session(py)?;
        detach(py, || session.recording().flush());
        Ok(())
    }

    /// Ends the recording: waits until all is written. Does nothing if it has ended. A `Ring` keeps what it has.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.session.check_process(py)?;
        let allocators = std::mem::take(&mut *self.allocators.lock());
        for allocator in allocators.iter().filter_map(Weak::upgrade) {
            allocator.end_recording_in(py, &self.session);
        }
        let blocks = std::mem::take(&mut *self.blocks.lock());
        for block in blocks.iter().filter_map(Weak::upgrade) {
            detach(py, || block.lock().end_in(self.session.recording()));
        }
        self.session.end(py);
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().session(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let place = match &self.session.path {
            Some(path) => path.display().to_string(),
            None => "a ring".into(),
        };
        let over = if self.session.is_over() { ", closed" } else { "" };
        format!("<vk_mem.Recording in {place}{over}>")
    }
}

/// Returns the recording that a value of `record` means, and whether it ends with the object that is recorded.
pub fn session_of(py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<(Arc<Session>, bool)> {
    if let Ok(ring) = given.cast::<Ring>() {
        return Ok((ring.get().session(py)?, false));
    }
    if let Ok(recording) = given.cast::<Recording>() {
        return Ok((recording.get().session(py)?, false));
    }
    match given.extract::<PathBuf>() {
        Ok(path) if path.as_os_str().is_empty() => Err(invalid(py, "record is an empty path")),
        Ok(path) => Ok((Session::begin(py, Place::File(path))?, true)),
        Err(_) => {
            let kind = given.get_type().name().map_or("?".into(), |name| name.to_string());
            Err(PyTypeError::new_err(format!(
                "record must be a path, a vk_mem.Ring or a vk_mem.Recording, not {kind}"
            )))
        }
    }
}

/// Reads the keyword `record`: the recording, and whether it ends with the object that is recorded.
pub fn session_of_keyword(
    py: Python<'_>,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<(Arc<Session>, bool)>> {
    match given {
        None => Ok(environment::session(py)?.map(|session| (session, false))),
        Some(off) if off.is(&**PyBool::new(py, false)) => Ok(None),
        Some(given) => session_of(py, given).map(Some),
    }
}
