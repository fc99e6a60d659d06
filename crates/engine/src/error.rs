//! [`Error`]: every way an operation can fail, with the figures that explain it.

use std::fmt;

use crate::device::{CallError, DeviceError};
use crate::words::{bytes, counted};

/// Figures of a failed allocation, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureFigures {
    /// Requested size in bytes.
    pub size: u64,
    /// The memory type that was tried first.
    pub memory_type_index: Option<u32>,
    /// The heap of that memory type.
    pub heap_index: Option<u32>,
    /// Bytes in use of that heap: the driver's figure, or the bytes that this allocator holds.
    pub heap_usage: u64,
    /// Budget of that heap in bytes.
    pub heap_budget: u64,
    /// Whether the request cannot succeed whatever is freed, because the pool or a limit of the device
    /// forbids it.
    pub can_never_succeed: bool,
}

/// The reason of a failure. A failed operation has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No device memory: the driver, a limit or a budget refused it.
    OutOfDeviceMemory {
        /// The rule that was violated, for the message.
        reason: String,
        /// Request and state of the heap.
        figures: FailureFigures,
    },
    /// The driver has no host memory.
    OutOfHostMemory {
        /// The Vulkan function that returned the error.
        call: &'static str,
        /// Request and state of the heap.
        figures: FailureFigures,
    },
    /// `vkAllocateMemory` failed for another reason than a lack of device memory.
    Refused {
        /// The result that it returned; never `DeviceLost`.
        result: DeviceError,
        /// Request and state of the heap.
        figures: FailureFigures,
    },
    /// No host memory for the bookkeeping of this many items.
    TooManyItems(usize),
    /// No host memory for the named object, whose size the caller chose.
    NoHostMemory(&'static str),
    /// The device already has `maxMemoryAllocationCount` memory objects.
    TooManyObjects {
        /// The value of `maxMemoryAllocationCount`.
        limit: u32,
        /// Request and state of the heap.
        figures: FailureFigures,
    },
    /// A virtual block has no room. Sizes are in the caller's unit, not in bytes.
    VirtualBlockFull {
        /// The request; only its size is set.
        figures: FailureFigures,
        /// Units in use.
        allocated: u64,
        /// Size of the block in units.
        size: u64,
        /// Units before and behind each allocation that belong to none, and the sum of all of these.
        margins: (u64, u64),
    },
    /// No memory type has the required properties.
    FeatureNotPresent(String),
    /// The request itself is invalid.
    InvalidArgument(String),
    /// The memory cannot be mapped, or the driver refused to map it.
    MemoryMap(String),
    /// The handle is stale: its allocation was freed.
    UseAfterFree,
    /// The device is lost; the named Vulkan function returned that.
    DeviceLost(&'static str),
    /// Any other error that a driver call returned.
    Device(CallError),
}

impl Error {
    /// Returns the `VkResult` of the error, or the one that VMA returns in this case; `None` for errors
    /// of the caller.
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

    /// Sets the size in the error: the size that the caller requested, not that of the block that was to
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

    /// Returns whether a smaller block, another memory type or dedicated memory may succeed where this
    /// failed. Drivers report a lack of memory in many ways, so any result of `vkAllocateMemory` counts
    /// except a lost device.
    pub(crate) fn allows_fallback(&self) -> bool {
        matches!(
            self,
            Self::OutOfDeviceMemory { .. } | Self::TooManyObjects { .. } | Self::Refused { .. }
        )
    }

    /// Returns whether the request may succeed once memory is freed.
    pub fn is_shortage(&self) -> bool {
        match self {
            Self::OutOfDeviceMemory { figures, .. }
            | Self::TooManyObjects { figures, .. }
            | Self::Refused { figures, .. } => !figures.can_never_succeed,
            _ => false,
        }
    }

    /// Combines the error with that of another attempt: it stays hopeless only if both are.
    pub(crate) fn combined_with(mut self, other: &Self) -> Self {
        let hopeful = other.is_shortage();
        match &mut self {
            Self::OutOfDeviceMemory { figures, .. }
            | Self::TooManyObjects { figures, .. }
            | Self::Refused { figures, .. } => figures.can_never_succeed &= !hopeful,
            _ => {}
        }
        self
    }

    /// Returns the figures of a failed allocation, if the error has any.
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

/// Converts errors of calls that allocate no memory object: flush, wait, copy.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error.result {
            DeviceError::DeviceLost => Self::DeviceLost(error.call),
            _ => Self::Device(error),
        }
    }
}

impl Error {
    /// Returns the error of a driver call that allocates no memory object but can run out of memory, as
    /// `vkCreateBuffer` can.
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

/// Formats a size with a binary unit: `12345678` as `11.8 MiB`.
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
            Self::VirtualBlockFull { figures, allocated, size, margins: (0, _) } => write!(
                f,
                "no room for {} in the virtual block: {allocated} of {size} are in use",
                figures.size
            ),
            Self::VirtualBlockFull { figures, allocated, size, margins: (margin, all) } => write!(
                f,
                "no room for {} and margins of {margin} before and behind it in the virtual block: {allocated} of \
                 {size} are in use, and {all} are margins",
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

/// The item of a call for many that failed, and its error. The call has undone the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedItem {
    /// Index of the item, from 0.
    pub index: usize,
    /// The error.
    pub error: Error,
}
