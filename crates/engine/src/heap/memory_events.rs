//! Events of `vkAllocateMemory` and `vkFreeMemory`, for listeners.

use std::collections::LinkedList;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::device::MemoryHandle;
use crate::lock::{Mutex, rank};

/// Whether a memory object was allocated or freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryEventKind {
    /// `vkAllocateMemory` succeeded.
    Allocate,
    /// `vkFreeMemory` returned; the driver may have reused the handle since.
    Free,
}

/// One successful driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEvent {
    /// The function.
    pub kind: MemoryEventKind,
    /// The memory object.
    pub memory: MemoryHandle,
    /// Index into the device's memory types.
    pub memory_type_index: u32,
    /// Size in bytes.
    pub size: u64,
}

/// Called when the first event is recorded after the list was empty. It may run on any thread, during a
/// call of the engine and while that holds locks; so it must do no more than wake another thread.
pub type WakeUp = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inside {
    /// A linked list: recording a `vkFreeMemory` must not need a large reallocation.
    events: LinkedList<MemoryEvent>,
    wake_up: Option<WakeUp>,
}

/// Events in the order in which they happened, until they are taken.
#[derive(Default)]
pub(crate) struct MemoryEvents {
    is_watched: AtomicBool,
    /// Held while the driver frees, which may wait for the program: so not by who only looks.
    order: Mutex<(), rank::MemoryEventOrder>,
    inside: Mutex<Inside, rank::MemoryEvents>,
}

impl MemoryEvents {
    /// Starts recording events and calls `wake_up` for the first one; `None` stops it and drops the
    /// events.
    pub fn watch(&self, wake_up: Option<WakeUp>) {
        let mut inside = self.inside.lock();
        self.is_watched.store(wake_up.is_some(), Relaxed);
        let old =
            (std::mem::take(&mut inside.events), std::mem::replace(&mut inside.wake_up, wake_up));
        drop(inside);
        drop(old);
    }

    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Relaxed)
    }

    /// Runs the driver call that `event` describes and records the event; returns whether it was
    /// recorded.
    ///
    /// While events are recorded, both happen under one lock, and one event after the other: otherwise a
    /// handle that is freed here and reused by the driver at once could be reported as allocated first.
    pub fn note(&self, event: MemoryEvent, call: impl FnOnce()) -> bool {
        if !self.is_watched() {
            call();
            return false;
        }
        let order = self.order.lock();
        call();
        let mut inside = self.inside.lock();
        let Some(wake_up) = inside.wake_up.clone() else { return false };
        let is_first = inside.events.is_empty();
        inside.events.push_back(event);
        drop(inside);
        drop(order);
        if is_first {
            wake_up();
        }
        true
    }

    /// Returns and removes the events since the last call.
    pub fn take(&self) -> LinkedList<MemoryEvent> {
        if !self.is_watched() {
            return LinkedList::new();
        }
        std::mem::take(&mut self.inside.lock().events)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const EVENT: MemoryEvent = MemoryEvent {
        kind: MemoryEventKind::Free,
        memory: MemoryHandle(1),
        memory_type_index: 0,
        size: 1,
    };

    /// The driver may run code of the program while it frees, and that may wait for who looks.
    #[test]
    fn who_looks_does_not_wait_for_a_driver_that_frees() {
        let events = MemoryEvents::default();
        events.watch(Some(Arc::new(|| {})));
        assert!(events.note(EVENT, || ()));
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let events = &events;
            let noted = events.note(EVENT, || {
                scope.spawn(move || tell.send(events.take().len()));
                assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(1));
            });
            assert!(noted);
        });
        assert_eq!(Vec::from_iter(events.take()), [EVENT]);
        events.watch(None);
        assert!(!events.note(EVENT, || ()));
        assert!(events.take().is_empty());
    }
}
