//! [`Evictable`]: what the owner of an evictable allocation keeps.

use std::sync::Arc;

use super::group::{Group, GroupKey};
use super::stamps::{CHUNK, Chunk, Clock, State};
use crate::error::Error;
use crate::handle::{Allocation, AllocationId};
use crate::recording::is_active;

/// An allocation that may be taken away when another request needs room. Its owner keeps this beside the
/// [`Allocation`], touches it on use, and ends it before it frees the allocation; dropping it ends it as well.
pub struct Evictable {
    chunk: Arc<Chunk>,
    /// The clock of the group, to save a cache line at each touch.
    clock: Arc<Clock>,
    group: Arc<Group>,
    record: u32,
    ended: bool,
}

impl Evictable {
    pub(super) fn new(chunk: Arc<Chunk>, group: Arc<Group>, record: u32) -> Self {
        Self { chunk, clock: group.clock(), group, record, ended: false }
    }

    fn index(&self) -> usize {
        self.record as usize % CHUNK
    }

    /// Marks the allocation as used in the current frame: `vmaTouchAllocation`. Returns false if it is lost.
    ///
    /// What was touched in the current frame or in the `frames_in_use` frames before is not taken away. Takes no
    /// lock; waits only while an eviction that has chosen this allocation decides, which is short.
    #[inline]
    pub fn touch(&self) -> bool {
        if self.is_used_now() {
            return true;
        }
        let is_there = self.chunk.touch(self.index(), &self.clock);
        if is_there && is_active() {
            self.group.tell_use(self.record);
        }
        is_there
    }

    /// Returns whether it is marked as used in the current frame: then a touch changes nothing.
    #[inline]
    pub fn is_used_now(&self) -> bool {
        self.chunk.is_current(self.index(), &self.clock)
    }

    /// Returns whether the allocation was taken away; its id is stale then. Does not count as a use.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.chunk.get(self.index()).state() == State::Lost
    }

    /// Returns the frame in which it was last used.
    pub fn last_use(&self) -> u64 {
        self.chunk.get(self.index()).frame()
    }

    /// Notes that the allocation has moved within its pool. Returns false if it is lost: an allocation cannot be
    /// taken away while it moves, but before the move was begun.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an allocation of another pool; [`Error::NoHostMemory`].
    pub fn relocated(&self, to: &Allocation) -> Result<bool, Error> {
        self.check_pool(to.id)?;
        self.group.relocate(&self.chunk, self.record, to.id)
    }

    fn check_pool(&self, id: AllocationId) -> Result<(), Error> {
        if GroupKey::of(id) == self.group.key {
            return Ok(());
        }
        Err(Error::InvalidArgument("an evictable allocation moves within its pool".into()))
    }

    /// Ends it; returns whether the allocation was lost. If it was not, the owner has to free it, and from now
    /// on nobody takes it away.
    pub fn end(mut self) -> bool {
        self.ended = true;
        self.group.end(&self.chunk, self.record)
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        if !self.ended {
            self.group.end(&self.chunk, self.record);
        }
    }
}
