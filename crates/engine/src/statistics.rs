//! Counts of blocks, allocations and unused ranges.

use crate::handle::Home;

/// What some blocks hold. Sums and extremes add up with [`Statistics::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Memory objects.
    pub block_count: u64,
    /// Bytes of them.
    pub block_bytes: u64,
    /// Live allocations.
    pub allocation_count: u64,
    /// Bytes of them, as requested.
    pub allocation_bytes: u64,
    /// Free regions.
    pub unused_range_count: u64,
    /// Bytes of them.
    pub unused_range_bytes: u64,
    /// In bytes; `u64::MAX` without allocations.
    pub allocation_size_min: u64,
    /// In bytes; 0 without allocations.
    pub allocation_size_max: u64,
    /// In bytes; `u64::MAX` without unused ranges.
    pub unused_range_size_min: u64,
    /// In bytes; 0 without unused ranges.
    pub unused_range_size_max: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            block_count: 0,
            block_bytes: 0,
            allocation_count: 0,
            allocation_bytes: 0,
            unused_range_count: 0,
            unused_range_bytes: 0,
            allocation_size_min: u64::MAX,
            allocation_size_max: 0,
            unused_range_size_min: u64::MAX,
            unused_range_size_max: 0,
        }
    }
}

impl Statistics {
    /// Counts a memory object.
    pub fn add_block(&mut self, size: u64) {
        self.block_count += 1;
        self.block_bytes += size;
    }

    /// Counts a live allocation.
    pub fn add_allocation(&mut self, size: u64) {
        self.allocation_count += 1;
        self.allocation_bytes += size;
        self.allocation_size_min = self.allocation_size_min.min(size);
        self.allocation_size_max = self.allocation_size_max.max(size);
    }

    /// Counts a free region.
    pub fn add_unused_range(&mut self, size: u64) {
        self.unused_range_count += 1;
        self.unused_range_bytes += size;
        self.unused_range_size_min = self.unused_range_size_min.min(size);
        self.unused_range_size_max = self.unused_range_size_max.max(size);
    }

    /// Adds what other blocks hold.
    pub fn add(&mut self, other: &Self) {
        self.block_count += other.block_count;
        self.block_bytes += other.block_bytes;
        self.allocation_count += other.allocation_count;
        self.allocation_bytes += other.allocation_bytes;
        self.unused_range_count += other.unused_range_count;
        self.unused_range_bytes += other.unused_range_bytes;
        self.allocation_size_min = self.allocation_size_min.min(other.allocation_size_min);
        self.allocation_size_max = self.allocation_size_max.max(other.allocation_size_max);
        self.unused_range_size_min = self.unused_range_size_min.min(other.unused_range_size_min);
        self.unused_range_size_max = self.unused_range_size_max.max(other.unused_range_size_max);
    }

    /// 1 - largest unused range / all unused bytes: 0 while what is unused is one piece, or nothing is,
    /// close to 1 when it is scattered.
    pub fn fragmentation(&self) -> f64 {
        if self.unused_range_bytes == 0 {
            return 0.0;
        }
        1.0 - self.unused_range_size_max as f64 / self.unused_range_bytes as f64
    }
}

/// What one pool holds.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatistics {
    /// Which pool.
    pub home: Home,
    /// Of all its memory.
    pub memory_type_index: u32,
    /// The figures.
    pub statistics: Statistics,
}
