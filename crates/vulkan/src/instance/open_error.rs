//! [`OpenError`]: why a device could not be opened or wrapped.

use std::fmt;

use ash::vk;

use crate::instance::nearest::meant;

/// The reason why a device could not be opened or wrapped. Displays as one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// No Vulkan loader on this machine.
    LoaderMissing {
        /// File names of the libraries that were tried.
        tried: Vec<String>,
        /// The system's message for the first of them.
        detail: String,
    },
    /// The process has no free file descriptor, so neither a loader nor a driver can be opened.
    NoDescriptors {
        /// The system's message.
        detail: String,
    },
    /// There is a loader, but no driver with a device.
    NoDevice,
    /// The selector matches none of the devices.
    NoSuchDevice {
        /// The requested device.
        wanted: String,
        /// Names of the present devices, by index.
        present: Vec<String>,
    },
    /// The device has no queue family that can copy and has the requested flags.
    NoQueue {
        /// Name of the device.
        name: String,
        /// The requested flags.
        flags: vk::QueueFlags,
        /// The flags of its families.
        present: Vec<vk::QueueFlags>,
    },
    /// The device lacks requested extensions or features.
    Lacks {
        /// Name of the device.
        device: String,
        /// The missing extensions and features, each with its kind.
        lacks: Vec<String>,
    },
    /// Vulkan has no feature of this name.
    UnknownFeature {
        /// The requested name.
        name: String,
        /// Similar names.
        near: Vec<String>,
    },
    /// An extension is both requested and excluded.
    LeftOut {
        /// Its name, and what needs it.
        what: String,
    },
    /// `VK_LAYER_KHRONOS_validation` is not installed.
    ValidationLayerMissing,
    /// A version or an extension is listed as enabled, but one of its functions is missing.
    FunctionMissing {
        /// The Vulkan name of the function.
        function: String,
        /// The version or the extension.
        provider: &'static str,
    },
    /// The API version is below 1.0.
    ApiVersionTooLow {
        /// The requested version.
        version: u32,
    },
    /// A required handle is null.
    NullHandle {
        /// The name of the handle.
        what: &'static str,
    },
    /// A queue cannot be the transfer queue of a wrapped device.
    TransferQueue {
        /// What is wrong with it.
        why: String,
    },
    /// A Vulkan call failed.
    Vulkan {
        /// The name of the Vulkan function.
        call: &'static str,
        /// The `VkResult`.
        result: i32,
    },
}

impl OpenError {
    /// Returns the error itself, or [`NoDescriptors`](Self::NoDescriptors) if no file can be opened:
    /// loaders and drivers then fail as if there were no driver.
    pub(crate) fn or_no_descriptors(self) -> Self {
        match self {
            Self::LoaderMissing { .. }
            | Self::NoDevice
            | Self::NoSuchDevice { .. }
            | Self::ValidationLayerMissing
            | Self::Lacks { .. }
            | Self::FunctionMissing { .. }
            | Self::Vulkan { .. } => {
                out_of_descriptors().map_or(self, |detail| Self::NoDescriptors { detail })
            }
            other => other,
        }
    }

    pub(crate) fn vulkan(call: &'static str) -> impl Fn(vk::Result) -> Self {
        move |result| Self::Vulkan { call, result: result.as_raw() }
    }
}

/// Returns the system's message if no more files can be opened. Drivers open several at a time.
#[cfg(unix)]
fn out_of_descriptors() -> Option<String> {
    use std::fs::File;
    // ENFILE and EMFILE, the same on all Unix systems.
    const NO_MORE: [i32; 2] = [23, 24];
    let mut opened = Vec::new();
    for _ in 0..DESCRIPTORS_OF_A_DRIVER {
        match File::open("/dev/null") {
            Ok(file) => opened.push(file),
            Err(error) if error.raw_os_error().is_some_and(|it| NO_MORE.contains(&it)) => {
                return Some(error.to_string());
            }
            Err(_) => return None,
        }
    }
    None
}

/// Other systems have no such limit.
#[cfg(not(unix))]
fn out_of_descriptors() -> Option<String> {
    None
}

/// About the number of files that a loader and a driver have open at a time.
#[cfg(unix)]
const DESCRIPTORS_OF_A_DRIVER: usize = 8;

/// How to install a loader.
const LOADER_ADVICE: &str = if cfg!(windows) {
    "install the graphics driver of the GPU's vendor"
} else if cfg!(target_vendor = "apple") {
    "install the Vulkan SDK, or with Homebrew: vulkan-loader and molten-vk"
} else {
    "install libvulkan1 (Debian, Ubuntu), vulkan-loader (Fedora) or vulkan-icd-loader (Arch)"
};

/// How to install a driver.
const DRIVER_ADVICE: &str = if cfg!(windows) {
    "install the graphics driver of the GPU's vendor"
} else if cfg!(target_vendor = "apple") {
    "install MoltenVK (Vulkan SDK, or with Homebrew: molten-vk)"
} else {
    "install the GPU's driver, or Mesa's, which has a CPU driver too: mesa-vulkan-drivers \
     (Debian, Ubuntu, Fedora) or vulkan-swrast (Arch)"
};

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoaderMissing { tried, detail } => write!(
                f,
                "no Vulkan loader found (tried {}: {detail}): {LOADER_ADVICE}",
                tried.join(", ")
            ),
            Self::NoDescriptors { detail } => write!(
                f,
                "no Vulkan driver can be opened, as no file can be: {detail}: close files, or raise the \
                 limit (ulimit -n, resource.RLIMIT_NOFILE)"
            ),
            Self::NoDevice => write!(f, "no Vulkan driver has a device: {DRIVER_ADVICE}"),
            Self::NoSuchDevice { wanted, present } => {
                write!(f, "no Vulkan device is {wanted}; present:")?;
                for (index, name) in present.iter().enumerate() {
                    write!(f, "{} {index}: {name}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::NoQueue { name, flags, .. } if flags.is_empty() => {
                write!(f, "the Vulkan device {name} has no graphics, compute or transfer queue")
            }
            Self::NoQueue { name, flags, present } => {
                let present: Vec<_> = present.iter().map(|it| format!("{it:?}")).collect();
                write!(
                    f,
                    "the Vulkan device {name} has no queue family that can copy and has {flags:?}; it has: {}",
                    present.join("; ")
                )
            }
            Self::Lacks { device, lacks } => {
                write!(f, "the Vulkan device {device} lacks {}", lacks.join(", "))
            }
            Self::UnknownFeature { name, near } => {
                write!(f, "Vulkan has no feature called {name:?}{}", meant(near))
            }
            Self::LeftOut { what } => {
                write!(f, "without_extensions leaves out what is asked for: {what}")
            }
            Self::ValidationLayerMissing => f.write_str(
                "validation was asked for, and VK_LAYER_KHRONOS_validation is not installed: \
                 install vulkan-validationlayers (Debian, Ubuntu), vulkan-validation-layers \
                 (Fedora, Arch) or the Vulkan SDK",
            ),
            Self::FunctionMissing { function, provider } => write!(
                f,
                "{function} is missing: the driver or the loader does not have it, or {provider} \
                 is not enabled on this instance and device"
            ),
            Self::ApiVersionTooLow { version } => write!(
                f,
                "API version {} is too low: Vulkan 1.0 is the least that works (versions are \
                 VK_MAKE_API_VERSION numbers)",
                version_text(*version)
            ),
            Self::TransferQueue { why } => write!(f, "transfer_queue cannot be used: {why}"),
            Self::NullHandle { what } => write!(f, "{what} must not be null"),
            Self::Vulkan { call, result } => {
                write!(f, "{call} failed: {} ({result})", result_name(*result))
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// Returns the `VK_ERROR_...` name of a `VkResult`, or `VkResult` for an unknown one.
fn result_name(result: i32) -> String {
    let name = format!("{:?}", vk::Result::from_raw(result));
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        format!("VK_{name}")
    } else {
        "VkResult".to_owned()
    }
}

/// Formats a version: `1.3.230`.
pub(crate) fn version_text(version: u32) -> String {
    format!(
        "{}.{}.{}",
        vk::api_version_major(version),
        vk::api_version_minor(version),
        vk::api_version_patch(version)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_its_vulkan_name() {
        let error = OpenError::vulkan("vkCreateDevice")(vk::Result::ERROR_DEVICE_LOST);
        assert_eq!(error.to_string(), "vkCreateDevice failed: VK_ERROR_DEVICE_LOST (-4)");
        let error = OpenError::Vulkan { call: "vkCreateDevice", result: -77 };
        assert_eq!(error.to_string(), "vkCreateDevice failed: VkResult (-77)");
    }

    #[test]
    fn a_wrong_selector_lists_the_devices() {
        let error = OpenError::NoSuchDevice {
            wanted: "number 7".to_owned(),
            present: vec!["A".to_owned(), "B".to_owned()],
        };
        assert_eq!(error.to_string(), "no Vulkan device is number 7; present: 0: A, 1: B");
    }

    #[test]
    fn every_error_is_one_line() {
        for error in [
            OpenError::LoaderMissing { tried: vec!["a".to_owned()], detail: "none".to_owned() },
            OpenError::NoDevice,
            OpenError::NoDescriptors { detail: "too many open files".to_owned() },
            OpenError::NoQueue {
                name: "A".to_owned(),
                flags: vk::QueueFlags::VIDEO_DECODE_KHR,
                present: vec![vk::QueueFlags::COMPUTE, vk::QueueFlags::TRANSFER],
            },
            OpenError::Lacks { device: "A".to_owned(), lacks: vec!["the feature b".to_owned()] },
            OpenError::UnknownFeature { name: "a".to_owned(), near: vec!["b".to_owned()] },
            OpenError::LeftOut { what: "VK_KHR_x".to_owned() },
            OpenError::ValidationLayerMissing,
            OpenError::FunctionMissing { function: "vkX".to_owned(), provider: "VK_KHR_x" },
            OpenError::ApiVersionTooLow { version: 3 },
            OpenError::NullHandle { what: "the device" },
            OpenError::TransferQueue { why: "it is null".to_owned() },
        ] {
            let text = error.to_string();
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
    }
}
