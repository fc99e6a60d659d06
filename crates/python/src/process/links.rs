//! Python objects that other objects hold on behalf of the caller, and forks.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors::invalid;
use crate::interpreter::enter_thread;

thread_local! {
    /// Objects to let go of, while one is being let go of further up the stack.
    static WAITING: RefCell<Option<Vec<Py<PyAny>>>> = const { RefCell::new(None) };
}

/// A reference that is let go of without recursion: a chain of user data may be as long as memory
/// goes, and a stack is not.
pub struct Link<T>(ManuallyDrop<Py<T>>);

impl<T> Link<T> {
    /// Takes a reference over.
    pub fn new(object: Py<T>) -> Self {
        Self(ManuallyDrop::new(object))
    }
}

impl<T> Deref for Link<T> {
    type Target = Py<T>;

    fn deref(&self) -> &Py<T> {
        &self.0
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let object = unsafe { ManuallyDrop::take(&mut self.0) }.into_any();
        let outermost = WAITING.with(|waiting| match &mut *waiting.borrow_mut() {
            Some(others) => {
                others.push(object);
                None
            }
            nobody => {
                *nobody = Some(Vec::new());
                Some(object)
            }
        });
        let Some(first) = outermost else { return };
        let mut next = Some(first);
        while let Some(object) = next {
            drop(object);
            next = WAITING.with(|waiting| waiting.borrow_mut().as_mut().and_then(Vec::pop));
        }
        WAITING.with(|waiting| *waiting.borrow_mut() = None);
    }
}

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
