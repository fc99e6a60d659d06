//! [`Move`]: one step of a defragmentation.

use std::collections::VecDeque;

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

/// Slots whose roles are stored together.
const PAGE: usize = 1024;

/// What the region of a slot does in a move.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Role {
    /// The generation of the region's key; 0: none of this slot takes part.
    generation: u32,
    is_source: bool,
}

/// The roles of [`PAGE`] slots each; an empty page has none.
pub(crate) type Pages = Vec<Vec<Role>>;

/// Regions of an arena that take part in moves, by slot: a walk looks up each region, and unlike a hash table
/// pages never have to be filled anew under the arena's lock.
#[derive(Debug, Default)]
pub(crate) struct MovingRegions {
    pages: Pages,
    /// Number of regions with a role.
    count: usize,
    /// Sources that may have been freed since their moves ended, the next one to be looked at first.
    to_sweep: VecDeque<SlotKey>,
}

/// Sources that are looked at for each move: more than are added, so that those that were freed do not pile up.
const SWEPT_PER_MOVE: usize = 2;

impl MovingRegions {
    fn role(&self, key: SlotKey) -> Option<Role> {
        let index = key.index() as usize;
        let role = *self.pages.get(index / PAGE)?.get(index % PAGE)?;
        (role.generation == key.generation() && role.generation != 0).then_some(role)
    }

    fn slot(&mut self, key: SlotKey) -> Option<&mut Role> {
        let index = key.index() as usize;
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn contains(&self, key: SlotKey) -> bool {
        self.role(key).is_some()
    }

    /// Returns whether the region moves away, or has moved and is to be freed.
    pub fn is_source(&self, key: SlotKey) -> bool {
        self.role(key).is_some_and(|role| role.is_source)
    }

    /// Returns whether the region is a place that something moves to.
    pub fn is_place(&self, key: SlotKey) -> bool {
        self.role(key).is_some_and(|role| !role.is_source)
    }

    /// Notes that a region takes part in a move; returns false if there is no host memory for that.
    #[must_use]
    pub fn add(&mut self, key: SlotKey, is_source: bool) -> bool {
        let page = key.index() as usize / PAGE;
        if page >= self.pages.len() {
            if self.pages.try_reserve(page + 1 - self.pages.len()).is_err() {
                return false;
            }
            self.pages.resize_with(page + 1, Vec::new);
        }
        if self.pages[page].is_empty() {
            if self.pages[page].try_reserve_exact(PAGE).is_err() {
                return false;
            }
            self.pages[page].resize(PAGE, Role::default());
        }
        let role = &mut self.pages[page][key.index() as usize % PAGE];
        // The role of a source that was freed, whose slot has got another region.
        self.count += usize::from(role.generation == 0);
        *role = Role { generation: key.generation(), is_source };
        true
    }

    pub fn remove(&mut self, key: SlotKey) {
        if self.contains(key) {
            self.count -= 1;
            *self.slot(key).expect("it is there") = Role::default();
        }
    }

    /// Notes that a source is to be freed, at any time. Without host memory for that its role stays.
    pub fn will_be_freed(&mut self, source: SlotKey) {
        if self.to_sweep.try_reserve(1).is_ok() {
            self.to_sweep.push_back(source);
        }
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

    /// Takes out the pages if no region has a role, to be freed without the arena's lock.
    pub fn take_unused(&mut self) -> Pages {
        if self.is_empty() { std::mem::take(&mut self.pages) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_belong_to_one_life_of_a_slot() {
        let mut moving = MovingRegions::default();
        let (old, new, far) = (SlotKey::new(5, 1), SlotKey::new(5, 3), SlotKey::new(5000, 7));
        assert!(moving.is_empty() && !moving.contains(old));
        assert!(moving.add(old, true) && moving.add(far, false));
        assert!(moving.is_source(old) && moving.contains(far) && !moving.is_source(far));
        assert!(!moving.contains(new) && !moving.contains(SlotKey::new(5, 0)));
        assert!(
            !moving.contains(SlotKey::new(4000, 0)) && !moving.contains(SlotKey::new(1 << 30, 1))
        );
        // Freed late, after its slot has another region.
        assert!(moving.add(new, false));
        moving.remove(old);
        assert!(moving.contains(new) && moving.take_unused().is_empty());
        moving.remove(new);
        moving.remove(far);
        assert!(moving.is_empty() && !moving.contains(far));
        assert_eq!(moving.take_unused().len(), 5);
    }

    #[test]
    fn sources_are_swept_once_they_are_freed() {
        let mut moving = MovingRegions::default();
        let keys: Vec<SlotKey> = (0..100).map(|slot| SlotKey::new(slot, 2 * slot + 1)).collect();
        for &key in &keys {
            assert!(moving.add(key, true));
            moving.will_be_freed(key);
        }
        let sweep = |moving: &mut MovingRegions, first_live: u32| {
            (0..100).for_each(|_| moving.sweep(|key| key.index() >= first_live));
        };
        sweep(&mut moving, 60);
        assert_eq!(keys.iter().filter(|&&key| moving.is_source(key)).count(), 40);
        sweep(&mut moving, 100);
        assert!(moving.is_empty() && moving.to_sweep.is_empty());
    }
}
