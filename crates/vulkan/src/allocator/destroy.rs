//! Destroy and free in one call.

use ash::vk;
use vkmem_engine::{AllocationId, CacheHint, Error, Release};

use crate::allocator::DeviceAllocator;
use crate::host::cache_hints::expect_at;

impl DeviceAllocator {
    /// Destroys a buffer and frees its memory (`vmaDestroyBuffer`); what the driver has to do for the
    /// second is in the [`Release`]. An error, if there was no such memory any more.
    ///
    /// # Safety
    /// The buffer is live, this device's, and the device is done with it.
    #[inline]
    pub unsafe fn destroy_buffer(
        &self,
        buffer: vk::Buffer,
        allocation: AllocationId,
        hint: CacheHint,
    ) -> Result<Release, Error> {
        expect_at(hint.0);
        // It comes while the engine works.
        expect_at(ash::vk::Handle::as_raw(buffer));
        // SAFETY: the caller vouches for the buffer.
        self.engine.free_around(allocation, || unsafe { self.driver.destroy_buffer(buffer) })
    }
}
