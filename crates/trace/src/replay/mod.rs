//! Replays: a trace played on allocators of the engine.
//!
//! ```text
//!   replay            plays a trace, returns a `Replayed`                       `run.rs`
//!     World           allocators, devices, objects by their recorded numbers    `world.rs`
//!       Driver        answers as recorded, counts                               `driver.rs`
//!     schedule        in order, or on as many threads as recorded               `schedule.rs`
//!       Worker        plays calls: `allocations.rs`, `others.rs`, `calls.rs`, `spaces.rs`, `runs.rs`
//!         Tally       what it counts                                            `tally.rs`
//!         Recording   the replay as a trace                                     `recording.rs`
//!     ReplayReport    the result                                                `report.rs`
//!   compare           one trace with many settings                              `compare.rs`
//! ```
//!
//! A recording of this library says where everything went. With settings as recorded each place is compared, the driver
//! fails where it failed, and its budgets are those that were reported.

mod allocations;
mod calls;
mod compare;
mod describe;
mod driver;
mod formats;
mod gauges;
mod losses;
mod mapping;
mod objects;
mod others;
mod places;
mod recording;
mod report;
mod report_json;
mod report_text;
mod rooms;
mod rules;
mod run;
mod runs;
mod samples;
mod schedule;
mod settings;
mod spaces;
mod tally;
mod worker;
mod world;

pub use compare::compare;
pub use gauges::Peak;
pub use report::{DriverFunction, HeapFigures, RecordedFigures, ReplayReport};
pub use report_text::comparison_table;

pub use run::{ReplayError, Replayed, replay};
pub use samples::Sample;
pub use settings::{Clock, ReplayDevice, ReplaySettings, ReplayThreads};
pub use tally::{
    ClassFigures, Difference, FailedCall, Failures, FunctionCalls, Leftovers, Placements,
};
