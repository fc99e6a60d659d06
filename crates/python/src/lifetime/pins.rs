//! Counting who uses a thing right now, so that it cannot end under them.
//!
//! Only who has the interpreter counts, which is what keeps others out: a locked instruction would hold
//! up all that comes after it, and a create and a destroy had five of them for this. The stable interface of
//! Python, which this module is built for, has no build without that lock.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::Python;

const CLOSED: u32 = 1 << 31;

/// A count of users and a bit for the end.
#[derive(Debug, Default)]
pub struct Pins(AtomicU32);

/// One user; gone when dropped, which happens where the interpreter is held.
#[derive(Debug)]
pub struct Pinned<'a>(&'a Pins, PhantomData<Python<'a>>);

/// Why something did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClosed {
    /// It had ended before.
    Already,
    /// It is in use.
    InUse,
}

impl Pins {
    fn state(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, state: u32) {
        self.0.store(state, Ordering::Release);
    }

    /// Registers a user for a while; `None` after the end.
    #[inline]
    pub fn pin<'a>(&'a self, py: Python<'a>) -> Option<Pinned<'a>> {
        self.add(py).then(|| Pinned(self, PhantomData))
    }

    /// Registers a user that [`remove`](Self::remove)s itself; false after the end.
    #[inline]
    pub fn add(&self, _: Python<'_>) -> bool {
        let state = self.state();
        let is_open = state & CLOSED == 0;
        if is_open {
            self.set(state + 1);
        }
        is_open
    }

    /// Undoes one [`add`](Self::add).
    #[inline]
    pub fn remove(&self, _: Python<'_>) {
        self.set(self.state() - 1);
    }

    /// Ends it, unless somebody uses it.
    #[inline]
    pub fn close(&self, _: Python<'_>) -> Result<(), NotClosed> {
        match self.state() {
            0 => {
                self.set(CLOSED);
                Ok(())
            }
            state if state & CLOSED != 0 => Err(NotClosed::Already),
            _ => Err(NotClosed::InUse),
        }
    }

    /// Ends it for new users: those that are there stay until they go.
    pub fn close_to_new(&self, _: Python<'_>) {
        self.set(self.state() | CLOSED);
    }

    /// How many use it.
    pub fn count(&self) -> u32 {
        self.state() & !CLOSED
    }

    /// Undoes a [`close`](Self::close) that turned out to be too early.
    pub fn reopen(&self, _: Python<'_>) {
        self.set(self.state() & !CLOSED);
    }

    /// Whether it has ended.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state() & CLOSED != 0
    }

    /// Whether somebody uses it.
    pub fn is_in_use(&self) -> bool {
        self.count() != 0
    }
}

impl Drop for Pinned<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.set(self.0.state() - 1);
    }
}
