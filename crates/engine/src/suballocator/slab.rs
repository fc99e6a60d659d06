//! A growing table that does not move its entries.
//!
//! When a `Vec` grows it copies everything, which for many regions takes a millisecond in the middle of a
//! frame. [`Slab`] consists of rows of a fixed length. The first row grows in small steps, so that a
//! small table takes no more memory than a `Vec`; past a few entries it gets its full length, like every
//! row after it, and from then on nothing is copied. The system reserves memory of this size without
//! touching it: pages that were never written only take address space.
//!
//! Code that accesses many entries works on [`Near`] (one row) or [`Far`] (several rows): the number of
//! rows is then tested once and not at each access.

use std::collections::TryReserveError;
use std::ops::{Index, IndexMut};

use prefetch_index::prefetch_index;

/// The first row grows by an eighth up to this many entries; doubling would leave a table half empty on
/// average.
const GRADUAL_GROWTH: usize = 2048;

/// Entries in rows of `ROW` entries each, a power of two.
#[derive(Debug)]
pub(super) struct Slab<T, const ROW: usize> {
    /// All entries while there is one row; empty once `rows` has them.
    first: Vec<T>,
    /// All rows, once there are several; every row before the one at `len / ROW` is full.
    rows: Vec<Vec<T>>,
    len: usize,
    /// The largest `len` that the table ever had: entries below it have been written.
    most: usize,
}

impl<T, const ROW: usize> Default for Slab<T, ROW> {
    fn default() -> Self {
        Self { first: Vec::new(), rows: Vec::new(), len: 0, most: 0 }
    }
}

impl<T: Copy, const ROW: usize> Slab<T, ROW> {
    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no entries.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an entry.
    ///
    /// # Panics
    /// If the table is full and the system has no memory; call [`try_reserve`](Self::try_reserve) first.
    #[inline]
    pub fn push(&mut self, entry: T) {
        let at = self.len / ROW;
        let row = if self.rows.is_empty() { Some(&mut self.first) } else { self.rows.get_mut(at) };
        match row {
            // An allocation may be larger than requested, but a row may not be longer than `ROW`.
            Some(row) if row.len() < row.capacity().min(ROW) => row.push(entry),
            _ => {
                self.try_make_room(1).expect("memory for one entry more");
                return self.push(entry);
            }
        }
        self.len += 1;
    }

    /// Reserves memory for `more` further entries; returns false if the system cannot give all of it.
    /// Until they are used [`push`](Self::push) takes no memory.
    #[must_use]
    pub fn try_reserve(&mut self, more: usize) -> bool {
        let wanted = self.len.saturating_add(more);
        while self.room() < wanted {
            if self.try_make_room(wanted - self.len).is_err() {
                return false;
            }
        }
        true
    }

    /// Returns the number of entries that fit into the memory held.
    fn room(&self) -> usize {
        let first = self.rows.first().unwrap_or(&self.first).capacity();
        first.min(ROW) + self.rows.len().saturating_sub(1) * ROW
    }

    /// Lengthens the first row, or adds a row.
    #[cold]
    #[inline(never)]
    fn try_make_room(&mut self, more: usize) -> Result<(), TryReserveError> {
        let first = self.rows.first_mut().unwrap_or(&mut self.first);
        if first.capacity() < ROW {
            let more = more.max(first.len() / 8).max(16);
            let wanted = first.len().saturating_add(more);
            let wanted = if wanted <= GRADUAL_GROWTH { wanted.min(ROW) } else { ROW };
            return first.try_reserve_exact(wanted - first.len());
        }
        // Two: the first row may have to move into `rows` as well.
        self.rows.try_reserve(2)?;
        let mut row = Vec::new();
        row.try_reserve_exact(ROW)?;
        if self.rows.is_empty() {
            self.rows.push(std::mem::take(&mut self.first));
        }
        self.rows.push(row);
        Ok(())
    }

    /// Returns the entry at `index`; `None` past the end.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        if self.rows.is_empty() {
            return self.first.get(index as usize);
        }
        self.rows.get(index as usize / ROW)?.get(index as usize % ROW)
    }

    /// Returns the entry at `index` for modification; `None` past the end.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        if self.rows.is_empty() {
            return self.first.get_mut(index as usize);
        }
        self.rows.get_mut(index as usize / ROW)?.get_mut(index as usize % ROW)
    }

    /// Prefetches the cache line of the entry at `index`, if there is one.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        if self.rows.is_empty() {
            prefetch_index(&self.first, index as usize);
        } else if let Some(row) = self.rows.get(index as usize / ROW) {
            prefetch_index(row, index as usize % ROW);
        }
    }

    /// Iterates over the rows: an inner loop over a slice is shorter than one over `Slab`.
    pub fn rows(&self) -> impl Iterator<Item = &[T]> {
        std::iter::once(&self.first).chain(&self.rows).map(|row| &row[..])
    }

    /// Removes all entries and keeps the memory. O(rows).
    pub fn clear(&mut self) {
        self.most = self.most.max(self.len);
        self.first.clear();
        self.rows.iter_mut().for_each(Vec::clear);
        self.len = 0;
    }

    /// Returns the entries as one slice while there is one row; `None` otherwise.
    #[inline(always)]
    pub fn near(&mut self) -> Option<Near<'_, T>> {
        self.rows.is_empty().then(|| Near(&mut self.first))
    }

    /// Returns the entries as several rows, after moving the first one into `rows` if needed.
    #[inline(always)]
    pub fn far(&mut self) -> Far<'_, T, ROW> {
        if self.rows.is_empty() {
            self.rows.push(std::mem::take(&mut self.first));
        }
        Far(&mut self.rows)
    }

    /// Returns the bytes held: the whole capacity of a short row, otherwise the entries that were written
    /// at least once. Systems that commit memory when it is reserved (Windows) count the rest of the last
    /// row as well.
    pub fn bytes(&self) -> usize {
        let first = self.rows.first().unwrap_or(&self.first).capacity();
        let most = self.most.max(self.len);
        let entries = if first < ROW { first.max(most) } else { most };
        entries * size_of::<T>() + self.rows.capacity() * size_of::<Vec<T>>()
    }
}

impl<T: Copy, const ROW: usize> Index<u32> for Slab<T, ROW> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.get(index).expect("an index of the table")
    }
}

impl<T: Copy, const ROW: usize> IndexMut<u32> for Slab<T, ROW> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("an index of the table")
    }
}

/// Access to the entries of a table that does not grow meanwhile.
pub(super) trait Entries<T>: IndexMut<u32, Output = T> {
    /// The type of a reborrow, for calls that are not inlined: what such a call receives by reference has
    /// to be in memory, so it gets a copy and the original stays in registers.
    type Again<'a>: Entries<T>
    where
        Self: 'a;

    /// Reborrows the entries; see [`Again`](Self::Again).
    fn again(&mut self) -> Self::Again<'_>;

    /// Returns the entry at `index`; `None` past the end.
    fn get(&self, index: u32) -> Option<&T>;

    /// Prefetches the cache line of the entry at `index`.
    fn prefetch(&self, index: u32);
}

/// The entries of a table with one row.
pub(super) struct Near<'a, T>(&'a mut [T]);

impl<T> Index<u32> for Near<'_, T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: u32) -> &T {
        &self.0[index as usize]
    }
}

impl<T> IndexMut<u32> for Near<'_, T> {
    #[inline(always)]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.0[index as usize]
    }
}

impl<T> Entries<T> for Near<'_, T> {
    type Again<'a>
        = Near<'a, T>
    where
        Self: 'a;

    #[inline(always)]
    fn again(&mut self) -> Near<'_, T> {
        Near(self.0)
    }

    #[inline(always)]
    fn get(&self, index: u32) -> Option<&T> {
        self.0.get(index as usize)
    }

    #[inline(always)]
    fn prefetch(&self, index: u32) {
        prefetch_index(&*self.0, index as usize);
    }
}

/// The entries of a table that may have several rows.
pub(super) struct Far<'a, T, const ROW: usize>(&'a mut [Vec<T>]);

impl<T, const ROW: usize> Index<u32> for Far<'_, T, ROW> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: u32) -> &T {
        &self.0[index as usize / ROW][index as usize % ROW]
    }
}

impl<T, const ROW: usize> IndexMut<u32> for Far<'_, T, ROW> {
    #[inline(always)]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.0[index as usize / ROW][index as usize % ROW]
    }
}

impl<T, const ROW: usize> Entries<T> for Far<'_, T, ROW> {
    type Again<'a>
        = Far<'a, T, ROW>
    where
        Self: 'a;

    #[inline(always)]
    fn again(&mut self) -> Far<'_, T, ROW> {
        Far(self.0)
    }

    #[inline(always)]
    fn get(&self, index: u32) -> Option<&T> {
        self.0.get(index as usize / ROW)?.get(index as usize % ROW)
    }

    #[inline(always)]
    fn prefetch(&self, index: u32) {
        prefetch_index(&self.0[index as usize / ROW], index as usize % ROW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_where_they_are() {
        let mut slab = Slab::<u64, 64>::default();
        assert!(slab.is_empty() && slab.get(0).is_none());
        (0..65).for_each(|it| slab.push(it));
        let places = [&raw const slab[0], &raw const slab[64]];
        (65..1000).for_each(|it| slab.push(it));
        assert_eq!([&raw const slab[0], &raw const slab[64]], places);
        assert!((0..1000).all(|it| slab[it] == u64::from(it)));
        assert_eq!((slab.len(), slab.get(999), slab.get(1000)), (1000, Some(&999), None));
        assert!(slab.rows().flatten().copied().eq(0..1000));
        let bytes = slab.bytes();
        slab.clear();
        assert!(
            slab.get(0).is_none()
                && slab.far().get(0).is_none()
                && slab.rows().flatten().next().is_none()
        );
        (0..1000).for_each(|it| slab.push(it));
        assert_eq!((slab.len(), slab[999], slab.bytes()), (1000, 999, bytes));
    }

    #[test]
    fn what_is_reserved_is_not_taken_again() {
        for (before, more) in [(0, 50), (10, 54), (10, 55), (0, 500), (300, 500)] {
            let mut slab = Slab::<u64, 64>::default();
            (0..before).for_each(|it| slab.push(it));
            assert!(slab.try_reserve(more as usize));
            let room = slab.room();
            (before..before + more).for_each(|it| slab.push(it));
            assert_eq!(slab.room(), room, "{more} behind {before}");
            assert!(slab.rows().flatten().copied().eq(0..before + more));
        }
    }

    #[test]
    fn what_was_never_written_is_not_held() {
        let mut slab = Slab::<u64, 16384>::default();
        (0..100).for_each(|it| slab.push(it));
        assert!((800..1000).contains(&slab.bytes()), "{}", slab.bytes());
        (100..20_000).for_each(|it| slab.push(it));
        assert!((160_000..161_000).contains(&slab.bytes()), "{}", slab.bytes());
        // Memory that was written stays counted.
        slab.clear();
        assert!(slab.bytes() >= 160_000);
    }

    #[test]
    fn near_and_far_see_the_same() {
        let mut slab = Slab::<u64, 64>::default();
        (0..20).for_each(|it| slab.push(it));
        assert_eq!(slab.near().map(|it| (it[7], it.get(20).copied())), Some((7, None)));
        let mut far = slab.far();
        far[19] += 1;
        assert_eq!((far[7], far.get(19), far.get(20)), (7, Some(&20), None));
        assert!(slab.near().is_none());
        (20..40).for_each(|it| slab.push(it));
        assert_eq!((slab[19], slab[39], slab.len()), (20, 39, 40));
        // An empty table has no entry either.
        assert!(Slab::<u64, 64>::default().far().get(0).is_none());
    }
}
