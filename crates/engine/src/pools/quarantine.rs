//! [`Quarantine`]: freed regions, or memory objects, that are not given out again yet, the oldest first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use crate::debugging::options::QuarantineLimit;
use crate::handle::{PoolKey, SlotKey};
use crate::key_map::KeyMap;
use crate::lock::{RwLock, rank};
use crate::pools::leaving::QuarantineOwner;
use crate::pools::overdue::EndQuarantine;

/// The freed allocations that leave a quarantine together: so many are looked at before any of them is given out.
pub(crate) const LEAVING_AT_ONCE: usize = 256;

/// One freed allocation; `T` is what keeps its memory.
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    /// The key that it had.
    pub former: SlotKey,
    /// Size in bytes, without margins.
    pub size: u64,
    /// The frame in which it was freed.
    pub frame: u64,
    pub memory: T,
}

/// Freed allocations by the key under which they are kept.
#[derive(Debug)]
pub(crate) struct Quarantine<T> {
    limit: QuarantineLimit,
    entries: KeyMap<SlotKey, Entry<T>>,
    /// Those that have not begun to leave, the oldest first, and their bytes.
    order: VecDeque<SlotKey>,
    waiting_bytes: u64,
    /// Bytes of all entries.
    bytes: u64,
}

impl<T: Clone> Quarantine<T> {
    pub fn new(limit: QuarantineLimit) -> Self {
        let (entries, order) = (KeyMap::default(), VecDeque::new());
        Self { limit, entries, order, waiting_bytes: 0, bytes: 0 }
    }

    /// Reserves host memory for one more entry; returns false if there is none.
    #[must_use]
    pub fn try_reserve(&mut self) -> bool {
        self.entries.try_reserve(1).is_ok() && self.order.try_reserve(1).is_ok()
    }

    /// Adds an entry, for which there is room.
    pub fn push(&mut self, key: SlotKey, entry: Entry<T>) {
        self.bytes += entry.size;
        self.waiting_bytes += entry.size;
        self.entries.insert(key, entry);
        self.order.push_back(key);
    }

    /// Returns number and bytes of the entries.
    pub fn held(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.bytes)
    }

    pub fn get(&self, key: SlotKey) -> Option<&Entry<T>> {
        self.entries.get(&key)
    }

    pub fn contains(&self, key: SlotKey) -> bool {
        self.entries.contains_key(&key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SlotKey, &Entry<T>)> + Clone {
        self.entries.iter().map(|(&key, entry)| (key, entry))
    }

    /// Returns whether the oldest entry is to leave.
    pub fn is_overdue(&self, frame: u64) -> bool {
        let oldest = self.order.front().and_then(|key| self.entries.get(key));
        oldest.is_some_and(|oldest| match self.limit {
            QuarantineLimit::Bytes(most) => self.waiting_bytes > most,
            QuarantineLimit::Frames(count) => frame.saturating_sub(oldest.frame) >= count,
        })
    }

    /// Lets some entries leave, the oldest first: the overdue ones, or all. They stay entries until they are
    /// [removed](Self::remove). Fewer, or none, without host memory.
    pub fn take_leaving(&mut self, frame: u64, all: bool) -> Vec<(SlotKey, Entry<T>)> {
        let mut leaving = Vec::new();
        while leaving.len() < LEAVING_AT_ONCE && (all || self.is_overdue(frame)) {
            if leaving.try_reserve(1).is_err() {
                break;
            }
            let Some(key) = self.order.pop_front() else { break };
            let entry = self.entries.get(&key).expect("it waits").clone();
            self.waiting_bytes -= entry.size;
            leaving.push((key, entry));
        }
        leaving
    }

    /// Removes an entry that was [leaving](Self::take_leaving).
    pub fn remove(&mut self, key: SlotKey) -> Option<Entry<T>> {
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.size;
        Some(entry)
    }
}

/// What the quarantines of all pools share.
#[derive(Default)]
pub(crate) struct Quarantines {
    /// The number of the current frame.
    frame: AtomicU64,
    owner: RwLock<Option<Arc<dyn QuarantineOwner>>, rank::QuarantineOwner>,
    pools: OnceLock<Weak<dyn EndQuarantine>>,
}

impl Quarantines {
    pub fn frame(&self) -> u64 {
        self.frame.load(Relaxed)
    }

    pub fn set_frame(&self, frame: u64) {
        self.frame.fetch_max(frame, Relaxed);
    }

    pub fn owner(&self) -> Option<Arc<dyn QuarantineOwner>> {
        self.owner.read().clone()
    }

    pub fn set_owner(&self, owner: Option<Arc<dyn QuarantineOwner>>) {
        let before = std::mem::replace(&mut *self.owner.write(), owner);
        // Without the lock: it may run foreign code.
        drop(before);
    }

    /// Notes the pools, once.
    pub fn set_pools(&self, pools: Weak<dyn EndQuarantine>) {
        let _ = self.pools.set(pools);
    }
}

impl EndQuarantine for Quarantines {
    fn end_overdue(&self, pool_key: PoolKey) {
        if let Some(pools) = self.pools.get().and_then(Weak::upgrade) {
            pools.end_overdue(pool_key);
        }
    }
}
