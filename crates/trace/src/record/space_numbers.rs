//! [`SpaceNumbers`]: the numbers of virtual allocations in a recording.

use std::collections::HashMap;

use vkmem_engine::SlotKey;

use crate::dictionary::Mixing;

/// Numbers of the live allocations of one block or set, by their blocks and handles.
type Live = HashMap<(u32, SlotKey), u32, Mixing>;

/// Numbers of virtual allocations.
#[derive(Default)]
pub(super) struct SpaceNumbers {
    spaces: HashMap<u32, Live>,
    next: u32,
}

impl SpaceNumbers {
    /// Returns those of one block or set.
    pub fn of(&mut self, space: u32) -> &mut Live {
        self.spaces.entry(space).or_insert_with(|| HashMap::with_hasher(Mixing::new()))
    }

    /// Numbers an allocation.
    pub fn add(&mut self, space: u32, block: u32, key: SlotKey) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.of(space).insert((block, key), number);
        number
    }

    /// Returns the number of an allocation.
    pub fn get(&mut self, space: u32, block: u32, key: SlotKey) -> Option<u32> {
        self.of(space).get(&(block, key)).copied()
    }

    /// Forgets all of a block or set.
    pub fn forget(&mut self, space: u32) {
        self.spaces.remove(&space);
    }

    /// Forgets an allocation; returns its number.
    pub fn remove(&mut self, space: u32, block: u32, key: SlotKey) -> Option<u32> {
        self.of(space).remove(&(block, key))
    }
}
