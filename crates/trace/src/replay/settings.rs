//! [`ReplaySettings`]: with what a trace is replayed.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vkmem_engine::{Algorithm, DebugOptions, DeviceInfo, DeviceMemory, EmptyBlockRetention};

/// What is called before each event, with its index and its time in ns. It may wait, and may end the replay.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn(usize, u64) -> ControlFlow<()> + Send + Sync>);

impl Clock {
    /// Creates a clock that calls a function.
    pub fn new(before: impl Fn(usize, u64) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(before))
    }

    /// Creates a clock that waits until it is time for an event, as recorded: `speed` times as fast.
    pub fn recorded(speed: f64) -> Self {
        let start = Instant::now();
        Self::new(move |_, time| {
            let due = Duration::try_from_secs_f64(time as f64 / 1e9 / speed).unwrap_or_default();
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            ControlFlow::Continue(())
        })
    }

    pub(super) fn before(&self, index: usize, time: u64) -> ControlFlow<()> {
        (self.0)(index, time)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The device of a replay.
#[derive(Clone, Default)]
pub enum ReplayDevice {
    /// A simulated device as the trace describes it; where it describes none, one that fits its kind.
    #[default]
    AsRecorded,
    /// A simulated device with other heaps, memory types and limits.
    Simulated(DeviceInfo),
    /// Any other device.
    Other(Arc<dyn DeviceMemory>),
}

impl fmt::Debug for ReplayDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsRecorded => f.write_str("AsRecorded"),
            Self::Simulated(info) => write!(f, "Simulated({})", info.name),
            Self::Other(device) => write!(f, "Other({})", device.info().name),
        }
    }
}

/// On how many threads a trace is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayThreads {
    /// All calls one after the other, in the order of the trace.
    #[default]
    One,
    /// Calls of each recorded thread on a thread of its own, 64 at most. A call waits for earlier calls of others for
    /// the same object only; pools, frames, virtual blocks and defragmentations wait for all.
    AsRecorded,
}

/// With what a trace is replayed. What is `None` is as recorded; where the trace does not say it, the default.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// Name for tables.
    pub name: String,
    /// The device.
    pub device: ReplayDevice,
    /// The algorithm of all pools. With another one than TLSF, what the default pools served is allocated from one pool
    /// for each memory type, which falls back to the default pools.
    pub algorithm: Option<Algorithm>,
    /// Size of blocks in heaps above 1 GiB, and of all pools, in bytes.
    pub block_size: Option<u64>,
    /// Size of blocks in heaps up to 1 GiB, in bytes.
    pub small_heap_block_size: Option<u64>,
    /// Limits of the empty blocks that are retained.
    pub retention: Option<EmptyBlockRetention>,
    /// `[i]` limits the bytes allocated from heap i.
    pub heap_size_limits: Option<Vec<u64>>,
    /// Budget of each heap in bytes, as the driver reports it. `None`: as recorded.
    pub budgets: Option<Vec<u64>>,
    /// Whether more than `maxMemoryAllocationCount` memory objects may be allocated.
    pub exceed_allocation_count: Option<bool>,
    /// Number of frames after its last use in which an evictable allocation cannot be lost.
    pub frames_in_use: Option<u64>,
    /// Whether a thread allocates blocks ahead of time. Then placement depends on time.
    pub prefetch: bool,
    /// What helps to find faults and costs memory, in all pools; `None`: as recorded.
    pub debug: Option<DebugOptions>,
    /// Minimum alignment of each allocation in bytes, a power of two: `VMA_MIN_ALIGNMENT`; 0 and 1 have no effect.
    pub min_alignment: u64,
    /// Whether the driver fails where it failed in the recording, on one thread and the recorded device.
    pub injects_failures: bool,
    /// On how many threads.
    pub threads: ReplayThreads,
    /// Number of moments at which fragmentation is measured.
    pub samples: usize,
    /// The event to stop before, by its index.
    pub until: Option<usize>,
    /// Whether the replay is recorded: [`Replayed::trace`](super::Replayed::trace). On one thread only.
    pub records: bool,
    /// Called before each event; `None`: at full speed.
    pub clock: Option<Clock>,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self {
            name: "as recorded".into(),
            device: ReplayDevice::AsRecorded,
            algorithm: None,
            block_size: None,
            small_heap_block_size: None,
            retention: None,
            heap_size_limits: None,
            budgets: None,
            exceed_allocation_count: None,
            frames_in_use: None,
            prefetch: false,
            debug: None,
            min_alignment: 0,
            injects_failures: true,
            threads: ReplayThreads::One,
            samples: 100,
            until: None,
            records: false,
            clock: None,
        }
    }
}

impl ReplaySettings {
    /// Returns whether a recording of this library has to come out as it was recorded.
    pub(super) fn is_as_recorded(&self) -> bool {
        matches!(self.device, ReplayDevice::AsRecorded)
            && self.threads == ReplayThreads::One
            && self.algorithm.is_none()
            && self.block_size.is_none()
            && self.small_heap_block_size.is_none()
            && self.retention.is_none()
            && self.heap_size_limits.is_none()
            && self.budgets.is_none()
            && self.exceed_allocation_count.is_none()
            && self.frames_in_use.is_none()
            && !self.prefetch
            && self.debug.is_none()
            && self.min_alignment <= 1
            && self.injects_failures
    }
}
