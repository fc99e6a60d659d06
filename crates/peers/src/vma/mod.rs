//! VMA through its C functions, which the crate `vk-mem` compiles and links.
//!
//! The crate's own wrapper is left out on purpose: nothing stands between a measurement and VMA.

mod allocator;
mod ffi;
mod virtual_block;

pub use allocator::{Allocation, Allocator, Handles, Options, Pool, TotalStatistics};
pub use virtual_block::{DetailedStatistics, VirtualBlock, VirtualStrategy};

// Links the library that the declarations of this module are found in.
use vk_mem as _;
