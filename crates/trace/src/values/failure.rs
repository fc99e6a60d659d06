//! [`Failure`]: why a call failed.

use vkmem_engine::{Error, FailureFigures};

/// The kind of an [`Error`] of the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailureReason {
    /// The trace does not say.
    #[default]
    Unknown = 0,
    /// [`Error::OutOfDeviceMemory`]
    OutOfDeviceMemory = 1,
    /// [`Error::OutOfHostMemory`]
    OutOfHostMemory = 2,
    /// [`Error::Refused`]
    Refused = 3,
    /// [`Error::TooManyItems`]
    TooManyItems = 4,
    /// [`Error::NoHostMemory`]
    NoHostMemory = 5,
    /// [`Error::TooManyObjects`]
    TooManyObjects = 6,
    /// [`Error::VirtualBlockFull`]
    VirtualBlockFull = 7,
    /// [`Error::FeatureNotPresent`]
    FeatureNotPresent = 8,
    /// [`Error::InvalidArgument`]
    InvalidArgument = 9,
    /// [`Error::MemoryMap`]
    MemoryMap = 10,
    /// [`Error::UseAfterFree`]
    UseAfterFree = 11,
    /// [`Error::DeviceLost`]
    DeviceLost = 12,
    /// [`Error::Device`]
    Device = 13,
}

impl FailureReason {
    /// All reasons in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Unknown,
        Self::OutOfDeviceMemory,
        Self::OutOfHostMemory,
        Self::Refused,
        Self::TooManyItems,
        Self::NoHostMemory,
        Self::TooManyObjects,
        Self::VirtualBlockFull,
        Self::FeatureNotPresent,
        Self::InvalidArgument,
        Self::MemoryMap,
        Self::UseAfterFree,
        Self::DeviceLost,
        Self::Device,
    ];

    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::OutOfDeviceMemory => "out_of_device_memory",
            Self::OutOfHostMemory => "out_of_host_memory",
            Self::Refused => "refused",
            Self::TooManyItems => "too_many_items",
            Self::NoHostMemory => "no_host_memory",
            Self::TooManyObjects => "too_many_objects",
            Self::VirtualBlockFull => "virtual_block_full",
            Self::FeatureNotPresent => "feature_not_present",
            Self::InvalidArgument => "invalid_argument",
            Self::MemoryMap => "memory_map",
            Self::UseAfterFree => "use_after_free",
            Self::DeviceLost => "device_lost",
            Self::Device => "device",
        }
    }

    /// Returns the reason of an error.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::OutOfDeviceMemory { .. } => Self::OutOfDeviceMemory,
            Error::OutOfHostMemory { .. } => Self::OutOfHostMemory,
            Error::Refused { .. } => Self::Refused,
            Error::TooManyItems(_) => Self::TooManyItems,
            Error::NoHostMemory(_) => Self::NoHostMemory,
            Error::TooManyObjects { .. } => Self::TooManyObjects,
            Error::VirtualBlockFull { .. } => Self::VirtualBlockFull,
            Error::FeatureNotPresent(_) => Self::FeatureNotPresent,
            Error::InvalidArgument(_) => Self::InvalidArgument,
            Error::MemoryMap(_) => Self::MemoryMap,
            Error::UseAfterFree => Self::UseAfterFree,
            Error::DeviceLost(_) => Self::DeviceLost,
            Error::Device(_) => Self::Device,
        }
    }
}

/// Why a call failed, with the figures of that moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failure<'a> {
    /// The kind of error.
    pub reason: FailureReason,
    /// The `VkResult`, if it has one.
    pub result: Option<i32>,
    /// Request and state of the heap, if the trace says them.
    pub figures: Option<FailureFigures>,
    /// The message.
    pub message: Option<&'a str>,
}

impl<'a> Failure<'a> {
    /// Describes an error of the engine with its message.
    pub fn of(error: &Error, message: &'a str) -> Self {
        Self {
            reason: FailureReason::of(error),
            result: error.vk_result(),
            figures: error.figures().copied(),
            message: Some(message),
        }
    }
}
