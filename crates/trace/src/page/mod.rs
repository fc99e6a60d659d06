//! What a page shows of a trace: memory objects and allocations with their lifetimes, marks, budgets, times.
//!
//! ```text
//!   timeline_data       plays a trace that says no places, then builds          here
//!     Builder           takes event after event                                 `builder.rs`
//!       Places          heaps, memory types and pools; who owns what            `places.rs`
//!       Texts, Uses     each text and each use once                             `dictionary.rs`
//!     Column            numbers as bytes                                        `column.rs`
//!     slots             a line of its own for each memory object while it lives `slots.rs`
//!     head              what is not a column, as JSON                           `head.rs`
//! ```
//!
//! # Format
//!
//! [`TimelineData::header`] is a JSON object, [`TimelineData::body`] the columns that it lists, one after the other, and
//! then a JSON array of all texts. The members of the header are
//!
//! | member | contents |
//! | --- | --- |
//! | `version` | [`TimelineData::VERSION`] |
//! | `events` | number of events |
//! | `existing` | number of the first events that tell what existed before the recording |
//! | `format`, `source` | the format that the trace was read from: its name and its version |
//! | `resolution` | step of the clock in ns; 0 if the events have no times |
//! | `start` | ns from 1970-01-01 UTC to the time 0, or null |
//! | `device`, `program`, `library` | names, or null |
//! | `played` | whether the trace says no places, so that they are those of a replay |
//! | `warnings`, `cut` | number of warnings; whether the end of the file is missing |
//! | `heaps` | objects with `size` in bytes and `flags`, both null if they are not known, and `device`, the number of a device of PyTorch or null |
//! | `types` | objects with `heap`, `number` (null: the trace does not say the type) and `flags` |
//! | `pools` | objects with `type`, `allocator`, `number` (null: a default pool) and `name` |
//! | `uses` | objects with `class`, `usage` in hexadecimal, and `detail`: extent of an image, stream, or empty |
//! | `columns` | lists of name, encoding, number of entries and of bytes |
//! | `texts` | bytes of the array of texts; text 0 is empty |
//!
//! Each entry is a LEB128 number; with the encoding `delta` the zigzag number of its difference to the entry before, the
//! first to 0. The moment n is that after n events: what begins with event b and ends with event e exists at the moments
//! from b + 1 to e. `life` is e - b, or 0 for what never ends. Numbers of texts are 0, and others are one more than an
//! index, where there is none.
//!
//! | column | entries |
//! | --- | --- |
//! | `event.time` | ns since the start; delta |
//! | `event.kind` | [`Kind`](crate::Kind) |
//! | `memory.begin`, `memory.life` | of a memory object; `begin` is a delta |
//! | `memory.number` | its number in the trace; delta |
//! | `memory.size` | in bytes |
//! | `memory.pool` | index into `pools` |
//! | `memory.slot` | 0 for the memory object of a dedicated allocation; others with equal numbers in one pool exist one after the other |
//! | `place.begin`, `place.life` | of an allocation at one place; `begin` is a delta |
//! | `place.cause` | why it begins: [`Begin`] |
//! | `place.ending` | why it ends: [`End`] |
//! | `place.allocation` | number of the allocation; delta |
//! | `place.memory` | index into the memory objects, plus 1; 0 if the trace does not say it |
//! | `place.pool` | index into `pools` |
//! | `place.offset`, `place.size` | in bytes; of a slide what lies below the old place |
//! | `place.base` | index into the places of the allocation whose memory it shares, plus 1 |
//! | `place.use` | index into `uses` |
//! | `place.name`, `place.data` | texts: the last name and the last custom data |
//! | `place.site` | index into the sites, plus 1 |
//! | `site.caller` | index of the caller, plus 1 |
//! | `site.file`, `site.line`, `site.function` | texts, and the number of the line |
//! | `mark.event` | delta |
//! | `mark.kind` | [`Mark`] |
//! | `mark.value` | bytes, or the index of a frame |
//! | `mark.text` | a text |
//! | `mark.site` | index into the sites, plus 1 |
//! | `run.begin`, `run.life` | of a defragmentation; `begin` is a delta |
//! | `run.moves`, `run.moved`, `run.freed` | allocations moved, their bytes, bytes given back to the driver |
//! | `budget.event` | delta |
//! | `budget.heap`, `budget.budget`, `budget.usage` | index of the heap; bytes |

mod builder;
mod column;
mod dictionary;
mod head;
mod places;
mod slots;
mod tables;

use std::sync::Arc;

use crate::event::Kind;
use crate::progress::{Progress, nobody};
use crate::replay::{ReplaySettings, replay};
use crate::trace::Trace;
use builder::Builder;

pub use tables::{Begin, End, Mark};

/// The data of a page: a header and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineData {
    /// A JSON object.
    pub header: String,
    /// The columns, then a JSON array of texts.
    pub body: Vec<u8>,
}

impl TimelineData {
    /// Version of the format.
    pub const VERSION: u32 = 1;
}

/// Makes the data of a page. Where a trace does not say what went where, as VMA's and RMM's, it is played on a simulated
/// device as it describes it, and the data are those of the replay. O(events).
pub fn timeline_data(trace: &Arc<Trace>) -> TimelineData {
    timeline_data_with(trace, &nobody)
}

/// As [`timeline_data`]; tells how many events are taken.
pub fn timeline_data_with(trace: &Arc<Trace>, progress: Progress<'_>) -> TimelineData {
    if says_places(trace) {
        return Builder::new(trace, false).build(progress);
    }
    let settings = ReplaySettings { records: true, samples: 0, ..ReplaySettings::default() };
    let played = replay(trace, &settings).ok().and_then(|it| it.into_trace());
    match played {
        // A replay has one more clock and one more head; those of the trace are what its reader wants to see.
        Some(played) => Builder::new(&played, true).describing(trace).build(progress),
        None => Builder::new(trace, false).build(progress),
    }
}

/// Returns whether a trace says where allocations are, or has none.
fn says_places(trace: &Trace) -> bool {
    let kinds = trace.columns().kinds();
    let has = |kind: Kind| kinds.contains(&(kind as u8));
    has(Kind::AllocateMemory) || !(has(Kind::Allocate) || has(Kind::Import))
}
