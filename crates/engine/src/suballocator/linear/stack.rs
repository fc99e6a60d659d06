//! Which block a request goes to.
//!
//! ```text
//!   stack    [ full ][ full ][ top > >|   ]      blocks with live regions, or one without
//!   spare    [      ][      ]                    the other empty ones
//! ```

use super::super::node::NONE;
use super::super::values::RegionRequest;
use super::{Block, Linear};
use crate::handle::SlotKey;

impl Linear {
    /// The way of what the top of the stack has no room for: the spare block that came empty last, of
    /// those that are large enough, is the top from now on.
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

    /// Links a block above the last one of a list.
    fn link(&mut self, block: u32, below: u32) {
        if below != NONE {
            self.blocks[below as usize].above = block;
        }
        let block = &mut self.blocks[block as usize];
        (block.below, block.above) = (below, NONE);
    }

    /// Takes a block out of the stack or of the spare ones.
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

    /// Moves a block that came empty to the spare ones; not the last one of the stack.
    #[cold]
    #[inline(never)]
    pub(super) fn leave_stack(&mut self, block: u32) {
        self.unlink(block);
        self.stack_height -= 1;
        self.put_aside(block);
    }

    /// Takes in a new block.
    pub(super) fn enter(&mut self, block: u32) {
        if self.top == NONE { self.put_on_top(block) } else { self.put_aside(block) }
    }

    /// Lets go of an empty block.
    pub(super) fn leave(&mut self, block: u32) {
        let was_top = self.top == block;
        self.unlink(block);
        if was_top {
            // Nothing was below it: an empty block is in the stack only alone.
            self.stack_height -= 1;
            let spare = self.spare;
            if spare != NONE {
                self.unlink(spare);
                self.put_on_top(spare);
            }
        }
    }
}
