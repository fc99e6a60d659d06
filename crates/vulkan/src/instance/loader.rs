//! [`Loader`]: the Vulkan loader of the system, or that of a caller's `vkGetInstanceProcAddr`.

use std::ffi::CStr;
use std::mem;

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};

use crate::instance::functions::{GlobalFunctions, InstanceVersionFunctions, Provider};
use crate::instance::open_error::OpenError;

/// File names of the loader, in order of preference.
#[cfg(windows)]
const LIBRARIES: &[&str] = &["vulkan-1.dll"];
/// File names of the loader, in order of preference. Homebrew's folders are not searched for plain names;
/// MoltenVK can replace the loader.
#[cfg(target_vendor = "apple")]
const LIBRARIES: &[&str] = &[
    "libvulkan.dylib",
    "libvulkan.1.dylib",
    "libMoltenVK.dylib",
    "/opt/homebrew/lib/libvulkan.dylib",
    "/usr/local/lib/libvulkan.dylib",
    "/opt/homebrew/lib/libMoltenVK.dylib",
];
/// File names of the loader, in order of preference.
#[cfg(not(any(windows, target_vendor = "apple")))]
const LIBRARIES: &[&str] = &["libvulkan.so.1", "libvulkan.so"];

/// The loader, once loaded. It is never unloaded: drivers leave threads and thread-local destructors
/// behind that would run in unmapped code.
static SYSTEM: Mutex<Option<ash::Entry>, rank::Loader> = Mutex::new(None);

/// Access to all Vulkan functions.
#[derive(Clone, Copy)]
pub(crate) struct Loader {
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
}

impl Loader {
    /// Returns the system's loader.
    pub(crate) fn system() -> Result<Self, OpenError> {
        let mut system = SYSTEM.lock();
        let entry = match &mut *system {
            Some(entry) => entry,
            none => none.insert(load_first(LIBRARIES)?),
        };
        Ok(Self { get_instance_proc_addr: entry.static_fn().get_instance_proc_addr })
    }

    /// Returns the loader of a `vkGetInstanceProcAddr` address; the system's for 0.
    ///
    /// # Safety
    /// The address is 0 or that of a `vkGetInstanceProcAddr` that stays loaded.
    pub(crate) unsafe fn of_caller(address: u64) -> Result<Self, OpenError> {
        if address == 0 {
            return Self::system();
        }
        // SAFETY: the caller guarantees a valid address.
        unsafe { Self::from_address(address) }
    }

    /// Returns the loader of a `vkGetInstanceProcAddr` address.
    ///
    /// # Safety
    /// The address is 0 or that of a `vkGetInstanceProcAddr` that stays loaded.
    pub(crate) unsafe fn from_address(address: u64) -> Result<Self, OpenError> {
        let null = OpenError::NullHandle { what: "the address of vkGetInstanceProcAddr" };
        let address = usize::try_from(address).map_err(|_| null.clone())?;
        // SAFETY: an `Option` of a function pointer is as large as an address, and zero is `None`.
        let function = unsafe {
            mem::transmute::<*const (), Option<vk::PFN_vkGetInstanceProcAddr>>(address as *const ())
        };
        Ok(Self { get_instance_proc_addr: function.ok_or(null)? })
    }

    /// Returns a function of an instance, or a global one for the null handle.
    ///
    /// # Safety
    /// The instance is live or null.
    pub(crate) unsafe fn find(
        &self,
        instance: vk::Instance,
        name: &CStr,
    ) -> vk::PFN_vkVoidFunction {
        // SAFETY: the caller guarantees a valid instance; the name ends with NUL.
        unsafe { (self.get_instance_proc_addr)(instance, name.as_ptr()) }
    }

    /// Returns the functions that need no instance.
    pub(crate) fn global_functions(&self) -> Result<GlobalFunctions, OpenError> {
        // SAFETY: the null instance is allowed, and `find` returns the function of the name.
        unsafe {
            GlobalFunctions::load(Provider::VULKAN_1_0, &|name| {
                self.find(vk::Instance::null(), name)
            })
        }
    }

    /// Returns the newest version that an instance can have.
    pub(crate) fn version(&self) -> Result<u32, OpenError> {
        // SAFETY: the null instance is allowed, and `find` returns the function of the name.
        let functions = unsafe {
            InstanceVersionFunctions::load(Provider::VULKAN_1_1, &|name| {
                self.find(vk::Instance::null(), name)
            })
        };
        let Ok(functions) = functions else { return Ok(vk::API_VERSION_1_0) };
        let mut version = vk::API_VERSION_1_0;
        // SAFETY: the pointer is valid for the call.
        unsafe { (functions.enumerate_instance_version)(&mut version) }
            .result()
            .map_err(OpenError::vulkan("vkEnumerateInstanceVersion"))?;
        Ok(version)
    }
}

fn load_first(libraries: &[&str]) -> Result<ash::Entry, OpenError> {
    let mut detail = None;
    for library in libraries {
        // SAFETY: the Vulkan loader may be loaded at any time, by any thread; see `SYSTEM` for why
        // nothing outlives it.
        match unsafe { ash::Entry::load_from(library) } {
            Ok(entry) => return Ok(entry),
            Err(error) => detail = detail.or(Some(error.to_string())),
        }
    }
    Err(OpenError::LoaderMissing {
        tried: libraries.iter().map(|library| (*library).to_owned()).collect(),
        detail: detail.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_loader_says_what_to_install() {
        let error = load_first(&["libvulkan-that-is-not-there.so"]).map(|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("libvulkan-that-is-not-there.so"), "{text}");
        assert!(text.contains("install"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn a_null_address_is_refused() {
        // SAFETY: zero is allowed.
        assert!(unsafe { Loader::from_address(0) }.is_err());
    }
}
