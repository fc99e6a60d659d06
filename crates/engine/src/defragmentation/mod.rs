//! Defragmentation: which allocations are to move where, so that blocks become empty.
//!
//! ```text
//!   Defragmentation      one run: its pools one after the other, passes, statistics
//!     PoolPlan           one pool, in rounds:
//!       survey           counts the bytes of each block                               `survey.rs`
//!       evacuate         the emptiest blocks into the free regions of the fullest     `evacuate.rs`
//!       tidy             each block downwards, into its own free regions              `tidy.rs`
//!       slide            what lies above a smaller gap, down over that gap            `slide.rs`
//!       refill           an empty block from the emptiest of those with many gaps     `evacuate.rs`
//! ```
//!
//! A plan only remembers where it was: blocks, and the key of the region that is next. Everything else is
//! looked up under the arena's lock when it is needed, some hundred regions at a time, and a place is
//! reserved in the same step in which it is found. So other threads may allocate and free at any time, and
//! what was freed, mapped or moved by another run in between is passed over.
//!
//! **Planning takes time by the moves.** A pass looks at some regions for each move that it may make. A survey
//! that takes more than that goes on in later passes; it begins with the emptiest and the fullest blocks, by
//! their number of regions, so that moves out of the former into the latter can be made before it is complete.
//! Only a pass that finds no move looks at everything, unless
//! [`max_regions_per_pass`](DefragmentationInfo::max_regions_per_pass) says otherwise.
//!
//! **Sources that wait.** A source is not counted from the time its move is proposed, also if it is freed long
//! after the move has ended: it neither fills its block nor keeps it from becoming empty.
//!
//! **It ends.** Within a round every stage goes through its blocks once, and through each block in one
//! direction. A further round begins only if allocations were moved, and every move makes one of two figures
//! better and leaves those before it as they are: the sum of squares of the live bytes of the blocks grows when
//! an allocation leaves a block for a fuller one; the sum of all offsets falls when it moves within its block.
//! A refill fills each block at most once in a run. What other threads do can make figures worse, so there is
//! also a limit of moves.

mod cursor;
mod evacuate;
mod figures;
mod gaps;
mod info;
mod pass;
mod plan;
mod run;
mod slide;
mod state;
mod survey;
mod tidy;

pub use info::{DefragmentationInfo, DefragmentationStatistics, MoveEnd, MoveOutcome, PassEnd};
pub use run::Defragmentation;
