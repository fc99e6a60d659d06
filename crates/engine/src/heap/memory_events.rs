//! What the driver gave and took back, for those who want to be told.

use std::collections::LinkedList;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::device::MemoryHandle;
use crate::lock::{Mutex, rank};

/// Whether a memory object came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryEventKind {
    /// After `vkAllocateMemory`.
    Allocate,
    /// After `vkFreeMemory`; the handle may be another object's by now.
    Free,
}

/// One call of the driver that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEvent {
    /// Which call.
    pub kind: MemoryEventKind,
    /// The object.
    pub memory: MemoryHandle,
    /// Index into the device's types.
    pub memory_type_index: u32,
    /// In bytes.
    pub size: u64,
}

/// Is called when there are events and there were none before. It may run on any thread, inside of a call
/// of the engine and with its locks held: so it only wakes somebody up.
pub type WakeUp = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inside {
    /// One node each: what frees must not need a large table to grow.
    events: LinkedList<MemoryEvent>,
    wake_up: Option<WakeUp>,
}

/// Events in the order in which they happened, until somebody takes them.
#[derive(Default)]
pub(crate) struct MemoryEvents {
    is_watched: AtomicBool,
    /// Held while the driver frees, which may wait for the program: so not by who only looks.
    order: Mutex<(), rank::MemoryEventOrder>,
    inside: Mutex<Inside, rank::MemoryEvents>,
}

impl MemoryEvents {
    /// From now on events are kept, and `wake_up` tells of the first; with `None` no longer.
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

    /// Makes a call of the driver that `event` tells of and keeps the event; whether anybody wants it.
    ///
    /// Both under one lock, if so, and one event after the other: a handle that is freed here and given out
    /// again at once must not be reported as given out first.
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

    /// All that happened since this was called last.
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
