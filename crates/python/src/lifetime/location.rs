//! Where a resource is: its handle and its memory, which change together.

use std::cell::UnsafeCell;

use vkmem_engine::Allocation;
use vkmem_vulkan::ResourceHandle;

/// Handle and memory of a resource. Both change together when it is moved, so they are one value.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Location {
    /// The buffer or image.
    pub handle: ResourceHandle,
    /// The memory; for an alias, its place in the memory of the other resource.
    pub allocation: Allocation,
}

/// The location of a resource, which is replaced as a whole when it moves.
///
/// It is written by a thread that holds the GIL and the lock of the list of live resources, while nothing has
/// the resource pinned. So it may be read by whoever holds one of these, has the resource pinned, or has ended
/// it, and by the thread whose turn it is to move resources: no atomic is needed, and a resource that never
/// moves pays nothing.
pub struct LocationCell(UnsafeCell<Location>);

// SAFETY: see the type: a write excludes all reads.
unsafe impl Sync for LocationCell {}

impl LocationCell {
    /// Takes the first location.
    #[inline(always)]
    pub const fn new(location: Location) -> Self {
        Self(UnsafeCell::new(location))
    }

    /// Returns the location.
    #[inline(always)]
    pub fn get(&self) -> Location {
        // SAFETY: the rules of the type exclude a write meanwhile.
        unsafe { *self.0.get() }
    }

    /// Replaces the location, and returns the one before.
    ///
    /// # Safety
    /// The thread holds the GIL and the lock of the list of live resources, and nothing has the resource
    /// pinned.
    pub unsafe fn replace(&self, location: Location) -> Location {
        // SAFETY: the caller excludes all reads.
        unsafe { std::mem::replace(&mut *self.0.get(), location) }
    }
}
