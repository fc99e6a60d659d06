//! [`Pins`]: counts the current users of an object, so that it cannot end while in use.
//!
//! The count is only changed under the GIL, which takes the place of atomic read-modify-writes: each of those
//! stalls the pipeline, and a create with its destroy would need five. The stable ABI of CPython, which this
//! module is built for, has no free-threaded build.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::Python;

const CLOSED: u32 = 1 << 31;
/// Beside [`CLOSED`]: it is open again after the move.
const MOVING: u32 = 1 << 30;
/// Calls that pin it do something first, see [`Pins::watch`].
const WATCHED: u32 = 1 << 29;

/// A count of users, and a bit that says that the object has ended.
#[derive(Debug, Default)]
pub struct Pins(AtomicU32);

/// One user, until dropped, which happens under the GIL.
#[derive(Debug)]
pub struct Pinned<'a>(&'a Pins, PhantomData<Python<'a>>);

/// Why an object was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClosed {
    /// It was closed before.
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

    /// Pins the object until the result is dropped; `None` if it is closed.
    #[inline]
    pub fn pin<'a>(&'a self, py: Python<'a>) -> Option<Pinned<'a>> {
        self.add(py).then(|| Pinned(self, PhantomData))
    }

    /// Pins the object, unless it is closed or [watched](Self::watch).
    #[inline]
    pub fn pin_unwatched<'a>(&'a self, _: Python<'a>) -> Option<Pinned<'a>> {
        let state = self.state();
        if state & (CLOSED | WATCHED) != 0 {
            return None;
        }
        self.set(state + 1);
        Some(Pinned(self, PhantomData))
    }

    /// Has [`pin_unwatched`](Self::pin_unwatched) refuse from now on.
    pub fn watch(&self, _: Python<'_>) {
        self.set(self.state() | WATCHED);
    }

    /// Whether it is open and watched.
    pub fn is_watched(&self) -> bool {
        self.state() & (CLOSED | WATCHED) == WATCHED
    }

    /// Adds a user, which calls [`remove`](Self::remove) itself; false if the object is closed.
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

    /// Closes the object, unless it is in use.
    #[inline]
    pub fn close(&self, _: Python<'_>) -> Result<(), NotClosed> {
        let state = self.state();
        match state & !WATCHED {
            0 => {
                self.set(state | CLOSED);
                Ok(())
            }
            state if state & (CLOSED | MOVING) == CLOSED => Err(NotClosed::Already),
            _ => Err(NotClosed::InUse),
        }
    }

    /// Ends it for new users: those that are there stay until they go.
    pub fn close_to_new(&self, _: Python<'_>) {
        self.set(self.state() | CLOSED);
    }

    /// Closes the object for the time in which it moves; false if it is in use or has ended.
    pub fn begin_move(&self, _: Python<'_>) -> bool {
        let state = self.state();
        let is_unused = state & !WATCHED == 0;
        if is_unused {
            self.set(state | CLOSED | MOVING);
        }
        is_unused
    }

    /// Opens it again after a move, with one user if it is `used` from now on.
    pub fn end_move(&self, _: Python<'_>, used: bool) {
        self.set(self.state() & WATCHED | u32::from(used));
    }

    /// Whether it moves: it is in use, and will be open again.
    pub fn is_moving(&self) -> bool {
        self.state() & MOVING != 0
    }

    /// How many use it.
    pub fn count(&self) -> u32 {
        self.state() & !(CLOSED | MOVING | WATCHED)
    }

    /// Undoes a [`close`](Self::close) when a later check fails.
    pub fn reopen(&self, _: Python<'_>) {
        self.set(self.state() & !CLOSED);
    }

    /// Returns whether the object is closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state() & (CLOSED | MOVING) == CLOSED
    }

    /// Returns whether the object has users.
    pub fn is_in_use(&self) -> bool {
        self.count() != 0 || self.is_moving()
    }
}

impl Drop for Pinned<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.set(self.0.state() - 1);
    }
}
