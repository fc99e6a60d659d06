//! [`Source`]: receives what one allocator tells.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use vkmem_engine::recording::{Recorder, Told, next_number};

use super::clock::Clock;
use super::inbox::Inbox;
use super::raw::{Head, NO_SITE, Raw, RawFrame, What};

/// One function of a call stack: path of the file, line, name.
pub type CallSiteFrame = RawFrame;

static THREADS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// A number of the thread in its process.
    static THREAD: Cell<u32> = const { Cell::new(u32::MAX) };
    /// The call site of the call that is running.
    static SITE: Cell<u32> = const { Cell::new(NO_SITE) };
}

fn thread() -> u32 {
    match THREAD.get() {
        u32::MAX => {
            let number = THREADS.fetch_add(1, Relaxed);
            THREAD.set(number);
            number
        }
        number => number,
    }
}

/// Sets the call site of the next call of this thread that creates something, by the number that its allocator
/// [defined](Source::define_call_site); `None`: it has none.
pub fn set_call_site(number: Option<u32>) {
    SITE.set(number.unwrap_or(NO_SITE));
}

/// Puts what one allocator tells into a recording.
pub struct Source {
    pub(super) inbox: Arc<Inbox>,
    pub(super) allocator: u16,
    pub(super) clock: Clock,
}

impl Source {
    /// Returns the number of the allocator in the recording.
    pub fn number(&self) -> u16 {
        self.allocator
    }

    /// Tells what existed, or was done, before the recording began.
    pub fn tell_state(&self, told: &Told<'_>) {
        self.push(next_number(), What::of(told), true);
    }

    /// Says what a call site is: its functions, the innermost first. A number is defined once.
    pub fn define_call_site(&self, number: u32, frames: Vec<CallSiteFrame>) {
        self.push(next_number(), What::Site(number, frames), false);
    }

    #[inline]
    pub(super) fn push(&self, number: u64, what: What, is_state: bool) {
        let site = if what.has_site() { SITE.replace(NO_SITE) } else { NO_SITE };
        let head = Head {
            number,
            time: self.clock.stamp(),
            thread: thread(),
            site,
            allocator: self.allocator,
            is_state,
        };
        self.inbox.push(Raw { head, what });
    }
}

impl Recorder for Source {
    #[inline]
    fn tell(&self, number: u64, told: &Told<'_>) {
        self.push(number, What::of(told), false);
    }
}
