//! Number of events of each kind.

use std::sync::atomic::{AtomicU64, Ordering};

use super::event::{Event, EventKind};
use super::events::Listener;

/// Listener that counts the events of an allocator by kind.
#[derive(Default)]
pub struct EventCounts([AtomicU64; EventKind::ALL.len()]);

impl EventCounts {
    /// Returns the name and the count of each kind.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |kind: EventKind| self.0[kind as usize].load(Ordering::Relaxed);
        EventKind::ALL.iter().map(move |&(kind, name)| (name, count(kind)))
    }
}

impl Listener for EventCounts {
    fn interest(&self) -> u32 {
        EventKind::ALL.iter().fold(0, |all, (kind, _)| all | kind.bit())
    }

    fn receive(&self, event: &Event<'_>) {
        self.0[event.kind() as usize].fetch_add(event.count(), Ordering::Relaxed);
    }
}
