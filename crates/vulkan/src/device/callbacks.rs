//! [`AllocationCallbacks`]: a caller's `VkAllocationCallbacks`.

use std::fmt;

use ash::vk;

/// The host memory callbacks for each Vulkan call that creates or destroys an object of a device.
#[derive(Clone, Copy)]
pub struct AllocationCallbacks(pub(crate) vk::AllocationCallbacks<'static>);

impl AllocationCallbacks {
    /// Size of a `VkAllocationCallbacks` in bytes.
    pub const SIZE: usize = size_of::<vk::AllocationCallbacks<'static>>();

    /// Copies the structure at an address.
    ///
    /// # Safety
    /// The address is that of a `VkAllocationCallbacks`. Its functions can be called from any thread, and
    /// live as long as every device that uses them and all objects created from it.
    pub unsafe fn read(address: u64) -> Self {
        // SAFETY: the caller guarantees a valid `VkAllocationCallbacks` at the address.
        Self(unsafe { std::ptr::read(address as usize as *const vk::AllocationCallbacks<'static>) })
    }

    /// Returns the first required function that is missing.
    pub fn missing(&self) -> Option<&'static str> {
        let it = &self.0;
        let (notes, ends) = (it.pfn_internal_allocation.is_some(), it.pfn_internal_free.is_some());
        match () {
            () if it.pfn_allocation.is_none() => Some("pfnAllocation"),
            () if it.pfn_reallocation.is_none() => Some("pfnReallocation"),
            () if it.pfn_free.is_none() => Some("pfnFree"),
            () if ends && !notes => Some("pfnInternalAllocation"),
            () if notes && !ends => Some("pfnInternalFree"),
            () => None,
        }
    }
}

/// Omits the addresses of the functions, which mean nothing to a reader.
impl fmt::Debug for AllocationCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllocationCallbacks")
    }
}

// SAFETY: the caller of `read` guarantees that the functions can be called from any thread.
unsafe impl Send for AllocationCallbacks {}
// SAFETY: the functions can be called from any thread, and nothing modifies the structure.
unsafe impl Sync for AllocationCallbacks {}
