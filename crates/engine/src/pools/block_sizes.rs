//! [`BlockSizes`]: the size of a memory type's blocks.

/// The first block of a pool is up to this many times halved below the preferred size.
pub(crate) const FIRST_BLOCK_HALVINGS: u32 = 3;
/// Blocks are not made smaller than this many bytes when the driver refuses larger ones.
const SMALLEST_BLOCK: u64 = 1 << 20;
/// Block sizes are multiples of this many bytes.
const BLOCK_ROUNDING: u64 = 32;
/// The largest block in bytes: a suballocator stores sizes in 60 bits.
const LARGEST_BLOCK: u64 = 1 << 59;

/// The size of a pool's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Preferred size in bytes.
    pub preferred: u64,
    /// Whether the caller set the size: then no block is smaller.
    pub explicit: bool,
}

impl BlockSizes {
    /// Returns an eighth of a heap of up to 1 GiB, else 256 MiB, or `explicit` if the caller set a size.
    pub fn for_heap(heap_size: u64, explicit: Option<u64>) -> Self {
        let preferred = match explicit {
            Some(size) => size,
            None if Self::is_small_heap(heap_size) => heap_size / 8,
            None => 256 << 20,
        };
        let preferred = round(preferred.clamp(1, LARGEST_BLOCK));
        Self { preferred, explicit: explicit.is_some() }
    }

    /// Returns whether a heap has at most 1 GiB, like the BAR of many discrete GPUs: a block of the usual
    /// size would be a large part of it.
    pub fn is_small_heap(heap_size: u64) -> bool {
        heap_size <= 1 << 30
    }

    /// Returns the size to try first for a request, if the arena's largest block has `largest` bytes and
    /// the heap's budget `headroom` bytes left.
    pub(crate) fn first(self, request: u64, largest: u64, headroom: u64) -> u64 {
        let mut size = self.preferred;
        if self.explicit {
            return size;
        }
        for _ in 0..FIRST_BLOCK_HALVINGS {
            let half = round(size / 2);
            if half <= largest || half < request.saturating_mul(2) {
                break;
            }
            size = half;
        }
        while size > headroom
            && let Some(half) = self.smaller(size, request)
        {
            size = half;
        }
        size
    }

    /// Returns the size in bytes of the smallest block that would be tried for a request.
    pub(crate) fn least_for(self, request: u64) -> u64 {
        let smaller = |&size: &u64| self.smaller(size, request);
        std::iter::successors(Some(self.preferred), smaller).last().unwrap_or(self.preferred)
    }

    /// Returns the size to try after the driver refused `size`, if there is one.
    pub(crate) fn smaller(self, size: u64, request: u64) -> Option<u64> {
        // The last step is the floor itself: the heap may have exactly that much left.
        let floor = round(SMALLEST_BLOCK.min(self.preferred / 8));
        let half = round(size / 2).max(floor);
        (!self.explicit && half >= request && half < size).then_some(half)
    }
}

fn round(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_ROUNDING)
}
