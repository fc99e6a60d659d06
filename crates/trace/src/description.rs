//! [`Description`]: what a trace says of the device, the allocator and the program before its first event.

use vkmem_engine::{AllocatorOptions, DeviceInfo};

use crate::error::Format;

/// The setting of a description that says that the engine itself told the events: in the order of their effects, and all
/// that decides where something goes.
pub(crate) const RECORDER: &str = "recorder";
/// Its value.
pub(crate) const ENGINE: &str = "allocator";
/// The setting that says whether the driver reports budgets.
pub(crate) const BUDGETS: &str = "driver reports budgets";
/// The setting that says whether the driver lets memory stay mapped that nobody uses.
pub(crate) const STAYS_MAPPED: &str = "memory may stay mapped";
pub(crate) const NO: &str = "no";

/// The head of a trace. What its source does not say is `None` or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The format that it was read from.
    pub format: Format,
    /// Version of that format: (1, 8) for VMA's `1,8`.
    pub version: (u32, u32),
    /// The device: heaps, memory types, limits, name, ids.
    pub device: Option<DeviceInfo>,
    /// `VkPhysicalDeviceProperties::driverVersion`, which each vendor encodes differently.
    pub driver_version: Option<u32>,
    /// Options of the first allocator.
    pub options: Option<AllocatorOptions>,
    /// Extensions of Vulkan by name, and whether each was enabled.
    pub extensions: Vec<(String, bool)>,
    /// Other settings by name: macros of VMA, unknown lines of its configuration, settings of PyTorch's allocator.
    pub settings: Vec<(String, String)>,
    /// The recorded program.
    pub program: Option<String>,
    /// Id of the recorded process.
    pub process: Option<u32>,
    /// Name and version of the library that made the recording.
    pub library: Option<String>,
    /// Nanoseconds from 1970-01-01 UTC to the time 0 of the events.
    pub start: Option<u64>,
    /// The step of the clock in ns: 1,000,000 for milliseconds. 0 if the events have no times.
    pub resolution: u64,
}

impl Description {
    /// Creates a description that says nothing but the format and its version.
    pub fn new(format: Format, version: (u32, u32)) -> Self {
        Self {
            format,
            version,
            device: None,
            driver_version: None,
            options: None,
            extensions: Vec::new(),
            settings: Vec::new(),
            program: None,
            process: None,
            library: None,
            start: None,
            resolution: 1,
        }
    }

    /// Returns whether the engine told the events itself: in the order of their effects, with all that decides where
    /// something goes.
    pub(crate) fn is_told(&self) -> bool {
        self.setting(RECORDER) == Some(ENGINE)
    }

    /// Returns a setting by its name.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}
