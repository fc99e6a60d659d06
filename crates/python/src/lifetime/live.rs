//! The list of live resources of an allocator.

use std::collections::TryReserveError;

use super::counted::{ListedRef, Owned, StrongRef};

/// Uncounted references, in any order. A resource is removed before it ends.
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
    /// Reserves room for `count` more resources, and for the removal of all: ending a resource must not need
    /// host memory.
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

    /// Adds a resource, for which there must be room; returns its place.
    #[inline]
    pub fn insert(&mut self, resource: &StrongRef<T>) -> u32 {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 resources")
        });
        self.places[place as usize] = Some(resource.listed());
        place
    }

    /// Removes a resource. Its place is only written, not read, as it has left the cache by now.
    #[inline]
    pub fn remove(&mut self, place: u32, resource: &T) {
        debug_assert!(self.places[place as usize].is_some_and(|it| it.is(resource)));
        self.places[place as usize] = None;
        self.vacant.push(place);
    }

    /// Returns the number of resources.
    pub fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// Returns strong references to all resources. To be dropped after the list is unlocked.
    pub fn all(&self) -> Vec<StrongRef<T>> {
        self.held(0..self.places.len())
    }

    /// Returns strong references to the resources at `count` places from `start`, and the next `start` if
    /// there are more: so a long walk can unlock the list in between.
    pub fn chunk(&self, start: usize, count: usize) -> (Vec<StrongRef<T>>, Option<usize>) {
        let start = start.min(self.places.len());
        let end = start.saturating_add(count).min(self.places.len());
        (self.held(start..end), (end < self.places.len()).then_some(end))
    }

    fn held(&self, places: std::ops::Range<usize>) -> Vec<StrongRef<T>> {
        // SAFETY: the entry is on the list, which is borrowed, so it cannot be removed meanwhile.
        let held = |it: &ListedRef<T>| unsafe { it.upgrade() };
        self.places[places].iter().flatten().filter_map(held).collect()
    }
}
