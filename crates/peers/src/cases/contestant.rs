//! A common interface of all contestants' virtual blocks.

use prefetch_index::prefetch_index;
use vkmem_engine::suballocator::{Algorithm, SlotKey};
use vkmem_engine::{Strategy, VirtualBlock, VirtualRequest};

use crate::vma;

/// A virtual block that a trace can drive.
pub trait Contestant {
    /// The result of `allocate`, which `free` takes.
    type Handle: Copy;

    /// Returns handle and offset, or `None` if there is no room.
    fn allocate(&mut self, size: u64, alignment: u64) -> Option<(Self::Handle, u64)>;

    /// Frees a live allocation.
    fn free(&mut self, handle: Self::Handle);

    /// Returns offset and size.
    fn place(&self, handle: Self::Handle) -> (u64, u64);
}

/// This project's virtual block.
pub struct Ours {
    /// The block.
    pub block: VirtualBlock,
    /// Its search strategy.
    pub strategy: Strategy,
}

impl Ours {
    /// Creates a block of `size` bytes.
    pub fn new(size: u64, strategy: Strategy) -> Self {
        let block = VirtualBlock::new(size, Algorithm::Tlsf).expect("a valid size");
        Self { block, strategy }
    }
}

impl Contestant for Ours {
    type Handle = SlotKey;

    #[inline]
    fn allocate(&mut self, size: u64, alignment: u64) -> Option<(SlotKey, u64)> {
        let request = VirtualRequest { size, alignment, upper: false, strategy: self.strategy };
        self.block.allocate(&request).ok().map(|it| (it.key, it.offset))
    }

    #[inline]
    fn free(&mut self, handle: SlotKey) {
        self.block.free(handle).expect("it is live");
    }

    fn place(&self, handle: SlotKey) -> (u64, u64) {
        let info = self.block.info(handle).expect("it is live");
        (info.offset, info.size)
    }
}

/// VMA's virtual block with one of its strategies.
pub struct Vma {
    /// The block.
    pub block: vma::VirtualBlock,
    /// Its search strategy.
    pub strategy: vma::VirtualStrategy,
}

impl Vma {
    /// Creates a block of `size` bytes.
    pub fn new(size: u64, strategy: vma::VirtualStrategy) -> Self {
        Self { block: vma::VirtualBlock::new(size, false), strategy }
    }
}

impl Contestant for Vma {
    type Handle = u64;

    #[inline]
    fn allocate(&mut self, size: u64, alignment: u64) -> Option<(u64, u64)> {
        self.block.allocate(size, alignment, self.strategy, false)
    }

    #[inline]
    fn free(&mut self, handle: u64) {
        // SAFETY: the traces free each handle once.
        unsafe { self.block.free(handle) }
    }

    fn place(&self, handle: u64) -> (u64, u64) {
        // SAFETY: the traces query live handles only.
        unsafe { self.block.info(handle) }
    }
}

/// The allocator of the crate `offset-allocator`, which divides up to 2^32 - 1 units and knows no
/// alignment: so its unit is [`ALIGNMENT`] bytes.
pub struct OffsetAllocator(offset_allocator::Allocator);

impl OffsetAllocator {
    /// A block of `size` bytes, or of one unit less, for `live` allocations at once. It takes the memory for
    /// its bookkeeping ahead and never more, for free ranges, too, of which there is one more at most.
    pub fn new(size: u64, live: usize) -> Self {
        let units = u32::try_from(size / ALIGNMENT).unwrap_or(u32::MAX);
        let most = u32::try_from(2 * live + 2).expect("fewer than 2^31 allocations");
        Self(offset_allocator::Allocator::with_max_allocs(units, most))
    }
}

impl Contestant for OffsetAllocator {
    type Handle = offset_allocator::Allocation;

    #[inline]
    fn allocate(&mut self, size: u64, alignment: u64) -> Option<(Self::Handle, u64)> {
        debug_assert_eq!(alignment, ALIGNMENT);
        let units = size.div_ceil(ALIGNMENT) as u32;
        self.0.allocate(units).map(|it| (it, u64::from(it.offset) * ALIGNMENT))
    }

    #[inline]
    fn free(&mut self, handle: Self::Handle) {
        self.0.free(handle);
    }

    fn place(&self, handle: Self::Handle) -> (u64, u64) {
        let units = u64::from(self.0.allocation_size(handle));
        (u64::from(handle.offset) * ALIGNMENT, units * ALIGNMENT)
    }
}

/// Another contestant with [`ALIGNMENT`] bytes as its unit, so that it need not align anything.
pub struct InUnits<C>(pub C);

impl<C: Contestant> Contestant for InUnits<C> {
    type Handle = C::Handle;

    #[inline]
    fn allocate(&mut self, size: u64, alignment: u64) -> Option<(C::Handle, u64)> {
        debug_assert_eq!(alignment, ALIGNMENT);
        let placed = self.0.allocate(size.div_ceil(ALIGNMENT), 1);
        placed.map(|(handle, offset)| (handle, offset * ALIGNMENT))
    }

    #[inline]
    fn free(&mut self, handle: C::Handle) {
        self.0.free(handle);
    }

    fn place(&self, handle: C::Handle) -> (u64, u64) {
        let (offset, size) = self.0.place(handle);
        (offset * ALIGNMENT, size * ALIGNMENT)
    }
}

/// Live allocations under churn: each step frees a random one and allocates another.
pub struct Churn<C: Contestant> {
    /// The contestant.
    pub contestant: C,
    live: Vec<C::Handle>,
    bytes: Vec<u32>,
    steps: crate::random::Random,
}

/// The victim's position, and the size of its successor.
pub type Step = (u32, u32);

/// Enough steps for a handle to arrive, and few enough for it to stay in the cache.
const STEPS_AHEAD: usize = 8;

/// The alignment in bytes of all traces that do not set another one.
pub const ALIGNMENT: u64 = 256;

impl<C: Contestant> Churn<C> {
    /// Creates `n` live allocations.
    pub fn new(mut contestant: C, n: usize, seed: u64) -> Self {
        let mut steps = crate::random::Random(seed);
        let (mut live, mut bytes) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for _ in 0..n {
            let size = steps.size();
            live.push(contestant.allocate(size, ALIGNMENT).expect("there is room").0);
            bytes.push(size as u32);
        }
        Self { contestant, live, bytes, steps }
    }

    /// Returns the next steps of the trace, made before they are timed: plans run in the order in which
    /// they were made.
    pub fn plan(&mut self, count: usize) -> Vec<Step> {
        let n = self.live.len() as u64;
        let steps: Vec<Step> =
            (0..count).map(|_| (self.steps.below(n) as u32, self.steps.size() as u32)).collect();
        // The sizes are recorded here, so that this is not part of the measurement.
        for &(at, size) in &steps {
            self.bytes[at as usize] = size;
        }
        steps
    }

    /// Frees and allocates: the timed part.
    pub fn run(&mut self, steps: &[Step]) -> u64 {
        self.pairs(steps, |_, _| {})
    }

    /// Runs a plan with the victims' handles prefetched a few steps ahead. A million of them do not fit
    /// into the cache, and waiting for one is not part of an allocator's work.
    pub fn run_with_handles_at_hand(&mut self, steps: &[Step]) -> u64 {
        self.pairs(steps, |live, ahead| prefetch_index(live, ahead))
    }

    #[inline(always)]
    fn pairs(&mut self, steps: &[Step], fetch: impl Fn(&[C::Handle], usize)) -> u64 {
        for (step, &(at, size)) in steps.iter().enumerate() {
            if let Some(&(ahead, _)) = steps.get(step + STEPS_AHEAD) {
                fetch(&self.live, ahead as usize);
            }
            let handle = &mut self.live[at as usize];
            self.contestant.free(*handle);
            let placed = self.contestant.allocate(u64::from(size), ALIGNMENT);
            *handle = placed.expect("there is room").0;
        }
        steps.len() as u64
    }

    /// Runs steps outside of a measurement.
    pub fn warm(&mut self, count: usize) {
        let steps = self.plan(count);
        self.run(&steps);
    }

    /// Returns the end of the used range over the live bytes in it.
    pub fn end_over_live(&self) -> f64 {
        let end = self.live.iter().map(|&it| {
            let (offset, size) = self.contestant.place(it);
            offset + size
        });
        let live: u64 = self.bytes.iter().map(|&it| u64::from(it)).sum();
        end.max().unwrap_or(0) as f64 / live as f64
    }

    /// Returns the bytes that the trace itself holds for its live allocations.
    pub fn own_bytes(&self) -> usize {
        self.live.capacity() * size_of::<C::Handle>() + self.bytes.capacity() * size_of::<u32>()
    }

    /// Returns the number of live allocations.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}
