//! Traces of memory allocators: what a program asked for, when, and what it was answered.
//!
//! [`load`] reads recordings of this library, of the Vulkan Memory Allocator, of the RAPIDS Memory Manager and
//! memory snapshots of PyTorch into a [`Trace`]. [`Encoder`] turns events into a recording.
#![forbid(unsafe_code)]

mod bytes;
mod description;
mod dictionary;
mod error;
mod event;
mod field;
mod format;
mod json;
mod numbering;
mod objects;
mod page;
mod perfetto;
mod progress;
mod read;
mod record;
mod replay;
mod trace;
mod usage;
mod value;
mod values;
mod write;

pub use description::Description;
pub use dictionary::{Dictionary, Frame, SiteId};
pub use error::{Format, Position, ReadError};
pub use event::{Call, Data, Event, GroupKind, HostAndDeviceLimits, Kind, MoveResult, Object};
pub use format::{Encoder, VERSION};
pub use page::{Begin, End, Mark, TimelineData, timeline_data, timeline_data_with};
pub use perfetto::{
    TimelineOptions, write_chrome_json, write_chrome_json_with, write_perfetto, write_perfetto_with,
};
pub use progress::Progress;
pub use read::{detect, load, load_as, load_with};
pub use record::{
    AllocatorHead, CallSiteFrame, Counter, Finished, OnFailure, RecordedBlock, RecordedBlocks,
    Recording, RecordingOptions, Source, SpaceInfo, Target, set_call_site,
};
pub use replay::{
    ClassFigures, Clock, Difference, DriverFunction, FailedCall, Failures, FunctionCalls,
    HeapFigures, Leftovers, Peak, Placements, RecordedFigures, ReplayDevice, ReplayError,
    ReplayReport, ReplaySettings, ReplayThreads, Replayed, Sample, compare, comparison_table,
    replay,
};
pub use trace::{Columns, TooLarge, Trace, TraceBuilder, Warning};
pub use usage::{Held, Usage};
pub use value::{Value, options_fields};
pub use values::{
    BufferInfo, Failure, FailureReason, ImageInfo, Numbers, Placed, Priority, Request, Resource,
};
pub use write::{
    Written, write_rmm_csv, write_rmm_csv_with, write_vkmem, write_vkmem_with, write_vma_csv,
    write_vma_csv_with,
};

#[cfg(test)]
mod tests;
