//! [`Event`]: a call with its time, thread and frame.

use super::call::Call;
use crate::dictionary::SiteId;

/// An event of a trace. Objects are numbered from 0 in the order in which they were created: allocators, pools,
/// allocations with aliases and imports, memory objects, virtual blocks and sets, virtual allocations, runs of
/// defragmentation, each by themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// Position in the order of all calls; gaps are events that were not kept.
    pub sequence: u64,
    /// Time in ns since the start of the recording.
    pub time: u64,
    /// Number of the thread: in our recordings in the order of their first call, in foreign ones the thread's id.
    pub thread: u32,
    /// Index of the current frame.
    pub frame: u64,
    /// Number of the allocator; the device in snapshots of PyTorch.
    pub allocator: u16,
    /// The call stack, if it was tracked.
    pub site: Option<SiteId>,
    /// Whether the call was made before the recording began: it tells what existed then.
    pub is_state: bool,
    /// The call.
    pub call: Call<'a>,
}

impl<'a> Event<'a> {
    /// Creates an event of thread, frame and allocator 0.
    pub fn new(sequence: u64, time: u64, call: Call<'a>) -> Self {
        Self {
            sequence,
            time,
            thread: 0,
            frame: 0,
            allocator: 0,
            site: None,
            is_state: false,
            call,
        }
    }
}
