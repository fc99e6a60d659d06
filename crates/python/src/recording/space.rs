//! [`RecordedSpace`]: what divides memory of an allocator, and is recorded with it.

use vkmem_engine::lock::{Mutex, rank};
use vkmem_trace::{RecordedBlock, Recording};

/// A virtual block that may be recorded.
pub type BlockLock = Mutex<RecordedBlock, rank::VirtualBlock>;

/// A set of virtual blocks that is recorded with its allocator.
pub trait RecordedSpace: Send + Sync {
    /// Records it from now on, as that of the allocator with this number; what exists is told first.
    fn begin(&self, recording: &Recording, allocator: u16, is_new: bool);

    /// Ends its recording.
    fn end(&self);
}
