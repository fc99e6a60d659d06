//! Counts and sizes of blocks, allocations and unused ranges.

use crate::handle::PoolKey;

/// The statistics of a set of blocks. Two of them are combined with [`Statistics::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Number of memory objects.
    pub block_count: u64,
    /// Size of all memory objects in bytes.
    pub block_bytes: u64,
    /// Number of live allocations.
    pub allocation_count: u64,
    /// Requested size of all live allocations in bytes.
    pub allocation_bytes: u64,
    /// Number of unused ranges.
    pub unused_range_count: u64,
    /// Size of all unused ranges in bytes.
    pub unused_range_bytes: u64,
    /// Size of the smallest allocation in bytes; `u64::MAX` without allocations.
    pub allocation_size_min: u64,
    /// Size of the largest allocation in bytes; 0 without allocations.
    pub allocation_size_max: u64,
    /// Size of the smallest unused range in bytes; `u64::MAX` without unused ranges.
    pub unused_range_size_min: u64,
    /// Size of the largest unused range in bytes; 0 without unused ranges.
    pub unused_range_size_max: u64,
    /// Number of margins; each allocation with margins has one before and one behind it.
    pub margin_count: u64,
    /// Size of all margins in bytes, with what alignment adds. They are neither allocated nor unused.
    pub margin_bytes: u64,
    /// Number of freed allocations in quarantine.
    pub quarantined_count: u64,
    /// Size of these in bytes, without their margins. They are neither allocated nor unused.
    pub quarantined_bytes: u64,
    /// Size in bytes of the smallest margin or range in quarantine; `u64::MAX` without any.
    pub held_size_min: u64,
    /// Size in bytes of the largest margin or range in quarantine; 0 without any.
    pub held_size_max: u64,
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
            margin_count: 0,
            margin_bytes: 0,
            quarantined_count: 0,
            quarantined_bytes: 0,
            held_size_min: u64::MAX,
            held_size_max: 0,
        }
    }
}

impl Statistics {
    /// Adds a memory object of `size` bytes.
    pub fn add_block(&mut self, size: u64) {
        self.block_count += 1;
        self.block_bytes += size;
    }

    /// Adds a live allocation of `size` bytes.
    pub fn add_allocation(&mut self, size: u64) {
        self.allocation_count += 1;
        self.allocation_bytes += size;
        self.allocation_size_min = self.allocation_size_min.min(size);
        self.allocation_size_max = self.allocation_size_max.max(size);
    }

    /// Adds an unused range of `size` bytes.
    pub fn add_unused_range(&mut self, size: u64) {
        self.unused_range_count += 1;
        self.unused_range_bytes += size;
        self.unused_range_size_min = self.unused_range_size_min.min(size);
        self.unused_range_size_max = self.unused_range_size_max.max(size);
    }

    /// Adds a margin of `size` bytes.
    pub fn add_margin(&mut self, size: u64) {
        self.margin_count += 1;
        self.margin_bytes += size;
        self.add_held_size(size);
    }

    /// Adds a freed allocation of `size` bytes in quarantine.
    pub fn add_quarantined(&mut self, size: u64) {
        self.quarantined_count += 1;
        self.quarantined_bytes += size;
        self.add_held_size(size);
    }

    fn add_held_size(&mut self, size: u64) {
        self.held_size_min = self.held_size_min.min(size);
        self.held_size_max = self.held_size_max.max(size);
    }

    /// Returns the statistics with margins and ranges in quarantine as unused ranges: what VMA counts.
    pub fn with_held_unused(&self) -> Self {
        Self {
            unused_range_count: self.unused_range_count
                + self.margin_count
                + self.quarantined_count,
            unused_range_bytes: self.unused_range_bytes
                + self.margin_bytes
                + self.quarantined_bytes,
            unused_range_size_min: self.unused_range_size_min.min(self.held_size_min),
            unused_range_size_max: self.unused_range_size_max.max(self.held_size_max),
            margin_count: 0,
            margin_bytes: 0,
            quarantined_count: 0,
            quarantined_bytes: 0,
            held_size_min: u64::MAX,
            held_size_max: 0,
            ..*self
        }
    }

    /// Adds the statistics of other blocks.
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
        self.margin_count += other.margin_count;
        self.margin_bytes += other.margin_bytes;
        self.quarantined_count += other.quarantined_count;
        self.quarantined_bytes += other.quarantined_bytes;
        self.held_size_min = self.held_size_min.min(other.held_size_min);
        self.held_size_max = self.held_size_max.max(other.held_size_max);
    }

    /// Returns 1 - largest unused range / all unused bytes: 0 if the unused bytes are one range or none,
    /// close to 1 if they are scattered.
    pub fn fragmentation(&self) -> f64 {
        if self.unused_range_bytes == 0 {
            return 0.0;
        }
        1.0 - self.unused_range_size_max as f64 / self.unused_range_bytes as f64
    }
}

/// The statistics of one pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatistics {
    /// The pool.
    pub pool_key: PoolKey,
    /// The memory type of the pool.
    pub memory_type_index: u32,
    /// The statistics of its blocks and dedicated memory.
    pub statistics: Statistics,
}
