//! A table that grows without moving much of what it holds.
//!
//! A `Vec` that grows copies everything, which of many regions takes a millisecond, in the middle of
//! somebody's frame. Here the first few entries are a `Vec` that grows gently, so that small tables cost
//! no more than one. When there are more, all go into pages, which stay where they are.
//!
//! Code that looks at many entries takes [`Near`] or [`Far`]: then it is asked once, and not at each
//! look, where they are.

use std::ops::{Index, IndexMut};

/// Up to here the first entries grow by an eighth: a table that doubles is half empty on average. A
/// larger one doubles all the same, so that it is seldom copied.
const GENTLE: usize = 2048;

/// Entries: up to `FIRST` of them in a row, more of them in pages of `PAGE`. Both are powers of two.
#[derive(Debug)]
pub(super) struct Slab<T, const FIRST: usize, const PAGE: usize> {
    /// All of them, or none if there are pages.
    first: Vec<T>,
    pages: Vec<Box<[T; PAGE]>>,
    len: usize,
}

impl<T, const FIRST: usize, const PAGE: usize> Default for Slab<T, FIRST, PAGE> {
    fn default() -> Self {
        Self { first: Vec::new(), pages: Vec::new(), len: 0 }
    }
}

impl<T: Copy + Default, const FIRST: usize, const PAGE: usize> Slab<T, FIRST, PAGE> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an entry.
    #[inline]
    pub fn push(&mut self, entry: T) {
        let len = self.len;
        if self.first.len() != self.first.capacity() {
            self.first.push(entry);
        } else if let Some(page) = self.pages.get_mut(len / PAGE) {
            page[len % PAGE] = entry;
        } else {
            self.make_room();
            return self.push(entry);
        }
        self.len += 1;
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        let len = self.len;
        if self.pages.is_empty() && len < FIRST {
            let more = if len < GENTLE { (len / 8).max(16) } else { len };
            return self.first.reserve_exact(more.min(FIRST - len));
        }
        if self.pages.is_empty() {
            self.turn_pages();
        }
        if len / PAGE == self.pages.len() {
            self.pages.push(page(&[]));
        }
    }

    /// Takes memory for so many entries more, at once.
    pub fn reserve(&mut self, more: usize) {
        let wanted = self.len.saturating_add(more);
        if self.pages.is_empty() && wanted <= FIRST {
            return self.first.reserve_exact(wanted - self.first.len());
        }
        if self.pages.is_empty() {
            self.turn_pages();
        }
        let pages = wanted.div_ceil(PAGE);
        self.pages.reserve(pages.saturating_sub(self.pages.len()));
        while self.pages.len() < pages {
            self.pages.push(page(&[]));
        }
    }

    /// Moves the first entries into pages, at least one.
    #[cold]
    #[inline(never)]
    fn turn_pages(&mut self) {
        let first = std::mem::take(&mut self.first);
        self.pages.extend(first.chunks(PAGE).map(page));
        if self.pages.is_empty() {
            self.pages.push(page(&[]));
        }
    }

    /// The entry, if it is there.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        if self.pages.is_empty() {
            return self.first.get(index as usize);
        }
        let index = Some(index as usize).filter(|&index| index < self.len)?;
        self.pages.get(index / PAGE).map(|page| &page[index % PAGE])
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        if self.pages.is_empty() {
            return self.first.get_mut(index as usize);
        }
        let index = Some(index as usize).filter(|&index| index < self.len)?;
        self.pages.get_mut(index / PAGE).map(|page| &mut page[index % PAGE])
    }

    /// All entries, so many at a time as lie in a row: a loop over each of these is a short one.
    pub fn rows(&self) -> impl Iterator<Item = &[T]> {
        let rows = self.pages.iter().enumerate().map(|(at, page)| {
            let left = self.len.saturating_sub(at * PAGE).min(PAGE);
            &page[..left]
        });
        std::iter::once(&self.first[..]).chain(rows)
    }

    /// Forgets all entries; the pages stay. O(1).
    pub fn clear(&mut self) {
        self.first.clear();
        self.len = 0;
    }

    /// The entries, while they are in a row.
    #[inline(always)]
    pub fn near(&mut self) -> Option<Near<'_, T>> {
        self.pages.is_empty().then(|| Near(&mut self.first))
    }

    /// The entries in pages, in which they are from now on.
    #[inline(always)]
    pub fn far(&mut self) -> Far<'_, T, PAGE> {
        if self.pages.is_empty() {
            self.turn_pages();
        }
        Far { pages: &mut self.pages, len: self.len }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.first.capacity() * size_of::<T>()
            + self.pages.len() * size_of::<[T; PAGE]>()
            + self.pages.capacity() * size_of::<usize>()
    }
}

/// A page that begins with some entries.
fn page<T: Copy + Default, const PAGE: usize>(entries: &[T]) -> Box<[T; PAGE]> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(entries);
    page.resize(PAGE, T::default());
    let page: Result<Box<[T; PAGE]>, _> = page.into_boxed_slice().try_into();
    page.unwrap_or_else(|_| unreachable!("it has as many entries"))
}

impl<T: Copy + Default, const FIRST: usize, const PAGE: usize> Index<u32> for Slab<T, FIRST, PAGE> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.get(index).expect("an index of the table")
    }
}

impl<T: Copy + Default, const FIRST: usize, const PAGE: usize> IndexMut<u32>
    for Slab<T, FIRST, PAGE>
{
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("an index of the table")
    }
}

/// The entries of a table, while it does not grow.
pub(super) trait Entries<T>: IndexMut<u32, Output = T> {
    /// The same for a call that is not inlined: what such a call gets to see has to be in memory, and
    /// registers are where the caller's own ones are to stay.
    type Again<'a>: Entries<T>
    where
        Self: 'a;

    /// See [`Again`](Self::Again).
    fn again(&mut self) -> Self::Again<'_>;

    /// The entry, if it is there.
    fn get(&self, index: u32) -> Option<&T>;
}

/// Those of a table that is in a row.
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
}

/// Those of a table that is in pages. Indexing finds what is behind the last one, too.
pub(super) struct Far<'a, T, const PAGE: usize> {
    pages: &'a mut [Box<[T; PAGE]>],
    len: usize,
}

impl<T, const PAGE: usize> Index<u32> for Far<'_, T, PAGE> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: u32) -> &T {
        &self.pages[index as usize / PAGE][index as usize % PAGE]
    }
}

impl<T, const PAGE: usize> IndexMut<u32> for Far<'_, T, PAGE> {
    #[inline(always)]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.pages[index as usize / PAGE][index as usize % PAGE]
    }
}

impl<T, const PAGE: usize> Entries<T> for Far<'_, T, PAGE> {
    type Again<'a>
        = Far<'a, T, PAGE>
    where
        Self: 'a;

    #[inline(always)]
    fn again(&mut self) -> Far<'_, T, PAGE> {
        Far { pages: self.pages, len: self.len }
    }

    #[inline(always)]
    fn get(&self, index: u32) -> Option<&T> {
        let there = (index as usize) < self.len;
        there.then(|| &self[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_where_they_are() {
        let mut slab = Slab::<u64, 64, 16>::default();
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
        for (before, more) in [(0, 50), (10, 54), (10, 55), (0, 500), (300, 5)] {
            let mut slab = Slab::<u64, 64, 16>::default();
            (0..before).for_each(|it| slab.push(it));
            slab.reserve(more as usize);
            let bytes = slab.bytes();
            (before..before + more).for_each(|it| slab.push(it));
            assert_eq!(slab.bytes(), bytes, "{more} behind {before}");
            assert!(slab.rows().flatten().copied().eq(0..before + more));
        }
    }

    #[test]
    fn near_and_far_see_the_same() {
        let mut slab = Slab::<u64, 64, 16>::default();
        (0..20).for_each(|it| slab.push(it));
        assert_eq!(slab.near().map(|it| (it[7], it.get(20).copied())), Some((7, None)));
        let mut far = slab.far();
        far[19] += 1;
        assert_eq!((far[7], far.get(19), far.get(20)), (7, Some(&20), None));
        assert!(slab.near().is_none());
        (20..40).for_each(|it| slab.push(it));
        assert_eq!((slab[19], slab[39], slab.len()), (20, 39, 40));
        // Also while there is nothing yet.
        assert!(Slab::<u64, 64, 16>::default().far().get(0).is_none());
    }
}
