//! Freed regions that are not given out again yet.

use std::sync::Arc;

use super::Arena;
use crate::debugging::guarded::GuardBands;
use crate::handle::SlotKey;
use crate::pools::margin::Extent;
use crate::pools::memory_object::{MemoryObject, Release};
use crate::pools::quarantine::{Entry, LEAVING_AT_ONCE};
use crate::suballocator::Suballocator;

/// A freed region that leaves the quarantine.
pub(crate) struct LeavingRegion {
    /// The key under which it is kept.
    key: SlotKey,
    pub entry: Entry<()>,
    /// The memory object of its block, which stays as long as the region does.
    pub memory: Arc<MemoryObject>,
    /// Offset of the payload in bytes.
    pub offset: u64,
    /// The margins that hold the pattern.
    pub bands: GuardBands,
}

impl Arena {
    /// Lets regions leave the quarantine, the overdue ones or all; they are not given out before
    /// [`end_leaving`](Self::end_leaving).
    pub(crate) fn take_leaving(&self, all: bool) -> Vec<LeavingRegion> {
        let mut leaving = Vec::new();
        if leaving.try_reserve_exact(LEAVING_AT_ONCE).is_err() {
            return leaving;
        }
        let mut state = self.state.lock();
        let blocks = &mut state.blocks;
        let Some(guard) = &mut blocks.guard else { return leaving };
        let frame = guard.shared.frame();
        let Some(quarantine) = &mut guard.quarantine else { return leaving };
        let taken = quarantine.take_leaving(frame, all);
        let blocks = &state.blocks;
        leaving.extend(taken.into_iter().map(|(key, entry)| {
            let info = blocks.suballocator.region(key).expect("it is kept");
            let whole = Extent { offset: info.offset, size: info.size };
            let offset = blocks.payload(key, whole).offset;
            let (bands, is_filled) = blocks.bands_of(key);
            let bands = if is_filled { bands } else { GuardBands::default() };
            LeavingRegion { key, entry, memory: blocks.memory(info.block).clone(), offset, bands }
        }));
        leaving
    }

    /// Frees regions that leave the quarantine. Pending driver calls are added to `release`.
    pub(crate) fn end_leaving(&self, leaving: &[LeavingRegion], release: &mut Release) {
        let mut state = self.state.lock();
        for it in leaving {
            let quarantine = state.blocks.guard.as_mut().and_then(|it| it.quarantine.as_mut());
            let removed = quarantine.and_then(|quarantine| quarantine.remove(it.key));
            let freed = state.free(it.key, false, release, |_, _| {});
            debug_assert!(removed.is_some() && freed.is_some());
        }
        // For a request that waits for the room.
        state.blocks.suballocator.settle();
        self.check(&state);
    }

    /// Returns whether a region is in quarantine. O(1).
    pub(crate) fn keeps(&self, key: SlotKey) -> bool {
        self.state.lock().blocks.is_quarantined(key)
    }

    /// Returns whether a region that had this key is in quarantine. O(regions in quarantine).
    pub(crate) fn is_quarantined(&self, former: SlotKey) -> bool {
        let state = self.state.lock();
        let guard = state.blocks.guard.as_ref();
        let quarantine = guard.and_then(|guard| guard.quarantine.as_ref());
        quarantine.is_some_and(|it| it.iter().any(|(_, entry)| entry.former == former))
    }
}
