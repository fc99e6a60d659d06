//! How large the blocks of a memory type are.

/// How often a first block is halved below the preferred size.
pub(crate) const RAMP: u32 = 3;
/// Blocks are not made smaller than this when the driver refuses larger ones.
const SMALLEST_BLOCK: u64 = 1 << 20;
/// Block sizes are multiples of this.
const BLOCK_ROUNDING: u64 = 32;
/// No block is larger, whatever is asked for: a suballocator keeps sizes in 60 bits.
const LARGEST_BLOCK: u64 = 1 << 59;

/// How large blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// In bytes.
    pub preferred: u64,
    /// The caller named the size: no ramp, no smaller block.
    pub explicit: bool,
}

impl BlockSizes {
    /// An eighth of a heap up to 1 GiB, else 256 MiB; `explicit` if the caller says.
    pub fn for_heap(heap_size: u64, explicit: Option<u64>) -> Self {
        let preferred = match explicit {
            Some(size) => size,
            None if Self::is_small_heap(heap_size) => heap_size / 8,
            None => 256 << 20,
        };
        let preferred = round(preferred.clamp(1, LARGEST_BLOCK));
        Self { preferred, explicit: explicit.is_some() }
    }

    /// Up to 1 GiB, as the window through which the host reaches the memory of many a card: a block as
    /// large as suits others would be much of it.
    pub fn is_small_heap(heap_size: u64) -> bool {
        heap_size <= 1 << 30
    }

    /// What the first attempt takes for a request, beside blocks of up to `largest` bytes.
    pub(crate) fn first(self, request: u64, largest: u64, headroom: u64) -> u64 {
        let mut size = self.preferred;
        if self.explicit {
            return size;
        }
        for _ in 0..RAMP {
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

    /// What the next attempt takes, if there is one.
    pub(crate) fn smaller(self, size: u64, request: u64) -> Option<u64> {
        // The last step goes to the floor itself: a heap may have that much left, and no more.
        let floor = round(SMALLEST_BLOCK.min(self.preferred / 8));
        let half = round(size / 2).max(floor);
        (!self.explicit && half >= request && half < size).then_some(half)
    }
}

fn round(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_ROUNDING)
}
