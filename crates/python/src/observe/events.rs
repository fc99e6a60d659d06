//! [`Events`]: the one place where every change of an allocator is passed to its listeners: call sites,
//! watches, the statistics server. A kind of event without listeners costs one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};

use super::event::{Batch, Event, EventKind, Observable, Traced};

/// Receives the events of an allocator.
pub trait Listener: Send + Sync {
    /// Returns the kinds that it receives, as [`EventKind::bit`]s. Must be constant.
    fn interest(&self) -> u32;

    /// Receives an event of one of these kinds, on the thread whose call caused it, outside of all locks.
    fn receive(&self, event: &Event<'_>);
}

/// The listeners of an allocator, in the order in which they were added.
#[derive(Default)]
pub struct Events {
    /// Bitwise or of all interests.
    interests: AtomicU32,
    listeners: Mutex<Arc<[Arc<dyn Listener>]>, rank::Listeners>,
}

impl Events {
    /// Adds a listener. Events of calls that are running may not reach it.
    pub fn begin(&self, listener: Arc<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        self.interests.fetch_or(listener.interest(), Ordering::Relaxed);
        *listeners = listeners.iter().cloned().chain([listener]).collect();
    }

    /// Removes a listener; does nothing if it was removed before.
    pub fn end(&self, listener: &Arc<dyn Listener>) {
        let mut listeners = self.listeners.lock();
        *listeners = listeners.iter().filter(|it| !Arc::ptr_eq(it, listener)).cloned().collect();
        let left = listeners.iter().fold(0, |all, it| all | it.interest());
        self.interests.store(left, Ordering::Relaxed);
    }

    /// Returns whether a kind of event has listeners.
    #[inline(always)]
    pub fn is_heard(&self, kind: EventKind) -> bool {
        self.interests.load(Ordering::Relaxed) & kind.bit() != 0
    }

    /// Passes an event to its listeners; it is only built if there is one.
    #[inline]
    pub fn tell<'a>(&self, kind: EventKind, event: impl FnOnce() -> Event<'a>) {
        if self.is_heard(kind) {
            self.send(&event());
        }
    }

    /// Passes on new resources; `name` returns the name that each is given. The caller holds no lock. Returns
    /// whether anybody listens.
    #[inline]
    pub fn tell_created<'a, T: Traced>(
        &self,
        py: Python<'_>,
        resources: &[T],
        name: impl Fn(usize) -> Option<&'a str>,
    ) -> bool {
        let is_heard = self.is_heard(EventKind::Create);
        if is_heard && !resources.is_empty() {
            self.send_created(py, resources, &name);
        }
        is_heard
    }

    #[cold]
    fn send_created<'n, T: Traced>(
        &self,
        py: Python<'_>,
        resources: &[T],
        name: &dyn Fn(usize) -> Option<&'n str>,
    ) {
        let at = |index: usize| -> &dyn Traced { &resources[index] };
        let name = &|index: usize| name(index);
        self.send(&Event::Create { py, resources: Batch::new(resources.len(), &at), name });
    }

    /// Passes on resources that are about to be released.
    #[inline]
    pub fn tell_freed(&self, resources: &[impl Observable]) {
        if self.is_heard(EventKind::Free) && !resources.is_empty() {
            self.send_freed(resources);
        }
    }

    #[cold]
    fn send_freed(&self, resources: &[impl Observable]) {
        let at = |index: usize| -> &dyn Observable { &resources[index] };
        self.send(&Event::Free(Batch::new(resources.len(), &at)));
    }

    /// Passes on resources that were lost.
    pub fn tell_lost(&self, resources: &[impl Observable]) {
        if self.is_heard(EventKind::Lose) && !resources.is_empty() {
            let at = |index: usize| -> &dyn Observable { &resources[index] };
            self.send(&Event::Lose(Batch::new(resources.len(), &at)));
        }
    }

    #[cold]
    fn send(&self, event: &Event<'_>) {
        let bit = event.kind().bit();
        // Without the lock: a listener may run Python code, which may come back here.
        let listeners = self.listeners.lock().clone();
        for listener in listeners.iter().filter(|it| it.interest() & bit != 0) {
            listener.receive(event);
        }
    }
}
