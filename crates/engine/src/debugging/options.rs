//! [`DebugOptions`]: margins, quarantine, and limits that are stricter than the device's.

use crate::error::Error;
use crate::words::bytes;

/// The largest margin in bytes.
const LARGEST_MARGIN: u64 = 16 << 20;
/// The largest granularity in bytes.
const LARGEST_GRANULARITY: u64 = 1 << 30;

/// How long freed memory is not given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineLimit {
    /// Until more than this many bytes of the pool are in quarantine; the oldest leave first.
    Bytes(u64),
    /// For this many frames of [`Allocator::set_frame`](crate::Allocator::set_frame).
    Frames(u64),
}

/// Options that help to find a program's faults; all are off by default. They apply to an allocator, or to one
/// pool instead of those of its allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugOptions {
    /// Bytes before and behind each allocation that nobody may write: a multiple of 4, at most 16 MiB; 0 for
    /// none. Memory of its own has none where the resource or another program needs its exact size: where the
    /// driver requires a dedicated memory object, in exported and in imported memory, with a `pNext` chain of the
    /// caller's, and in lazily allocated memory.
    pub margin: u64,
    /// How long freed memory of each pool is not given out again; `None`: not at all. A request that finds no room
    /// ends that sooner.
    pub quarantine: Option<QuarantineLimit>,
    /// Whether the contents of all memory are to be written through buffers that lie over it: memory of its own is not
    /// dedicated to a resource that only prefers that (`VkMemoryDedicatedAllocateInfo`), as nothing else could be bound
    /// to it then. A quarantine does that, too.
    pub reaches_contents: bool,
    /// The least `bufferImageGranularity` in bytes, a power of two. Pools that ignore the granularity ignore this.
    pub min_granularity: Option<u64>,
    /// Whether each allocation gets a memory object of its own, unless it is `NEVER_ALLOCATE`. Pools with a block
    /// size or a maximum number of blocks do not take this over from their allocator.
    pub always_dedicated: bool,
}

impl DebugOptions {
    /// Rejects options that are out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_margin(self.margin)?;
        let invalid = |reason: String| Err(Error::InvalidArgument(reason));
        match self.quarantine {
            Some(QuarantineLimit::Bytes(0)) => {
                return invalid("a quarantine of 0 bytes: leave it out for none".into());
            }
            Some(QuarantineLimit::Frames(0)) => {
                return invalid("a quarantine of 0 frames: leave it out for none".into());
            }
            _ => {}
        }
        match self.min_granularity {
            Some(it) if !it.is_power_of_two() => {
                invalid(format!("min_granularity is {it}, not a power of two"))
            }
            Some(it) if it > LARGEST_GRANULARITY => invalid(format!(
                "min_granularity is {}, above {}",
                bytes(it),
                bytes(LARGEST_GRANULARITY)
            )),
            _ => Ok(()),
        }
    }
}

/// Rejects a margin that is out of range or not a multiple of 4.
pub(crate) fn check_margin(margin: u64) -> Result<(), Error> {
    if !margin.is_multiple_of(4) {
        return Err(Error::InvalidArgument(format!(
            "margin is {margin}, not a multiple of 4 bytes"
        )));
    }
    if margin > LARGEST_MARGIN {
        let (margin, most) = (bytes(margin), bytes(LARGEST_MARGIN));
        return Err(Error::InvalidArgument(format!("margin is {margin}, above {most}")));
    }
    Ok(())
}
