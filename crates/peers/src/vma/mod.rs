//! VMA through its C functions, which the crate `vk-mem` compiles and links.
//!
//! The crate's own wrapper is not used, so that nothing is between a measurement and VMA.

mod allocator;
mod defragmentation;
mod ffi;
mod virtual_block;

pub use allocator::{Allocation, Allocator, Handles, Options, Pool, TotalStatistics};
pub use defragmentation::{Defragmentation, DefragmentationAlgorithm, PassLimits};
pub use ffi::DefragmentationStatistics;
pub use virtual_block::{DetailedStatistics, VirtualBlock, VirtualStrategy};

// Links the library with the functions declared in this module.
use vk_mem as _;
