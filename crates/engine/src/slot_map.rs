//! [`SlotMap`]: values under keys that become stale when the value is removed.

use crate::handle::SlotKey;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under keys that become stale when the value is removed.
#[derive(Debug)]
pub struct SlotMap<T> {
    slots: Vec<Slot<T>>,
    vacant: Vec<u32>,
}

impl<T> Default for SlotMap<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new() }
    }
}

impl<T> SlotMap<T> {
    /// Reserves memory for one more value and for its removal; returns false if host memory is exhausted.
    #[must_use]
    pub fn try_reserve(&mut self) -> bool {
        let slots = self.slots.len() + 1;
        let vacant = slots - self.vacant.len();
        !self.vacant.is_empty()
            || (self.slots.try_reserve(1).is_ok() && self.vacant.try_reserve(vacant).is_ok())
    }

    /// Inserts a value and returns its key. O(1) amortised. Takes no memory after
    /// [`try_reserve`](Self::try_reserve).
    pub fn insert(&mut self, value: T) -> SlotKey {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 slots")
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.value = Some(value);
        SlotKey::new(index, slot.generation)
    }

    fn slot(&self, key: SlotKey) -> Option<&Slot<T>> {
        self.slots.get(key.index() as usize).filter(|slot| slot.generation == key.generation())
    }

    /// Returns the value; `None` if the key is stale. O(1).
    pub fn get(&self, key: SlotKey) -> Option<&T> {
        self.slot(key)?.value.as_ref()
    }

    /// Returns the value for modification; `None` if the key is stale. O(1).
    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        self.slot(key)?;
        self.slots[key.index() as usize].value.as_mut()
    }

    /// Removes and returns the value, and makes the key stale; `None` if it is stale already. O(1)
    /// amortised.
    pub fn remove(&mut self, key: SlotKey) -> Option<T> {
        self.slot(key)?;
        let slot = &mut self.slots[key.index() as usize];
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(key.index());
        Some(value)
    }

    /// Iterates over all keys and values. O(slots).
    pub fn iter(&self) -> impl Iterator<Item = (SlotKey, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = SlotKey::new(index as u32, slot.generation);
            Some((key, slot.value.as_ref()?))
        })
    }

    /// Returns the number of values. O(1).
    pub fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Returns whether there are no values. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_is_stale_for_ever() {
        let mut map = SlotMap::default();
        let a = map.insert("a");
        assert_eq!(map.get(a), Some(&"a"));
        assert_eq!(map.remove(a), Some("a"));
        assert_eq!(map.remove(a), None);
        let b = map.insert("b");
        assert_eq!(b.index(), a.index());
        assert_eq!(map.get(a), None);
        assert_eq!(map.get_mut(b), Some(&mut "b"));
        assert_eq!((map.len(), map.is_empty()), (1, false));
        assert_eq!(map.iter().count(), 1);
        let (c, d) = (map.insert("c"), map.insert("d"));
        assert_eq!(map.remove(c), Some("c"));
        assert!(map.get(d).is_some());
    }
}
