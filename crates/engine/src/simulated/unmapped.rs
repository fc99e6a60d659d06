//! Memory that was freed, and stays at its address for those who still look there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::store::Store;
use crate::lock::{Mutex, rank};

/// Maximum size of freed memory that stays at its address, in bytes; the oldest goes first.
const KEPT_BYTES: usize = 256 << 20;

/// Freed memory, the oldest first.
#[derive(Debug, Default)]
struct Kept {
    stores: VecDeque<Arc<Store>>,
    size: usize,
}

/// The switch, and the memory that was freed since it is on.
#[derive(Debug, Default)]
pub(super) struct Unmapped {
    is_poisoned: AtomicBool,
    kept: Mutex<Kept, rank::SimulatedUnmapped>,
}

impl Unmapped {
    pub(super) fn set_poisoned(&self, on: bool) {
        self.is_poisoned.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Relaxed)
    }

    /// Keeps memory that was freed, and lets the oldest go where that is too much.
    pub(super) fn keep(&self, store: Arc<Store>) {
        let mut kept = self.kept.lock();
        kept.size += store.size();
        kept.stores.push_back(store);
        let mut gone = Vec::new();
        while kept.size > KEPT_BYTES
            && let Some(oldest) = kept.stores.pop_front()
        {
            kept.size -= oldest.size();
            gone.push(oldest);
        }
        drop(kept);
        // Without the lock: returning pages to the system takes time.
        drop(gone);
    }
}
