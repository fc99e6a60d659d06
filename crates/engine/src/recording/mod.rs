//! What an allocator tells whoever records it: each call, in the order in which the calls took effect.
//!
//! ```text
//!   order          numbers for events, given where something takes effect    `order.rs`
//!   Told           what happened                                             `told.rs`
//!   Subject        the resource that a call is about                         `subject.rs`
//!   RecorderSlot   who is told                                               `slot.rs`
//! ```
//!
//! **The order is that of the effects.** An event gets its number under the lock of the pool that it changes, in a
//! variable of the thread; the call passes it on once the lock is released. So of two threads that allocate from one
//! pool, the one that was first there has the lower number, and who records does nothing under the lock of a pool.
//!
//! **Not recording costs one load.** As long as no allocator of the process is recorded, nothing here does more.

pub(crate) mod order;
mod slot;
mod subject;
mod told;

pub use order::{is_active, next as next_number, next_of as next_numbers};
pub(crate) use slot::RecorderSlot;
pub(crate) use subject::with_subjects;
pub use subject::{Subject, set_subject, set_subjects};
pub use told::{Recorder, Told, ToldEnd, ToldObject};
