//! Dividing blocks into regions.
//!
//! A [`Suballocator`] keeps *all* blocks of an arena under one index, so finding a place costs the same
//! with one block and with ten thousand. It only handles sizes and offsets; the arena knows which memory
//! object stands behind a block.

mod any;
mod bins;
mod buddy;
mod count;
pub(crate) mod evicting;
pub mod granularity;
mod interface;
mod linear;
pub(crate) mod moving;
mod node;
mod region;
mod slab;
mod tlsf;
mod values;

pub use crate::handle::SlotKey;
pub use crate::request::Algorithm;
pub use any::AnySuballocator;
pub use buddy::Buddy;
pub use interface::Suballocator;
pub use linear::Linear;
pub use region::RegionTable;
pub use tlsf::Tlsf;
pub use values::{
    BlockIndex, FreedRegion, Placement, RegionInfo, RegionRequest, RegionTag, RegionView,
};
