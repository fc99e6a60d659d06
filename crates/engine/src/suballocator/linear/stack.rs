//! Choice of the block that a request goes to.
//!
//! ```text
//!   top      [ block ] -> [ block ] -> [ block ]    linked by `below`: blocks with live regions, or one empty block
//!   spare    [ block ] -> [ block ]                 the other empty blocks, the last one to become empty first
//! ```

use super::super::node::NONE;
use super::super::values::RegionRequest;
use super::{Block, Linear};
use crate::handle::SlotKey;

impl Linear {
    /// Places a request for which the top block has no room: takes the most recently emptied spare block
    /// that is large enough and makes it the top.
    #[cold]
    #[inline(never)]
    pub(super) fn allocate_in_spare(
        &mut self,
        size: u64,
        request: &RegionRequest,
    ) -> Option<SlotKey> {
        let top_is_empty = self.blocks.get(self.top as usize)?.live == 0;
        if request.upper && !top_is_empty {
            return None;
        }
        let mut block = self.spare;
        while block != NONE {
            let at = self.place_at_any(&self.blocks[block as usize], size, request);
            if at.is_found() {
                self.unlink(block);
                if top_is_empty {
                    self.leave_stack(self.top);
                }
                self.put_on_top(block);
                return Some(self.push(block, at, size, request).key);
            }
            block = self.blocks[block as usize].below;
        }
        None
    }

    fn put_on_top(&mut self, block: u32) {
        self.stack_height += 1;
        let below = std::mem::replace(&mut self.top, block);
        self.link(block, below);
    }

    fn put_aside(&mut self, block: u32) {
        let below = std::mem::replace(&mut self.spare, block);
        self.link(block, below);
    }

    /// Links a block above `below`, the last one of a list.
    fn link(&mut self, block: u32, below: u32) {
        if below != NONE {
            self.blocks[below as usize].above = block;
        }
        let block = &mut self.blocks[block as usize];
        (block.below, block.above) = (below, NONE);
    }

    /// Removes a block from the stack or from the list of spare blocks.
    fn unlink(&mut self, block: u32) {
        let Block { below, above, .. } = self.blocks[block as usize];
        if below != NONE {
            self.blocks[below as usize].above = above;
        }
        if above != NONE {
            self.blocks[above as usize].below = below;
        } else if self.top == block {
            self.top = below;
        } else {
            self.spare = below;
        }
    }

    /// Moves an empty block from the stack to the spare blocks; the stack must keep at least one.
    #[cold]
    #[inline(never)]
    pub(super) fn leave_stack(&mut self, block: u32) {
        self.unlink(block);
        self.stack_height -= 1;
        self.put_aside(block);
    }

    /// Adds a new block to the stack or to the spare blocks.
    pub(super) fn enter(&mut self, block: u32) {
        if self.top == NONE { self.put_on_top(block) } else { self.put_aside(block) }
    }

    /// Removes an empty block.
    pub(super) fn leave(&mut self, block: u32) {
        let was_top = self.top == block;
        self.unlink(block);
        if was_top {
            // An empty block is in the stack only if it is the only one, so nothing is below it.
            self.stack_height -= 1;
            let spare = self.spare;
            if spare != NONE {
                self.unlink(spare);
                self.put_on_top(spare);
            }
        }
    }
}
