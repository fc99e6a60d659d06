//! The one place where resources are destroyed and their memory is freed.
//!
//! The order is part of what drivers rely on: a resource goes before its memory can be given to another one.

use vkmem_engine::recording::Told;
use vkmem_engine::{AllocationId, Freed, Release};

use crate::allocator::DeviceAllocator;
use crate::driver::resource_handle::ResourceHandle;
use crate::host::cache_hints::{prefetch_line, prefetching};

/// What is told of a resource that may be an alias.
fn end_of(handle: ResourceHandle) -> Told<'static> {
    let (handle, is_image) = handle.as_told();
    Told::EndAlias(handle, is_image)
}

impl DeviceAllocator {
    /// Destroys a resource and frees its memory (`vmaDestroyBuffer`, `vmaDestroyImage`, `vmaFreeMemory`).
    /// `memory` is `None` for an alias, whose memory belongs to another resource. The driver calls that
    /// freeing may need are in the [`Release`]. A stale `memory` is ignored.
    ///
    /// # Safety
    /// The handle is live, this device's, and the device no longer uses it.
    #[inline]
    pub unsafe fn destroy(&self, handle: ResourceHandle, memory: Option<AllocationId>) -> Release {
        // SAFETY: the caller guarantees a valid handle.
        let destroy = || unsafe { self.destroy_handle(handle) };
        let engine = self.engine();
        match (memory, handle) {
            (None, _) => {
                engine.tell_recorder(|| end_of(handle));
                destroy();
                Release::default()
            }
            (Some(id), ResourceHandle::Buffer(_)) => {
                engine.free_around(id, destroy).unwrap_or_default()
            }
            // An image before its place is free: some drivers keep what they know of the place, as how it
            // is compressed, until they destroy the image, and another one may come there meanwhile.
            (Some(id), ResourceHandle::Image(_) | ResourceHandle::Memory) => {
                destroy();
                engine.free(id).unwrap_or_default()
            }
        }
    }

    /// Destroys the resources of all `items`, then frees `memory`: what is bound goes before what it is
    /// bound to.
    ///
    /// # Safety
    /// As for [`destroy`](Self::destroy), of each.
    pub unsafe fn destroy_many<T>(
        &self,
        items: &[T],
        handle_of: impl Fn(&T) -> ResourceHandle,
        memory: &[AllocationId],
    ) -> Freed {
        if memory.len() < items.len() {
            // Which of them are aliases, whoever records knows.
            items.iter().for_each(|it| self.engine().tell_recorder(|| end_of(handle_of(it))));
        }
        for item in prefetching(items, |it| prefetch_line(handle_of(it).raw())) {
            // SAFETY: the caller guarantees a valid handle.
            unsafe { self.destroy_handle(handle_of(item)) };
        }
        self.engine().free_many(memory)
    }

    /// # Safety
    /// As for [`destroy`](Self::destroy).
    #[inline(always)]
    unsafe fn destroy_handle(&self, handle: ResourceHandle) {
        let driver = self.driver();
        match handle {
            ResourceHandle::Memory => {}
            // SAFETY: the caller guarantees a valid buffer.
            ResourceHandle::Buffer(buffer) => unsafe { driver.destroy_buffer(buffer) },
            // SAFETY: the caller guarantees a valid image.
            ResourceHandle::Image(image) => unsafe { driver.destroy_image(image) },
        }
    }
}
