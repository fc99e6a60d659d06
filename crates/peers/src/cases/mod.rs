//! The measured cases, one file each.

pub mod blocks;
pub mod buffers;
pub mod churn;
pub mod contestant;
pub mod defragmentation;
pub mod eviction;
pub mod linear;
pub mod lines;
pub mod memory;
pub mod offset;
pub mod statistics;
pub mod tail;
pub mod threads;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Smaller counts: everything in under a minute.
    pub quick: bool,
}
