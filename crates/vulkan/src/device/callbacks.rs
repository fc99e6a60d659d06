//! A caller's `VkAllocationCallbacks`.

use std::fmt;

use ash::vk;

/// What the driver calls for its host memory, for each call that creates or destroys something of a device.
#[derive(Clone, Copy)]
pub struct AllocationCallbacks(pub(crate) vk::AllocationCallbacks<'static>);

impl AllocationCallbacks {
    /// Bytes of a `VkAllocationCallbacks`.
    pub const SIZE: usize = size_of::<vk::AllocationCallbacks<'static>>();

    /// Copies the structure at an address.
    ///
    /// # Safety
    /// A `VkAllocationCallbacks` lies there. Its functions can be called from any thread, and live as long
    /// as every device that gets them, and all that was made from it.
    pub unsafe fn read(address: u64) -> Self {
        // SAFETY: of the caller.
        Self(unsafe { std::ptr::read(address as usize as *const vk::AllocationCallbacks<'static>) })
    }

    /// The first function that is missing and has to be there.
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

/// Without the functions' addresses: they say nothing to people.
impl fmt::Debug for AllocationCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllocationCallbacks")
    }
}

// SAFETY: whoever made one by `read` vouches that its functions can be called from any thread.
unsafe impl Send for AllocationCallbacks {}
// SAFETY: as above; nothing changes it.
unsafe impl Sync for AllocationCallbacks {}
