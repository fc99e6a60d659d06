//! [`Filled`]: which regions have margins that hold the pattern.

use crate::handle::SlotKey;

/// Slots whose marks are stored together.
const PAGE: usize = 4096;

/// The mark of a slot: the generation of its region, so it ends with the region.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// 0: there is none.
    generation: u32,
    /// Bytes at the end of the allocation that are part of its margin.
    slack: u32,
}

/// Marks of regions, by slot.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pages: Vec<Box<[Mark]>>,
}

impl Filled {
    /// Marks a region whose allocation ends with `slack` bytes that belong to its margin; returns false if there is no
    /// host memory for that.
    #[must_use]
    pub fn mark(&mut self, key: SlotKey, slack: u64) -> bool {
        let (page, at) = (key.index() as usize / PAGE, key.index() as usize % PAGE);
        while page >= self.pages.len() {
            let mut marks = Vec::new();
            if self.pages.try_reserve(1).is_err() || marks.try_reserve_exact(PAGE).is_err() {
                return false;
            }
            marks.resize(PAGE, Mark::default());
            self.pages.push(marks.into_boxed_slice());
        }
        // Of more than that the last part is looked at.
        let slack = u32::try_from(slack).unwrap_or(u32::MAX);
        self.pages[page][at] = Mark { generation: key.generation(), slack };
        true
    }

    /// Removes the mark of a region; returns the slack that it had, `None` if it was not marked.
    pub fn remove(&mut self, key: SlotKey) -> Option<u64> {
        let slack = self.slack(key)?;
        self.pages[key.index() as usize / PAGE][key.index() as usize % PAGE] = Mark::default();
        Some(slack)
    }

    /// Returns the slack of a marked region; `None` if it is not marked.
    pub fn slack(&self, key: SlotKey) -> Option<u64> {
        let page = self.pages.get(key.index() as usize / PAGE)?;
        let mark = page[key.index() as usize % PAGE];
        (mark.generation == key.generation()).then_some(u64::from(mark.slack))
    }
}
