//! Destruction of a buffer together with its memory.

use ash::vk;
use vkmem_engine::{AllocationId, CacheHint, Error, Release};

use crate::allocator::DeviceAllocator;
use crate::host::cache_hints::prefetch_line;

impl DeviceAllocator {
    /// Destroys a buffer and frees its memory (`vmaDestroyBuffer`); pending driver calls for the memory
    /// are in the [`Release`].
    ///
    /// # Errors
    /// [`Error::UseAfterFree`] if the allocation was freed already; the buffer is destroyed in any case.
    ///
    /// # Safety
    /// The buffer is live, belongs to this device, and the device does not use it any more.
    #[inline]
    pub unsafe fn destroy_buffer(
        &self,
        buffer: vk::Buffer,
        allocation: AllocationId,
        hint: CacheHint,
    ) -> Result<Release, Error> {
        prefetch_line(hint.0);
        // Fetched while the engine works.
        prefetch_line(ash::vk::Handle::as_raw(buffer));
        // SAFETY: the caller guarantees a valid buffer.
        self.engine.free_around(allocation, || unsafe { self.driver.destroy_buffer(buffer) })
    }
}
