//! [`Move`]: one step of a defragmentation.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::handle::{Allocation, SlotKey};

/// How the source and the destination of a move lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// Apart. Both are live until one of them is freed.
    Apart,
    /// The destination overlaps its own source, which lies directly above a gap smaller than itself. Until
    /// the move ends only the gap is held, by an allocation of its own.
    Slide,
}

/// A move of an allocation to a place that is reserved for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Whether source and destination overlap.
    pub kind: MoveKind,
    /// The allocation as it is.
    pub source: Allocation,
    /// The allocation as it will be: of the same pool, size and alignment. Its id is that of the reserved
    /// place; after a slide the allocation gets another one.
    pub destination: Allocation,
}

/// Regions of an arena that take part in moves.
#[derive(Debug, Default)]
pub(crate) struct MovingRegions {
    /// Whether each is a source.
    roles: HashMap<SlotKey, bool, BuildHasherDefault<KeyHasher>>,
    /// Sources that may have been freed since, the next one to be looked at first.
    to_sweep: VecDeque<SlotKey>,
}

/// Sources that are looked at for each move: more than are added, so that those that were freed do not pile up.
const SWEPT_PER_MOVE: usize = 2;

/// Hashes a key by one multiplication: nobody can choose keys so that they collide, and a walk looks up each
/// region.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, key: u64) {
        let mixed = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl MovingRegions {
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    pub fn contains(&self, key: SlotKey) -> bool {
        self.roles.contains_key(&key)
    }

    /// Returns whether the region moves away, or has moved and is to be freed.
    pub fn is_source(&self, key: SlotKey) -> bool {
        self.roles.get(&key) == Some(&true)
    }

    /// Reserves host memory for one more move.
    pub fn try_reserve(&mut self) -> bool {
        self.roles.try_reserve(2).is_ok() && self.to_sweep.try_reserve(1).is_ok()
    }

    pub fn add(&mut self, source: SlotKey, destination: SlotKey) {
        self.roles.insert(source, true);
        self.roles.insert(destination, false);
        self.to_sweep.push_back(source);
    }

    pub fn remove(&mut self, key: SlotKey) {
        self.roles.remove(&key);
    }

    /// Forgets some sources that are not live any more. O(1): later calls look at the others.
    pub fn sweep(&mut self, is_live: impl Fn(SlotKey) -> bool) {
        for _ in 0..SWEPT_PER_MOVE.min(self.to_sweep.len()) {
            let Some(key) = self.to_sweep.pop_front() else { return };
            if !self.is_source(key) {
                continue;
            }
            match is_live(key) {
                // There is room: one was taken out.
                true => self.to_sweep.push_back(key),
                false => self.remove(key),
            }
        }
    }
}
