//! [`Running`]: what goes on in the checks of an allocator at the moment, and what they have left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_vulkan::UnfinishedCheck;

use crate::interpreter::{detach, try_attach};
use crate::lifetime::ownership::{AllocatorState, Background, Resource};

/// How long a wait for what was left behind takes at a time before it looks for signals.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Threads {
    /// Those that check all: what they call meanwhile does not.
    checking: Vec<ThreadId>,
    /// Those in a callback of `on_corruption`: what they find there is told without another call of it.
    telling: Vec<ThreadId>,
    /// Those in a call that changes something: all was checked when that began.
    changing: Vec<ThreadId>,
    /// What handlers of signals have raised while a check has waited, with the thread whose call has to raise it.
    interrupts: Vec<(ThreadId, PyErr)>,
}

/// What goes on in the checks of an allocator.
#[derive(Default)]
pub struct Running {
    threads: Mutex<Threads, rank::DebugChecks>,
    /// Whether there may be interrupts.
    has_interrupts: AtomicBool,
    /// What the device still uses of checks that were interrupted.
    unfinished: Mutex<Vec<UnfinishedCheck>, rank::DebugChecks>,
    /// Whether all was checked for the last time: the interpreter exits.
    is_over: AtomicBool,
}

/// A thread is in one of the lists until this is dropped.
struct Entry<'a> {
    of: &'a Running,
    list: fn(&mut Threads) -> &mut Vec<ThreadId>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let me = thread::current().id();
        (self.list)(&mut self.of.threads.lock()).retain(|it| *it != me);
    }
}

impl Running {
    /// Puts this thread into a list; `None` if it is there already.
    fn enter(&self, list: fn(&mut Threads) -> &mut Vec<ThreadId>) -> Option<Entry<'_>> {
        let me = thread::current().id();
        let mut threads = self.threads.lock();
        let ids = list(&mut threads);
        let is_new = !ids.contains(&me);
        if is_new {
            ids.push(me);
        }
        // Not made for nothing: its end takes the thread out of the list.
        is_new.then(|| Entry { of: self, list })
    }

    /// Runs a check of all; does nothing, and returns `None`, on a thread that is inside of one, or of a callback that
    /// is told what another has found.
    pub fn check_all<T>(&self, check: impl FnOnce() -> T) -> Option<T> {
        let is_telling = self.threads.lock().telling.contains(&thread::current().id());
        if is_telling {
            return None;
        }
        let _entry = self.enter(|it| &mut it.checking)?;
        Some(check())
    }

    /// Runs what calls the callback; `None` on a thread that is inside of it.
    pub fn tell<T>(&self, tell: impl FnOnce() -> T) -> Option<T> {
        let _entry = self.enter(|it| &mut it.telling)?;
        Some(tell())
    }

    /// Begins a call of this thread that changes something.
    pub fn begin_change(&self) {
        self.threads.lock().changing.push(thread::current().id());
    }

    /// Ends that.
    pub fn end_change(&self) {
        let me = thread::current().id();
        self.threads.lock().changing.retain(|it| *it != me);
    }

    /// Returns whether this thread is in a call that changes something.
    pub fn is_changing(&self) -> bool {
        self.threads.lock().changing.contains(&thread::current().id())
    }

    /// Looks for signals while a check waits; returns whether it has to stop, because a handler has raised something.
    pub fn pause(&self) -> bool {
        let looked = try_attach(|py| py.check_signals());
        match looked {
            Some(Ok(())) => false,
            Some(Err(raised)) => {
                self.interrupt(raised);
                true
            }
            // Without an interpreter nobody waits any more.
            None => true,
        }
    }

    /// Keeps an exception that this thread has to raise at the end of its call.
    pub fn interrupt(&self, raised: PyErr) {
        let mut threads = self.threads.lock();
        threads.interrupts.push((thread::current().id(), raised));
        self.has_interrupts.store(true, Ordering::Relaxed);
    }

    /// Returns whether a thread may have an exception to raise.
    pub fn has_interrupts(&self) -> bool {
        self.has_interrupts.load(Ordering::Relaxed)
    }

    /// Takes the first exception that this thread has to raise.
    pub fn take_interrupt(&self) -> Option<PyErr> {
        let me = thread::current().id();
        let mut threads = self.threads.lock();
        let at = threads.interrupts.iter().position(|it| it.0 == me)?;
        let (_, raised) = threads.interrupts.remove(at);
        self.has_interrupts.store(!threads.interrupts.is_empty(), Ordering::Relaxed);
        Some(raised)
    }

    /// Keeps what the device still uses.
    pub fn leave(&self, unfinished: UnfinishedCheck) {
        self.unfinished.lock().push(unfinished);
    }

    /// Waits for what the device still uses, for at most a time; returns whether it is done with it.
    pub fn finish(&self, at_most: Duration) -> bool {
        let mut rest = std::mem::take(&mut *self.unfinished.lock());
        let end = Instant::now() + at_most;
        let is_done = |it: &UnfinishedCheck| it.wait(end.saturating_duration_since(Instant::now()));
        // Without the lock: dropping them calls the driver.
        rest.retain(|it| !is_done(it));
        let is_done = rest.is_empty();
        self.unfinished.lock().append(&mut rest);
        is_done
    }

    /// Notes that nothing is to be checked or filled any more.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Returns whether nothing is to be checked or filled any more.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl Background for Running {
    fn retire(&self, py: Python<'_>, _: &AllocatorState) {
        detach(py, || self.finish(Duration::ZERO));
    }

    fn uses(&self, _: &Resource) -> bool {
        // It keeps the memory itself; what becomes of the resource does not matter.
        false
    }

    fn is_busy(&self) -> bool {
        !self.unfinished.lock().is_empty()
    }

    fn settle(&self, py: Python<'_>, _: &AllocatorState, until: Option<Instant>) -> PyResult<bool> {
        while !detach(py, || self.finish(SLICE)) {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            py.check_signals()?;
        }
        Ok(true)
    }

    fn end(&self, _: &AllocatorState) {
        let rest = std::mem::take(&mut *self.unfinished.lock());
        drop(rest);
    }
}
