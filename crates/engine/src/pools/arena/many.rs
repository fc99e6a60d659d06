//! Placing and freeing many regions per lock.

use super::Arena;
use crate::device::HostAddress;
use crate::handle::AllocationId;
use crate::pools::blocks::PlacedHandle;
use crate::pools::memory_object::Release;
use crate::recording::order::mark;
use crate::suballocator::{RegionRequest, RegionTag, Suballocator};

/// The number of regions that are placed or freed before the lock is released to other threads: some tens
/// of microseconds.
const REGIONS_PER_LOCK: usize = 512;

impl Arena {
    /// Places requests in existing blocks, up to the first for which there is no room or, if `mapped`, no
    /// mapped block; returns the number placed. Makes no driver call.
    pub fn allocate_many_in_place(
        &self,
        requests: impl IntoIterator<Item = RegionRequest>,
        mapped: bool,
        mut take: impl FnMut(PlacedHandle, Option<HostAddress>),
    ) -> usize {
        let mut requests = requests.into_iter().peekable();
        let mut count = 0;
        while requests.peek().is_some() {
            let (mut asked, before) = (0, count);
            let run = requests.by_ref().take(REGIONS_PER_LOCK).inspect(|_| asked += 1);
            let mut state = self.state.lock();
            if mapped {
                for request in run {
                    let Some((placed, address)) = state.place_mapped(&request) else { break };
                    let tag = RegionTag { persistently_mapped: true, ..RegionTag::default() };
                    state.blocks.suballocator.set_tag(placed.key, tag);
                    take(placed.handle(), Some(address));
                    count += 1;
                }
            } else {
                count += state.blocks.place_many(run, |handle| take(handle, None));
            }
            self.end(state);
            if count - before < asked {
                break;
            }
        }
        count
    }

    /// Frees regions and skips stale keys. Pending driver calls are pushed to `releases`, or made here,
    /// outside of the lock, if there is no host memory for that.
    pub fn free_many(
        &self,
        ids: &[AllocationId],
        releases: &mut Vec<Release>,
        mut freed: impl FnMut(usize, RegionTag, &mut Release),
    ) {
        let mut next = 0;
        while next < ids.len() {
            let end = ids.len().min(next + REGIONS_PER_LOCK);
            let mut at_once = Release::default();
            let mut state = self.state.lock();
            while next < end && !at_once.calls_driver() {
                let mut release = Release::default();
                if let Some(tag) = state.free(ids[next].key, true, &mut release, |_, _| {}) {
                    mark();
                    freed(next, tag, &mut release);
                }
                if release.calls_driver() {
                    match releases.try_reserve(1) {
                        Ok(()) => releases.push(release),
                        Err(_) => at_once = release,
                    }
                }
                next += 1;
            }
            self.check(&state);
            drop(state);
            drop(at_once);
        }
    }
}
