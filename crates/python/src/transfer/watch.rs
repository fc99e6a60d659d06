//! What looks for signals while a call runs, and tells how far it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError};
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_vulkan::{Job, Progress, Stopped};

use crate::errors::to_py;
use crate::interpreter::try_attach;

/// `progress=` is told of transfers above so many bytes.
pub const PROGRESS: u64 = 256 << 20;

/// Looks for signals while a call waits, and tells how far it is.
pub struct Watch {
    raised: Mutex<Option<PyErr>, rank::TransferFailure>,
    progress: Option<Py<PyAny>>,
    total: u64,
    /// The bytes that it was called with last.
    told: AtomicU64,
    /// When it has looked for them; not before it was asked for the first time.
    looked: Mutex<Option<Instant>, rank::TransferFailure>,
}

/// How often it looks for signals between pieces.
const LOOK: Duration = Duration::from_millis(50);

impl Watch {
    /// Looks for signals alone, for a call without `progress`.
    pub fn quiet() -> Self {
        Self::new(None, 0)
    }

    /// Looks for signals, and calls `progress(done, total)` between pieces and at the end, for transfers above
    /// [`PROGRESS`].
    pub fn of(progress: Option<&Bound<'_, PyAny>>, total: u64) -> PyResult<Self> {
        let progress = match progress {
            Some(given) if !given.is_callable() => {
                let kind = given.get_type().name()?;
                let why = format!("progress must be callable with (bytes_done, bytes), not {kind}");
                return Err(PyTypeError::new_err(why));
            }
            Some(given) if total > PROGRESS => Some(given.clone().unbind()),
            _ => None,
        };
        Ok(Self::new(progress, total))
    }

    fn new(progress: Option<Py<PyAny>>, total: u64) -> Self {
        let (raised, looked) = (Mutex::new(None), Mutex::new(None));
        Self { raised, progress, total, looked, told: AtomicU64::new(0) }
    }

    fn stops(&self, run: impl FnOnce(Python<'_>) -> PyResult<()>) -> bool {
        let ran = try_attach(|py| run(py).map_err(|error| *self.raised.lock() = Some(error)));
        // Without an interpreter nobody waits any more.
        ran.is_none_or(|ran| ran.is_err())
    }

    /// For the engine, while it waits.
    pub fn pause(&self) -> bool {
        self.stops(|py| py.check_signals())
    }

    /// For the engine, between pieces.
    pub fn between(&self, done: u64) -> bool {
        let is_time = {
            let mut looked = self.looked.lock();
            let now = Instant::now();
            let is_time = now.duration_since(*looked.get_or_insert(now)) >= LOOK;
            if is_time {
                *looked = Some(now);
            }
            is_time
        };
        match &self.progress {
            Some(progress) => self.stops(|py| {
                let done = done.min(self.total);
                self.told.store(done, Ordering::Relaxed);
                progress.call1(py, (done, self.total))?;
                py.check_signals()
            }),
            None => is_time && self.pause(),
        }
    }

    /// Tells of all bytes, if it has not yet: the copies of the call are made or submitted.
    pub fn finish(&self, py: Python<'_>, job: &Job) -> PyResult<()> {
        let has_failed = || matches!(job.progress(), Progress::Ended(Some(_)));
        match &self.progress {
            Some(progress) if !has_failed() && self.told.load(Ordering::Relaxed) != self.total => {
                progress.call1(py, (self.total, self.total)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The exception of a call that was stopped.
    pub fn result<T>(self, py: Python<'_>, done: Result<T, Stopped>) -> PyResult<T> {
        match done {
            Ok(value) => Ok(value),
            Err(Stopped::Failed(error)) => Err(to_py(py, &error)),
            Err(Stopped::Interrupted) => {
                Err(self.raised.lock().take().unwrap_or_else(|| {
                    PyKeyboardInterrupt::new_err("the transfer was interrupted")
                }))
            }
        }
    }
}
