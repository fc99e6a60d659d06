//! The cost of memory alone: the cache lines that a pair has to touch, without an allocator.

use super::contestant::Contestant;
use crate::random::Random;

/// A region with links to its neighbours, of the size of our node, the smallest of all contestants'.
#[derive(Clone, Copy)]
struct Line {
    neighbours: [u32; 2],
    size: u64,
    rest: [u64; 2],
}

/// Regions in random order, as after much churn; two of three are live. A free reads one and updates its
/// neighbours; an allocate reads and changes one and updates its neighbour. Nothing is searched, divided
/// or merged, and the region to take is known beforehand.
pub struct Lines {
    lines: Vec<Line>,
    next: u64,
}

impl Lines {
    /// Creates the regions of `n` live allocations.
    pub fn new(n: usize) -> Self {
        let (count, mut random) = (n as u64 * 3 / 2, Random(7));
        let mut neighbour = || random.below(count) as u32;
        let lines = (0..count).map(|_| {
            let neighbours = [neighbour(), neighbour()];
            Line { neighbours, size: 0, rest: [0; 2] }
        });
        Self { lines: lines.collect(), next: 0 }
    }
}

impl Contestant for Lines {
    type Handle = u64;

    #[inline]
    fn allocate(&mut self, size: u64, _: u64) -> Option<(u64, u64)> {
        // Any region, chosen without a memory access.
        self.next =
            self.next.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let chosen = ((u128::from(self.next) * self.lines.len() as u128) >> 64) as u64;
        let line = &mut self.lines[chosen as usize];
        line.size = size;
        line.rest[0] = line.rest[0].wrapping_add(1);
        let behind = line.neighbours[1];
        self.lines[behind as usize].neighbours[0] = chosen as u32;
        Some((chosen, 0))
    }

    #[inline]
    fn free(&mut self, handle: u64) {
        let [before, behind] = self.lines[handle as usize].neighbours;
        self.lines[before as usize].rest[1] = handle;
        self.lines[behind as usize].rest[1] = handle;
    }

    fn place(&self, handle: u64) -> (u64, u64) {
        (0, self.lines[handle as usize].size)
    }
}
