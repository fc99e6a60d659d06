//! Recording: what allocators tell becomes a recording, in a file or in a ring in memory.
//!
//! ```text
//!   Recording          one recording of any number of allocators           `recording.rs`
//!     Source           receives what one allocator tells                   `source.rs`
//!       Inbox          told events, until they are encoded                 `inbox.rs`
//!         Raw          such an event, with copies of what it refers to     `raw.rs`
//!       Clock          when events happened                             `clock.rs`
//!     Writing          encodes them: numbers for objects, blocks           `writing.rs`
//!       translate      events of the engine as events of traces            `translate.rs`
//!       Numbers        numbers of objects                                  `numbers.rs`
//!       Encoded        blocks, or a timeline                               `encoded.rs`
//!         Order        events of a timeline in their order                 `order.rs`
//!     RecordedBlock    a virtual block that may be recorded                `recorded_block.rs`
//!       SpaceSource    receives what it tells                              `space.rs`, `space_events.rs`
//!     Sink             a file, or a ring of blocks                         `sink.rs`
//!   writer             the thread that encodes and writes                  `writer.rs`
//!     Shared           what it shares with the recording                   `shared.rs`
//! ```
//!
//! **A call only leaves a note.** It copies its parameters and its result into the inbox, under a lock of its own that
//! nobody holds for long. A thread encodes what is there and writes it, so no call waits for the disk. If the disk is
//! slower than the program, the inbox grows up to a limit, beyond which events are dropped and counted.

mod clock;
mod encoded;
mod inbox;
mod numbers;
mod order;
mod raw;
mod raw_failure;
mod raw_space;
mod recorded_block;
mod recording;
mod shared;
mod sink;
mod source;
mod space;
mod space_events;
mod space_numbers;
mod translate;
mod writer;
mod writing;

pub use clock::Counter;
pub use raw_space::SpaceInfo;
pub use recorded_block::{RecordedBlock, RecordedBlocks};
pub use recording::{AllocatorHead, Finished, Recording, RecordingOptions, Target};
pub use shared::OnFailure;
pub use source::{CallSiteFrame, Source, set_call_site};
