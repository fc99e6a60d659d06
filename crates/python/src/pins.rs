//! Counting who uses a thing right now, so that it cannot end under them.

use std::sync::atomic::{AtomicU32, Ordering};

const CLOSED: u32 = 1 << 31;

/// A count of users and a bit for the end.
#[derive(Debug, Default)]
pub struct Pins(AtomicU32);

/// One user; gone when dropped.
#[derive(Debug)]
pub struct Pinned<'a>(&'a Pins);

/// Why something did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClosed {
    /// It had ended before.
    Already,
    /// It is in use.
    InUse,
}

impl Pins {
    /// Registers a user for a while; `None` after the end.
    pub fn pin(&self) -> Option<Pinned<'_>> {
        self.add().then(|| Pinned(self))
    }

    /// Registers a user that [`remove`](Self::remove)s itself; false after the end.
    pub fn add(&self) -> bool {
        let more = |state: u32| (state & CLOSED == 0).then(|| state + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Undoes one [`add`](Self::add).
    pub fn remove(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Ends it, unless somebody uses it.
    pub fn close(&self) -> Result<(), NotClosed> {
        match self.0.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(state) if state & CLOSED != 0 => Err(NotClosed::Already),
            Err(_) => Err(NotClosed::InUse),
        }
    }

    /// Undoes a [`close`](Self::close) that turned out to be too early.
    pub fn reopen(&self) {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Whether somebody uses it.
    pub fn is_in_use(&self) -> bool {
        self.0.load(Ordering::Acquire) & !CLOSED != 0
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.0.remove();
    }
}
