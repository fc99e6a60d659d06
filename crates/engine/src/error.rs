//! Every way an operation can fail, with the figures that explain it.

use std::fmt;

use crate::device::{CallError, DeviceError};
use crate::words::{bytes, counted};

/// Figures of a failed allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureFigures {
    /// Asked for, in bytes.
    pub size: u64,
    /// The type that was tried first, and its heap.
    pub memory_type_index: Option<u32>,
    /// Of that type.
    pub heap_index: Option<u32>,
    /// Bytes that this allocator holds of that heap, or what the driver says.
    pub heap_usage: u64,
    /// Bytes that may be used of that heap.
    pub heap_budget: u64,
    /// Nothing that is freed would help: the rules of the pool or the limits of the device forbid it.
    pub can_never_succeed: bool,
}

/// Why an operation failed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The driver, a limit or a budget has no memory for it.
    OutOfDeviceMemory {
        /// Which rule stopped it, for people.
        reason: String,
        /// What was asked and what there was.
        figures: FailureFigures,
    },
    /// The driver has no host memory for it.
    OutOfHostMemory {
        /// The call of the driver that said so.
        call: &'static str,
        /// What was asked and what there was.
        figures: FailureFigures,
    },
    /// `vkAllocateMemory` failed otherwise than for want of device memory.
    Refused {
        /// What it answered; not that the device is lost.
        result: DeviceError,
        /// What was asked and what there was.
        figures: FailureFigures,
    },
    /// There is no host memory for the bookkeeping of so many.
    TooManyItems(usize),
    /// There is no host memory for something of the caller's size.
    NoHostMemory(&'static str),
    /// `maxMemoryAllocationCount` memory objects live already.
    TooManyObjects {
        /// The limit.
        limit: u32,
        /// What was asked and what there was.
        figures: FailureFigures,
    },
    /// A virtual block has no room. In the caller's unit, not in bytes.
    VirtualBlockFull {
        /// What was asked; only the size is known.
        figures: FailureFigures,
        /// In use.
        allocated: u64,
        /// Of the block.
        size: u64,
    },
    /// No memory type has what is required.
    FeatureNotPresent(String),
    /// The request itself is wrong.
    InvalidArgument(String),
    /// Memory that cannot be mapped, or that the driver refused to map.
    MemoryMap(String),
    /// The handle is stale: its allocation was freed.
    UseAfterFree,
    /// The device is lost, as this call of the driver says.
    DeviceLost(&'static str),
    /// Another error of the driver.
    Device(CallError),
}

impl Error {
    /// The `VkResult` that stands behind it, or the one VMA would return.
    pub fn vk_result(&self) -> Option<i32> {
        match self {
            Self::OutOfDeviceMemory { .. } | Self::VirtualBlockFull { .. } => Some(-2),
            Self::OutOfHostMemory { .. } | Self::TooManyItems(_) | Self::NoHostMemory(_) => {
                Some(-1)
            }
            Self::TooManyObjects { .. } => Some(-10),
            Self::FeatureNotPresent(_) => Some(-8),
            Self::MemoryMap(_) => Some(-5),
            Self::DeviceLost(_) => Some(-4),
            Self::Refused { result, .. } => Some(result.vk_result()),
            Self::Device(error) => Some(error.result.vk_result()),
            Self::InvalidArgument(_) | Self::UseAfterFree => None,
        }
    }

    /// The same failure, about `size` bytes: what the caller asked for, not the block that was to
    /// hold it.
    pub(crate) fn about(mut self, size: u64) -> Self {
        match &mut self {
            Self::OutOfDeviceMemory { figures, .. }
            | Self::OutOfHostMemory { figures, .. }
            | Self::Refused { figures, .. }
            | Self::TooManyObjects { figures, .. } => figures.size = size,
            _ => {}
        }
        self
    }

    /// Whether a smaller block, another memory type or dedicated memory may serve where this failed.
    /// Drivers have many words for a lack of memory, so whatever `vkAllocateMemory` answers counts, but
    /// that the device is lost.
    pub(crate) fn leads_on(&self) -> bool {
        matches!(
            self,
            Self::OutOfDeviceMemory { .. } | Self::TooManyObjects { .. } | Self::Refused { .. }
        )
    }

    /// Whether memory is missing that may come free: then another attempt is worth it.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::OutOfDeviceMemory { figures, .. }
            | Self::TooManyObjects { figures, .. }
            | Self::Refused { figures, .. } => !figures.can_never_succeed,
            _ => false,
        }
    }

    /// The same failure after another way was tried as well: hopeless only if both are.
    pub(crate) fn unless_hopeful(mut self, other: &Self) -> Self {
        let hopeful = other.is_shortage();
        match &mut self {
            Self::OutOfDeviceMemory { figures, .. }
            | Self::TooManyObjects { figures, .. }
            | Self::Refused { figures, .. } => figures.can_never_succeed &= !hopeful,
            _ => {}
        }
        self
    }

    /// The figures of a failed allocation.
    pub fn figures(&self) -> Option<&FailureFigures> {
        match self {
            Self::OutOfDeviceMemory { figures, .. }
            | Self::OutOfHostMemory { figures, .. }
            | Self::TooManyObjects { figures, .. }
            | Self::Refused { figures, .. }
            | Self::VirtualBlockFull { figures, .. } => Some(figures),
            _ => None,
        }
    }
}

/// Errors of calls that ask for no memory: those of flushing, waiting, copying.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error.result {
            DeviceError::DeviceLost => Self::DeviceLost(error.call),
            _ => Self::Device(error),
        }
    }
}

impl Error {
    /// The error of a call of the driver that took no memory object, but ran out of memory by itself,
    /// as `vkCreateBuffer` can.
    pub fn of_call(call: &'static str, error: DeviceError, figures: FailureFigures) -> Self {
        let failed = error.of(call);
        match error {
            DeviceError::OutOfDeviceMemory => {
                Self::OutOfDeviceMemory { reason: failed.to_string(), figures }
            }
            DeviceError::OutOfHostMemory => Self::OutOfHostMemory { call, figures },
            _ => failed.into(),
        }
    }
}

/// `12345678` as `11.8 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

impl fmt::Display for FailureFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            0 => f.write_str("a size that is not known")?,
            size => write!(f, "{} ({})", bytes(size), human_bytes(size))?,
        }
        if let (Some(memory_type), Some(heap)) = (self.memory_type_index, self.heap_index) {
            write!(
                f,
                " of memory type {memory_type}; heap {heap}: {} used, budget {}",
                human_bytes(self.heap_usage),
                human_bytes(self.heap_budget)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfDeviceMemory { reason, figures } => {
                write!(f, "out of device memory: {reason}: asked for {figures}")
            }
            Self::OutOfHostMemory { call, figures } => {
                let failed = DeviceError::OutOfHostMemory.of(call);
                write!(f, "out of host memory: {failed}: asked for {figures}")
            }
            Self::Refused { result, figures } => {
                if *result == DeviceError::OutOfHostMemory {
                    f.write_str("out of host memory: ")?;
                }
                write!(f, "vkAllocateMemory answered {result}: asked for {figures}")
            }
            Self::TooManyItems(count) => {
                write!(
                    f,
                    "out of host memory: no room for the bookkeeping of {}",
                    counted(*count, "item")
                )
            }
            Self::NoHostMemory(what) => write!(f, "out of host memory: no room for {what}"),
            Self::TooManyObjects { limit, figures } => write!(
                f,
                "too many memory objects: the device allows {limit} (maxMemoryAllocationCount): \
                 asked for {figures}"
            ),
            Self::VirtualBlockFull { figures, allocated, size } => write!(
                f,
                "no room for {} in the virtual block: {allocated} of {size} are in use",
                figures.size
            ),
            Self::FeatureNotPresent(reason)
            | Self::InvalidArgument(reason)
            | Self::MemoryMap(reason) => f.write_str(reason),
            Self::UseAfterFree => f.write_str("the allocation was freed"),
            Self::DeviceLost(call) => {
                write!(f, "the device is lost: {}", DeviceError::DeviceLost.of(call))
            }
            Self::Device(error) => write!(f, "the driver failed: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// Which of many failed, and why. Nothing of the others is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedItem {
    /// Counted from 0.
    pub index: usize,
    /// Why.
    pub error: Error,
}
