//! A block that was allocated for one request in exchange for others, and requests in place of a whole block.

use std::sync::Arc;

use super::{Arena, State};
use crate::handle::SlotKey;
use crate::pools::blocks::PlacedRegion;
use crate::pools::memory_object::{Lease, MemoryObject, Release};
use crate::suballocator::{BlockIndex, RegionRequest, RegionTag, Suballocator};

impl Arena {
    /// Returns the bytes of the largest block. O(blocks).
    pub(crate) fn largest_block(&self) -> u64 {
        self.state.lock().blocks.iter().map(|(_, memory)| memory.size).max().unwrap_or(0)
    }

    /// Adds a block and places a request in it, in one step, so that nobody else has its room first. Makes no driver
    /// call.
    ///
    /// # Errors
    /// The [`Release`] of the memory object, if the pool is full, if there is room elsewhere by now, or without host
    /// memory.
    pub(crate) fn add_with(
        &self,
        memory: MemoryObject,
        request: &RegionRequest,
    ) -> Result<PlacedRegion, Release> {
        let mut state = self.state.lock();
        let mut release = Release::default();
        if self.is_full(&state) || (request.upper && state.blocks.live().0 > 0) {
            release.free(Lease::new(Arc::new(memory)));
            return Err(release);
        }
        let blocks = &mut state.blocks;
        let block = blocks.add(memory).map_err(|(_, unused)| unused)?;
        let placed = blocks.place(request);
        if let Some(placed) = placed {
            if Arc::ptr_eq(&placed.memory, blocks.memory(block)) {
                state.prefetching = false;
                self.check(&state);
                return Ok(placed);
            }
            blocks.take_back(&placed);
        }
        blocks.remove_empty(block, &mut release);
        self.check(&state);
        Err(release)
    }

    /// Frees all regions of a block and places a request, both or neither, for a suballocator in which no neighbours
    /// can be replaced. `None` if the block contains other regions or if there is no room.
    pub(super) fn replace_all(
        state: &mut State,
        block: BlockIndex,
        victims: &[SlotKey],
        request: &RegionRequest,
        freed: &mut dyn FnMut(SlotKey, RegionTag),
    ) -> Option<PlacedRegion> {
        let blocks = &mut state.blocks;
        let is_whole = blocks.holds_only(block, victims);
        let alone = !request.upper || blocks.live().0 == victims.len() as u64;
        if !is_whole || !alone || request.size > blocks.memory(block).size {
            return None;
        }
        for &key in victims {
            let gone = blocks.free(key).expect("it was live just now");
            freed(key, gone.tag);
        }
        blocks.suballocator.settle();
        blocks.keep(block);
        let placed = blocks.place(request);
        debug_assert!(placed.is_some(), "an empty block has room");
        placed
    }
}
