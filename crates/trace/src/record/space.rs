//! [`SpaceSource`]: receives what one virtual block, or a set of them, tells.

use std::sync::Arc;

use vkmem_engine::recording::{next_number, next_numbers};
use vkmem_engine::{
    DefragmentationAlgorithm, Error, SlotKey, VirtualAllocation, VirtualMove, VirtualRequest,
};

use super::inbox::Inbox;
use super::raw::What;
use super::raw_failure::RawFailure;
use super::raw_space::{RawSpace, RawVirtualMany, SpaceInfo};
use super::source::Source;

/// Puts what one virtual block or set tells into a recording. Each call is made under the lock of the block, so events
/// have the order in which they took effect.
pub(super) struct SpaceSource {
    source: Source,
    space: u32,
}

impl SpaceSource {
    pub(super) fn new(source: Source, space: u32) -> Self {
        Self { source, space }
    }

    /// Returns whether it tells the recording with this inbox.
    pub fn is_in(&self, inbox: &Arc<Inbox>) -> bool {
        Arc::ptr_eq(&self.source.inbox, inbox)
    }

    fn tell(&self, what: RawSpace) {
        self.source.push(next_number(), What::Space(self.space, what), false);
    }

    fn tell_state(&self, what: RawSpace) {
        self.source.push(next_number(), What::Space(self.space, what), true);
    }

    fn tell_of_many(&self, count: usize, what: RawSpace) {
        self.source.push(next_numbers(count + 1), What::Space(self.space, what), false);
    }

    /// Tells that it was created, or existed before the recording began.
    pub(super) fn created(&self, info: SpaceInfo, is_state: bool) {
        let what = RawSpace::Create(info);
        if is_state { self.tell_state(what) } else { self.tell(what) }
    }

    /// Tells a block of a set that existed before the recording began.
    pub(super) fn block_existed(&self, block: u32, size: u64) {
        self.tell_state(RawSpace::AddBlock(block, size));
    }

    /// Tells an allocation that existed before the recording began.
    pub(super) fn existed(&self, block: Option<u32>, it: VirtualAllocation) {
        // What it was asked for is not known any more: this fits.
        let alignment = 1 << it.offset.trailing_zeros().min(16);
        let request = VirtualRequest::new(it.size, alignment);
        self.tell_state(RawSpace::Allocate(block, request, it));
    }

    pub(super) fn allocated(&self, block: Option<u32>, of: VirtualRequest, it: VirtualAllocation) {
        self.tell(RawSpace::Allocate(block, of, it));
    }

    /// Tells a request that failed; no error: no block of the set has room.
    pub(super) fn refused(&self, request: VirtualRequest, error: Option<&Error>) {
        self.tell(RawSpace::Refused(request, error.map(RawFailure::of)));
    }

    pub(super) fn allocated_many(
        &self,
        made: Vec<(VirtualRequest, VirtualAllocation)>,
        failed: Option<(VirtualRequest, &Error)>,
    ) {
        let count = made.len() + usize::from(failed.is_some());
        let failed = failed.map(|(request, error)| (request, RawFailure::of(error)));
        let many = RawVirtualMany { made: made.into(), failed };
        self.tell_of_many(count, RawSpace::AllocateMany(Box::new(many)));
    }

    pub(super) fn freed(&self, block: u32, key: SlotKey) {
        self.tell(RawSpace::Free(block, key));
    }

    pub(super) fn freed_many(&self, keys: Box<[SlotKey]>) {
        self.tell_of_many(keys.len(), RawSpace::FreeMany(keys));
    }

    pub(super) fn cleared(&self) {
        self.tell(RawSpace::Clear);
    }

    pub(super) fn grown(&self, size: u64) {
        self.tell(RawSpace::Grow(size));
    }

    pub(super) fn merged(&self) {
        self.tell(RawSpace::Merge);
    }

    pub(super) fn added_block(&self, block: u32, size: u64) {
        self.tell(RawSpace::AddBlock(block, size));
    }

    pub(super) fn removed_block(&self, block: u32) {
        self.tell(RawSpace::RemoveBlock(block));
    }

    pub(super) fn data_set(&self, key: SlotKey, text: Option<&str>, is_state: bool) {
        let what = RawSpace::Data(key, text.map(Into::into));
        if is_state { self.tell_state(what) } else { self.tell(what) }
    }

    pub(super) fn defragmented(&self, way: DefragmentationAlgorithm, moves: &[VirtualMove]) {
        // The defragmentation, the group, and each move.
        self.tell_of_many(moves.len() + 1, RawSpace::Defragment(way, moves.into()));
    }

    pub(super) fn destroyed(&self) {
        self.tell(RawSpace::Destroy);
    }
}
