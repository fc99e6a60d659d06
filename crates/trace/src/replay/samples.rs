//! [`Samples`]: figures of a replay at some moments of it.

use vkmem_engine::Statistics;

use super::places::Places;
use super::worker::Worker;
use super::world::World;

/// Figures of all allocators at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The event before which it was taken, by its index.
    pub event: usize,
    /// Recorded time of that event in ns.
    pub time: u64,
    /// Bytes of all memory objects.
    pub held: u64,
    /// Bytes of all live allocations.
    pub live: u64,
    /// Number of live allocations.
    pub allocations: u64,
    /// Number of unused ranges.
    pub unused_ranges: u64,
    /// Size of the largest unused range in bytes.
    pub largest_unused: u64,
    /// 1 - largest unused range / all unused bytes.
    pub fragmentation: f64,
}

impl Sample {
    /// Takes a sample before an event. O(regions).
    pub(super) fn take(world: &World, places: Option<&Places>, event: usize) -> Self {
        let sum = match places {
            Some(places) => places.statistics(world),
            None => {
                let mut sum = Statistics::default();
                world.instances().for_each(|(_, it)| sum.add(&it.allocator.statistics()));
                sum
            }
        };
        Self {
            event,
            time: world.trace.columns().times().get(event).copied().unwrap_or(0),
            held: sum.block_bytes,
            live: sum.allocation_bytes,
            allocations: sum.allocation_count,
            unused_ranges: sum.unused_range_count,
            largest_unused: sum.unused_range_size_max,
            fragmentation: sum.fragmentation(),
        }
    }
}

/// Takes samples at regular distances.
#[derive(Debug)]
pub(super) struct Samples {
    step: usize,
    next: usize,
    pub taken: Vec<Sample>,
}

impl Samples {
    /// Takes about `count` samples of `events` events.
    pub fn new(count: usize, events: usize) -> Self {
        let step = if count == 0 { usize::MAX } else { events.div_ceil(count).max(1) };
        Self { step, next: step, taken: Vec::new() }
    }

    /// Takes a sample if it is time for one.
    #[inline]
    pub fn before(&mut self, worker: &Worker<'_>, event: usize) {
        if event >= self.next {
            self.take(worker, event);
        }
    }

    #[cold]
    fn take(&mut self, worker: &Worker<'_>, event: usize) {
        self.taken.push(Sample::take(worker.world, worker.places.as_ref(), event));
        self.next = event.saturating_add(self.step);
    }
}
