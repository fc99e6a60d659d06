//! [`Inbox`]: events that were told and are not encoded yet.

use std::time::{Duration, Instant};

use vkmem_engine::lock::{Condvar, Mutex, rank};

use super::raw::Raw;

/// Events at which the writer is woken before its time. So few that they stay in the cache of the core that tells them;
/// fewer would wake it too often.
const FULL: usize = 512;
/// Events beyond which more are dropped: some tens of MiB.
const MOST: usize = 1 << 17;
/// The longest time that an event waits to be encoded, if the writer can keep up.
const PATIENCE: Duration = Duration::from_millis(100);

struct Inside {
    events: Vec<Raw>,
    /// Events that were dropped since the last look.
    dropped: u64,
    /// Whether the writer waits for the first event.
    is_idle: bool,
    /// Whether somebody waits until all is written, or the recording ends.
    hurry: bool,
    /// Whether nothing is recorded any more.
    is_closed: bool,
}

/// Told events, in the order in which they came.
pub(super) struct Inbox {
    inside: Mutex<Inside, rank::RecordedEvents>,
    changed: Condvar,
    most: usize,
}

impl Inbox {
    pub fn new() -> Self {
        Self::with_room_for(MOST)
    }

    pub fn with_room_for(most: usize) -> Self {
        let events = Vec::with_capacity(FULL.min(most) + 64);
        let inside = Inside { events, dropped: 0, is_idle: false, hurry: false, is_closed: false };
        Self { inside: Mutex::new(inside), changed: Condvar::new(), most }
    }

    /// Adds an event, or counts one that is dropped.
    #[inline]
    pub fn push(&self, event: Raw) {
        let mut inside = self.inside.lock();
        if inside.is_closed {
            return;
        }
        if inside.events.len() >= self.most
            || (inside.events.len() == inside.events.capacity()
                && inside.events.try_reserve(FULL).is_err())
        {
            inside.dropped += 1;
            return;
        }
        inside.events.push(event);
        let is_first = std::mem::take(&mut inside.is_idle);
        if is_first || inside.events.len() == FULL {
            drop(inside);
            self.changed.notify_all();
        }
    }

    /// Takes all events and how many were dropped after them; `empty` takes the next ones.
    pub fn take(&self, mut empty: Vec<Raw>) -> (Vec<Raw>, u64) {
        empty.clear();
        let mut inside = self.inside.lock();
        let events = std::mem::replace(&mut inside.events, empty);
        (events, std::mem::take(&mut inside.dropped))
    }

    /// Takes no more events, and drops those that are there.
    pub fn close(&self) {
        let mut inside = self.inside.lock();
        inside.is_closed = true;
        let events = std::mem::take(&mut inside.events);
        drop(inside);
        drop(events);
    }

    /// Lets the writer look now.
    pub fn hurry(&self) {
        self.inside.lock().hurry = true;
        self.changed.notify_all();
    }

    /// Waits until the writer has something to do: for events, unless it `holds` some, and then until there are many, or
    /// some time has passed. Returns whether somebody waits for it.
    pub fn wait(&self, holds: bool) -> bool {
        let mut inside = self.inside.lock();
        while inside.events.is_empty() && inside.dropped == 0 && !inside.hurry && !holds {
            inside.is_idle = true;
            self.changed.wait(&mut inside);
        }
        inside.is_idle = false;
        let end = Instant::now() + PATIENCE;
        while inside.events.len() < FULL && !inside.hurry {
            if !self.changed.wait_until(&mut inside, end) {
                break;
            }
        }
        std::mem::take(&mut inside.hurry)
    }
}
