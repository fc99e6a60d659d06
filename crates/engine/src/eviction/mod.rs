//! Eviction: allocations that may be taken away when a request finds no room ("lost allocations").
//!
//! ```text
//!   Evictable      what the owner keeps: touch, is_lost                      `evictable.rs`
//!   Eviction       clock, owner, groups                                      `registry.rs`
//!     Group        the evictable allocations of one pool                     `group.rs`
//!       Chunk      last use and state of 256 of them                         `stamps.rs`
//!   Attempt        choose, ask the owner, commit, choose anew                `attempt.rs`
//!     in_hole      neighbours in the pool's blocks make room                 `place.rs`, `hole.rs`, `window.rs`
//!     in_room      what stays moves to where the oldest were                 `room.rs`, `room_plan.rs`, `packing.rs`
//!     in_exchange  a new memory object for others of the heap                `exchange.rs`, `heap_memory.rs`
//!   Rule           how old, and of what priority, victims have to be         `rule.rs`
//!   why_not        what a request that fails says of them                `why_not.rs`
//! ```
//!
//! **The ways into and out of a pool do not know of it.** An allocation is made like any other; then its owner makes
//! it evictable, and ends that before it frees it.
//!
//! **Nobody is lost for nothing.** The choice changes nothing. A commit claims all victims, which fails if one was
//! used since, and then frees them and places the request under one lock of the arena, which fails if the place is
//! not as it was. Memory objects of a heap are freed only if their sum suffices, and what replaces them is booked in
//! the ledger in exchange for them, and if possible allocated, before anybody is taken away.
//!
//! **Finding the oldest takes time by the victims.** A heap orders chunks by a lower bound of their oldest stamp. A
//! touch does not change it; a bound that turns out too low is corrected by a search that meets it, or before, by one
//! of the next frames. So a search reads the chunks of those it returns, and some of those that were used since.

mod all;
mod attempt;
mod evictable;
mod exchange;
mod group;
mod heap_memory;
mod hold;
mod hole;
mod host_memory;
mod owner;
mod packing;
mod place;
mod registry;
mod room;
mod room_plan;
mod rule;
mod stamps;
mod why_not;
mod window;

pub(crate) use attempt::Taken;
pub use evictable::Evictable;
pub use owner::{EvictionOwner, Room};
pub(crate) use registry::Eviction;
pub use registry::EvictionStatistics;
