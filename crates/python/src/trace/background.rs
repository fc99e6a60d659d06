//! [`run`]: long work on a thread of its own, while the calling one listens for Ctrl-C and shows progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::interpreter;

/// How often signals are looked for.
const POLL: Duration = Duration::from_millis(40);

/// How far work is, and whether it is to stop.
#[derive(Default)]
pub struct Work {
    /// Steps that are done.
    pub done: AtomicU64,
    /// All steps; 0 if it is not known.
    pub total: AtomicU64,
    stops: AtomicBool,
}

impl Work {
    /// Notes how much is done, and all there is to do.
    pub fn note(&self, done: u64, total: u64) {
        self.total.store(total, Relaxed);
        self.done.store(done, Relaxed);
    }

    /// Returns whether to stop: nobody waits for the result any more.
    pub fn stops(&self) -> bool {
        self.stops.load(Relaxed)
    }
}

/// Whether work looks at [`Work::stops`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It does: it is waited for.
    Soon,
    /// It does not: it runs to its end, and its result is dropped.
    ByItself,
}

/// Calls `progress` if there is anything new to tell.
fn tell(
    progress: Option<&Bound<'_, PyAny>>,
    told: &mut Option<(u64, u64)>,
    work: &Work,
) -> PyResult<()> {
    let now = (work.done.load(Relaxed), work.total.load(Relaxed));
    match progress {
        Some(progress) if now.1 > 0 && *told != Some(now) => {
            *told = Some(now);
            progress.call1(now).map(drop)
        }
        _ => Ok(()),
    }
}

/// Runs a function on a thread of its own and returns its result. `progress` is called with what is done and all there is
/// to do, as long as it runs and when it has ended.
///
/// # Errors
/// What a signal handler or `progress` raises: the work is told to stop then.
pub fn run<T: Send + 'static>(
    py: Python<'_>,
    ends: Ends,
    progress: Option<&Bound<'_, PyAny>>,
    function: impl FnOnce(&Arc<Work>) -> T + Send + 'static,
) -> PyResult<T> {
    let work = Arc::new(Work::default());
    let (sender, receiver) = sync_channel(1);
    let of_thread = work.clone();
    let thread = Builder::new().name("vk-mem trace".into()).spawn(move || {
        // Whoever waited may have given up.
        let _ = sender.send(function(&of_thread));
    });
    thread.map_err(|error| PyOSError::new_err(format!("no thread can be started: {error}")))?;
    let (mut receiver, mut told, mut wait) = (receiver, None, POLL / 8);
    loop {
        // Moved there and back: a receiver may be sent to a thread, but not shared with one.
        let (got, back) = interpreter::detach(py, move || (receiver.recv_timeout(wait), receiver));
        (receiver, wait) = (back, POLL);
        match got {
            Ok(result) => {
                tell(progress, &mut told, &work)?;
                return Ok(result);
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the work on a trace has ended in a panic"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let asked = py.check_signals().and_then(|()| tell(progress, &mut told, &work));
        if let Err(error) = asked {
            work.stops.store(true, Relaxed);
            if ends == Ends::Soon {
                interpreter::detach(py, move || drop(receiver.recv()));
            }
            return Err(error);
        }
    }
}
