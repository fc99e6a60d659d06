//! [`Session`]: a recording that is being made, with the file or the ring that it goes to.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use vkmem_engine::Error;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_trace::{OnFailure, Recording, RecordingOptions, Target, load};

use super::counter::counter;
use super::failure::{Fails, Told};
use super::timeline::Timeline;
use crate::errors::{invalid, os_error};
use crate::interpreter::{detach, in_finaliser, without_gil};
use crate::observe::event::{Event, EventKind};
use crate::observe::events::Listener;
use crate::process::forks::Process;

/// Recordings in files, which end with the interpreter.
static OPEN: Mutex<Vec<Weak<Session>>, rank::AttachedAllocators> = Mutex::new(Vec::new());

/// Ends all recordings in files, at the end of the interpreter.
pub fn end_all(py: Python<'_>) {
    let open = std::mem::take(&mut *OPEN.lock());
    open.iter().filter_map(Weak::upgrade).for_each(|session| session.end(py));
}

/// A ring is not saved by itself again so soon after it was.
const SAVED_LATELY: Duration = Duration::from_secs(1);

/// When a ring is saved without being asked.
#[derive(Clone, Debug, Default)]
pub struct AutoSave {
    /// The file.
    pub path: Option<PathBuf>,
    /// When an allocation fails for lack of memory.
    pub on_out_of_memory: bool,
    /// When memory was found that a program has overwritten.
    pub on_corruption: bool,
}

/// Where a recording goes.
pub enum Place {
    /// A file.
    File(PathBuf),
    /// Memory that keeps at least so many of the last events.
    Ring(u64, AutoSave),
}

/// A recording that is being made.
pub struct Session {
    recording: Recording,
    /// The file that it is written to; `None` for a ring.
    pub path: Option<PathBuf>,
    auto_save: AutoSave,
    saved: Mutex<Option<Instant>, rank::AttachedAllocators>,
    process: Process,
    is_over: AtomicBool,
    has_warned: AtomicBool,
}

impl Session {
    /// Begins a recording, or a timeline for Perfetto if the name of the file says so. Raises `InvalidArgumentError` for
    /// the name of a timeline for Chrome, for a FIFO and for the file of a recording that goes on, `OSError` if the file
    /// cannot be written.
    pub fn begin(py: Python<'_>, place: Place) -> PyResult<Arc<Self>> {
        if let Place::File(path) = &place {
            check_name(py, path)?;
            check_file(py, path)?;
        }
        let failed: Arc<OnceLock<Told>> = Arc::default();
        let theirs = failed.clone();
        let tell = move || theirs.get().into_iter().for_each(Told::ask_to_tell);
        let options = RecordingOptions {
            program: program(py),
            library: Some(concat!("vk-mem ", env!("CARGO_PKG_VERSION")).into()),
            counter: counter(),
            on_failure: Some(OnFailure(Arc::new(tell))),
            ..RecordingOptions::default()
        };
        let (path, auto_save) = match &place {
            Place::File(path) => (Some(path.clone()), AutoSave::default()),
            Place::Ring(_, auto_save) => (None, auto_save.clone()),
        };
        let begun: io::Result<Recording> = detach(py, || {
            let target = match &place {
                Place::File(path) => {
                    let file = Box::new(File::create(path)?);
                    match Timeline::of(path) {
                        Some(_) => Target::Timeline(file),
                        None => Target::Writer(file),
                    }
                }
                Place::Ring(events, _) => Target::Ring(*events),
            };
            Recording::begin(target, options)
        });
        let recording = begun.map_err(|error| os_error(py, &error, path.as_deref()))?;
        let session = Arc::new(Self {
            recording,
            path,
            auto_save,
            saved: Mutex::new(None),
            process: Process::current(),
            is_over: AtomicBool::new(false),
            has_warned: AtomicBool::new(false),
        });
        let fails: Weak<dyn Fails> = Arc::<Self>::downgrade(&session);
        let _ = failed.set(Told::new(fails));
        if session.path.is_some() {
            let mut open = OPEN.lock();
            open.retain(|it| it.strong_count() > 0);
            open.push(Arc::downgrade(&session));
        }
        Ok(session)
    }

    /// Returns the recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Returns whether it was begun in this process, and not before a fork.
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Returns whether it has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Raises in the child of a fork.
    pub fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(invalid(py, "the recording was begun before os.fork(): begin another in this process"))
    }

    /// Ends a recording in a file: waits until all is written. A ring stays, to be saved.
    pub fn end(&self, py: Python<'_>) {
        if self.path.is_none() || !self.is_here() || self.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        let finished = detach(py, || self.recording.finish());
        if finished.error.is_some() {
            self.warn_of_failure(py);
        }
        if finished.dropped > 0 {
            let path = self.shown_path();
            let calls = finished.dropped;
            warn(py, &format!("{path}: {calls} calls were not recorded, as the disk was too slow"));
        }
    }

    fn shown_path(&self) -> String {
        self.path.as_ref().map_or_else(|| "a ring".into(), |path| path.display().to_string())
    }

    /// Writes what a ring has to a file, as a recording or as a timeline if its name says so; returns the number of its
    /// events. Raises `OSError`.
    pub fn save(&self, py: Python<'_>, path: &Path) -> PyResult<u64> {
        self.check_process(py)?;
        let saved = detach(py, || self.save_to(path));
        saved.map_err(|error| os_error(py, &error, Some(path)))
    }

    fn save_to(&self, path: &Path) -> io::Result<u64> {
        let mut file = File::create(path)?;
        let Some(timeline) = Timeline::of(path) else {
            return self.recording.save(&mut file).unwrap_or(Ok(0));
        };
        let mut bytes = Vec::new();
        let events = self.recording.save(&mut bytes).unwrap_or(Ok(0))?;
        timeline.write(load(&bytes).map_err(io::Error::other)?, file)?;
        Ok(events)
    }

    /// Saves the ring if it is to be saved by itself for a reason, and was not a moment ago.
    fn save_by_itself(&self, is_reason: bool) {
        let Some(path) = self.auto_save.path.as_deref().filter(|_| is_reason && self.is_here())
        else {
            return;
        };
        {
            let mut saved = self.saved.lock();
            if saved.is_some_and(|at| at.elapsed() < SAVED_LATELY) {
                return;
            }
            *saved = Some(Instant::now());
        }
        // A timeline may need a replay. Whoever tells an event lets Python code run meanwhile.
        let mut saved = Ok(0);
        without_gil(|| saved = self.save_to(path));
        if saved.is_err() {
            crate::interpreter::try_attach(|py| {
                let path = path.display();
                warn(py, &format!("{path}: the ring cannot be saved there"));
            });
        }
    }

    /// Saves the ring, if that is wanted when overwritten memory was found.
    pub fn note_corruption(&self) {
        self.save_by_itself(self.auto_save.on_corruption);
    }
}

impl Fails for Session {
    /// Warns once that the file cannot be written any more.
    fn warn_of_failure(&self, py: Python<'_>) {
        if self.is_here() && !self.has_warned.swap(true, Ordering::AcqRel) {
            let path = self.shown_path();
            warn(py, &format!("{path}: the recording has ended, as its file cannot be written"));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its thread may be writing to a slow disk.
        if self.is_here() {
            without_gil(|| drop(self.recording.finish()));
        }
    }
}

/// Saves its ring when an allocation fails.
impl Listener for Session {
    fn interest(&self) -> u32 {
        if self.auto_save.on_out_of_memory { EventKind::Failure.bit() } else { 0 }
    }

    fn receive(&self, event: &Event<'_>) {
        // Also what can never succeed.
        let is_short =
            |error: &Error| error.is_shortage() || matches!(error, Error::OutOfDeviceMemory { .. });
        self.save_by_itself(matches!(event, Event::Failure(error) if is_short(error)));
    }
}

/// Refuses the name of a timeline that cannot be read before it is complete.
fn check_name(py: Python<'_>, path: &Path) -> PyResult<()> {
    if Timeline::of(path) != Some(Timeline::Chrome) {
        return Ok(());
    }
    let (path, recording) = (path.display(), path.with_extension("vkmem"));
    let recording = recording.display();
    Err(invalid(
        py,
        format!(
            "{path}: a recording is no timeline for Chrome, which is complete only at its end: record to {recording:?}, then \
             make one by vk_mem.trace.load({recording:?}).to_chrome_json(...), or record to a .pftrace"
        ),
    ))
}

/// Refuses a file that a recording is being written to, which would be cut off, and a FIFO, which would wait for a
/// reader.
fn check_file(py: Python<'_>, path: &Path) -> PyResult<()> {
    let shown = path.display();
    if is_fifo(path) {
        return Err(invalid(py, format!("{shown} is a FIFO: record to a file")));
    }
    let Ok(file) = path.canonicalize() else { return Ok(()) };
    let open: Vec<_> = OPEN.lock().iter().filter_map(Weak::upgrade).collect();
    let is_written = |it: &Arc<Session>| {
        let theirs = it.path.as_ref().and_then(|it| it.canonicalize().ok());
        !it.is_over() && it.is_here() && file.is_file() && theirs.as_ref() == Some(&file)
    };
    if !open.iter().any(is_written) {
        return Ok(());
    }
    Err(invalid(
        py,
        format!(
            "{shown} is being recorded to: choose another file, or let several allocators share one recording, as in \
             Allocator(device, record=recording)"
        ),
    ))
}

/// Returns whether a path names a FIFO.
fn is_fifo(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        path.metadata().is_ok_and(|it| it.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Returns the program that runs: `sys.argv[0]`.
fn program(py: Python<'_>) -> Option<String> {
    let name = || -> PyResult<String> { py.import("sys")?.getattr("argv")?.get_item(0)?.extract() };
    name().ok().filter(|it| !it.is_empty())
}

/// Issues a warning where nothing may be raised.
fn warn(py: Python<'_>, message: &str) {
    in_finaliser(py, || {
        let message = std::ffi::CString::new(message.replace('\0', "?"))?;
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)
    });
}
