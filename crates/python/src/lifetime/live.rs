//! The list of everything that an allocator gave out and that has not ended.

use std::collections::TryReserveError;

use super::counted::{ListedRef, Owned, StrongRef};

/// References that count for nothing, in any order. Everything on it leaves it before it ends.
pub struct Live<T: Owned> {
    places: Vec<Option<ListedRef<T>>>,
    vacant: Vec<u32>,
}

impl<T: Owned> Default for Live<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: Vec::new() }
    }
}

impl<T: Owned> Live<T> {
    /// Makes room for `count` more, and for all of them to leave again: whatever ends must not need
    /// memory for that.
    #[inline]
    pub fn reserve(&mut self, count: usize) -> Result<(), TryReserveError> {
        let room = self.places.capacity() - self.places.len() + self.vacant.len();
        if room < count { self.grow(count - room) } else { Ok(()) }
    }

    #[cold]
    fn grow(&mut self, missing: usize) -> Result<(), TryReserveError> {
        let vacant = self.vacant.len();
        self.places.try_reserve(self.places.capacity() - self.places.len() + missing)?;
        self.vacant.try_reserve_exact(self.places.capacity() - vacant)
    }

    /// Enters one, for which there is room; where it stands.
    #[inline]
    pub fn insert(&mut self, resource: &StrongRef<T>) -> u32 {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 resources")
        });
        self.places[place as usize] = Some(resource.listed());
        place
    }

    /// Takes one off. What stands at its place is not looked at, only written: by now it has left the
    /// cache.
    #[inline]
    pub fn remove(&mut self, place: u32, resource: &T) {
        debug_assert!(self.places[place as usize].is_some_and(|it| it.is(resource)));
        self.places[place as usize] = None;
        self.vacant.push(place);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// All that somebody still holds. To be let go of without the lock of the list.
    pub fn all(&self) -> Vec<StrongRef<T>> {
        self.held(0..self.places.len())
    }

    /// Those at `count` places from `start` on, and where to go on, if there is more: so that a long walk
    /// can let go of the lock now and then.
    pub fn chunk(&self, start: usize, count: usize) -> (Vec<StrongRef<T>>, Option<usize>) {
        let start = start.min(self.places.len());
        let end = start.saturating_add(count).min(self.places.len());
        (self.held(start..end), (end < self.places.len()).then_some(end))
    }

    fn held(&self, places: std::ops::Range<usize>) -> Vec<StrongRef<T>> {
        // SAFETY: it stands there, and to take it off this list would have to be borrowed otherwise.
        let held = |it: &ListedRef<T>| unsafe { it.upgrade() };
        self.places[places].iter().flatten().filter_map(held).collect()
    }
}
