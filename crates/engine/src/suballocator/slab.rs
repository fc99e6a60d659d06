//! A table that grows without moving much of what it holds.
//!
//! A `Vec` that grows copies everything, which of many regions takes a millisecond, in the middle of
//! somebody's frame. Here the first few entries are a `Vec`, so that small tables cost no more than
//! one; behind them pages are taken one by one, and stay where they are.

use std::ops::{Index, IndexMut};

/// Up to here the first entries grow gently.
const GENTLE: usize = 2048;

/// The first `FIRST` entries, then pages of `PAGE`, a power of two.
#[derive(Debug)]
pub(super) struct Slab<T, const FIRST: usize, const PAGE: usize> {
    first: Vec<T>,
    pages: Vec<Box<[T; PAGE]>>,
    len: usize,
}

impl<T, const FIRST: usize, const PAGE: usize> Default for Slab<T, FIRST, PAGE> {
    fn default() -> Self {
        Self { first: Vec::new(), pages: Vec::new(), len: 0 }
    }
}

impl<T: Copy, const FIRST: usize, const PAGE: usize> Slab<T, FIRST, PAGE> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an entry. The rest of its page has copies of the first one there.
    pub fn push(&mut self, entry: T) {
        let at = self.len;
        self.len += 1;
        if at < FIRST {
            if self.first.len() == self.first.capacity() {
                // By an eighth: a table that doubles is half empty on average. A larger one doubles
                // all the same, so that it is seldom copied.
                let more = if at < GENTLE { (at / 8).max(16) } else { at };
                self.first.reserve_exact(more.min(FIRST - at));
            }
            return self.first.push(entry);
        }
        if (at - FIRST).is_multiple_of(PAGE) && (at - FIRST) / PAGE == self.pages.len() {
            let page: Result<Box<[T; PAGE]>, _> = vec![entry; PAGE].into_boxed_slice().try_into();
            self.pages.extend(page);
        }
        self[at as u32] = entry;
    }

    /// The entry, if its page is there.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        if let Some(entry) = self.first.get(index) {
            return Some(entry);
        }
        let behind = index.wrapping_sub(FIRST);
        self.pages.get(behind / PAGE).map(|page| &page[behind % PAGE])
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        if let Some(entry) = self.first.get_mut(index) {
            return Some(entry);
        }
        let behind = index.wrapping_sub(FIRST);
        self.pages.get_mut(behind / PAGE).map(|page| &mut page[behind % PAGE])
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let behind = self.pages.iter().flat_map(|page| page.iter());
        self.first.iter().chain(behind).take(self.len)
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let behind = self.pages.iter_mut().flat_map(|page| page.iter_mut());
        self.first.iter_mut().chain(behind).take(self.len)
    }

    /// Forgets all entries; the pages stay.
    pub fn clear(&mut self) {
        self.first.clear();
        self.len = 0;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.first.capacity() * size_of::<T>()
            + self.pages.len() * size_of::<[T; PAGE]>()
            + self.pages.capacity() * size_of::<usize>()
    }
}

impl<T: Copy, const FIRST: usize, const PAGE: usize> Index<u32> for Slab<T, FIRST, PAGE> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.get(index).expect("an index of the table")
    }
}

impl<T: Copy, const FIRST: usize, const PAGE: usize> IndexMut<u32> for Slab<T, FIRST, PAGE> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("an index of the table")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_behind_the_first_stay_where_they_are() {
        let mut slab = Slab::<u64, 20, 16>::default();
        assert!(slab.is_empty() && slab.get(0).is_none());
        (0..21).for_each(|it| slab.push(it));
        let behind = &raw const slab[20];
        (21..1000).for_each(|it| slab.push(it));
        assert_eq!(&raw const slab[20], behind);
        assert!((0..1000).all(|it| slab[it] == u64::from(it)));
        // The rest of the last page is there, and nothing behind it.
        assert_eq!((slab.len(), slab.get(1011), slab.get(1012)), (1000, Some(&996), None));
        assert!(slab.iter_mut().map(|it| *it).eq(0..1000));
        let bytes = slab.bytes();
        slab.clear();
        assert!(slab.get(0).is_none());
        (0..1000).for_each(|it| slab.push(it));
        assert_eq!((slab.len(), slab[999], slab.bytes()), (1000, 999, bytes));
    }
}
