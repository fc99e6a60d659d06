//! [`Filled`]: which regions have margins that hold the pattern.

use crate::handle::SlotKey;

/// Slots whose marks are stored together.
const PAGE: usize = 4096;

/// Marks of regions, by slot; a mark is the generation of its region, so it ends with the region.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pages: Vec<Box<[u32]>>,
}

impl Filled {
    /// Marks a region; returns false if there is no host memory for that.
    #[must_use]
    pub fn mark(&mut self, key: SlotKey) -> bool {
        let (page, at) = (key.index() as usize / PAGE, key.index() as usize % PAGE);
        while page >= self.pages.len() {
            let mut marks = Vec::new();
            if self.pages.try_reserve(1).is_err() || marks.try_reserve_exact(PAGE).is_err() {
                return false;
            }
            marks.resize(PAGE, 0);
            self.pages.push(marks.into_boxed_slice());
        }
        self.pages[page][at] = key.generation();
        true
    }

    /// Returns whether a region is marked.
    pub fn contains(&self, key: SlotKey) -> bool {
        let page = self.pages.get(key.index() as usize / PAGE);
        page.is_some_and(|marks| marks[key.index() as usize % PAGE] == key.generation())
    }
}
