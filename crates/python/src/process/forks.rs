//! What a fork leaves in its child: locks that may be held for ever, and no other thread.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors::invalid;
use crate::interpreter::enter_thread;

/// How often this process came out of a fork.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// What something remembers of the process that it was made in: its locks may be held for ever in the
/// child of a fork, and what they guard half changed.
pub struct Process(u32);

impl Process {
    /// This one.
    pub fn current() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether there was no fork since.
    pub fn is_this(&self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

/// Runs code of the caller's from inside of a call: an exception if the process was forked by it and this
/// is the child, which must not go on. A lock that another thread held at that moment is never let go of.
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

/// Called in the child of every fork; registered with `os.register_at_fork`.
#[pyfunction]
pub fn _after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
