//! Forks: in the child, locks may be held for ever, and there are no other threads.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors::invalid;
use crate::interpreter::enter_thread;

/// Number of forks that this process is the child of.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that an object was created in. In the child of a fork the locks of the object may be held for
/// ever, and what they guard may be half changed.
pub struct Process(u32);

impl Process {
    /// Returns the current process.
    pub fn current() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Returns whether the process is the current one: no fork since.
    pub fn is_this(&self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

/// Runs code of the caller from inside of a call. Raises if that code forked and this is the child, which
/// must not go on: locks that other threads held during the fork are never released there.
pub fn in_one_process<T>(py: Python<'_>, run: impl FnOnce() -> T) -> PyResult<T> {
    enter_thread();
    let process = Process::current();
    let result = run();
    if process.is_this() {
        return Ok(result);
    }
    drop(result);
    Err(invalid(py, "os.fork() was called inside of this call, which goes on in the parent alone"))
}

/// Counts a fork; called in the child of every fork, registered with `os.register_at_fork`.
#[pyfunction]
pub fn _after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
