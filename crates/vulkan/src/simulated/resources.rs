//! The live buffers or images of a simulated driver.

use std::collections::HashMap;

use ash::vk;
use vkmem_engine::{DeviceError, MemoryHandle, MemoryRequirements};

/// Memory and the offset in it, in bytes.
pub(super) type MemoryOffset = (MemoryHandle, u64);

/// A part of an image that has a layout of its own: plane of a disjoint image or else 0, mip level, array layer.
pub(super) type Subresource = (u32, u32, u32);

/// One buffer or image.
#[derive(Debug)]
pub(super) struct Resource<S> {
    /// The stored part of its create info.
    pub(super) shape: S,
    pub(super) requirements: MemoryRequirements,
    /// `VkExternalMemoryHandleTypeFlags` of its create info.
    pub(super) external: u32,
    /// Memory and offset in bytes, once bound; for a disjoint image those of its first plane, once all
    /// planes are bound.
    pub(super) bound: Option<(MemoryHandle, u64)>,
    /// Layouts of the subresources of an image, if they differ from that of its shape.
    pub(super) layouts: HashMap<Subresource, vk::ImageLayout>,
    /// Bound planes of a disjoint image, with memory and offset in bytes.
    pub(super) planes: Vec<(u32, MemoryHandle, u64)>,
}

/// All live resources of one kind. Handles are consecutive numbers after a tag for the kind and are not
/// reused, so a stale one never refers to another resource.
#[derive(Debug)]
pub(super) struct Resources<S> {
    tag: u64,
    next_handle: u64,
    live: HashMap<u64, Resource<S>>,
}

impl<S> Resources<S> {
    pub(super) fn new(tag: u64) -> Self {
        Self { tag, next_handle: tag + 1, live: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Adds a resource and returns its handle; `VK_ERROR_OUT_OF_HOST_MEMORY` if the table cannot grow.
    pub(super) fn insert(
        &mut self,
        shape: S,
        requirements: MemoryRequirements,
        external: u32,
    ) -> Result<u64, DeviceError> {
        self.live.try_reserve(1).map_err(|_| DeviceError::OutOfHostMemory)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.live.insert(
            handle,
            Resource {
                shape,
                requirements,
                external,
                bound: None,
                layouts: HashMap::new(),
                planes: Vec::new(),
            },
        );
        Ok(handle)
    }

    /// Returns a live resource. `Err` says why the handle is not live, for a message.
    pub(super) fn get(&self, handle: u64) -> Result<&Resource<S>, String> {
        self.live.get(&handle).ok_or_else(|| self.why_not(handle))
    }

    pub(super) fn get_mut(&mut self, handle: u64) -> Result<&mut Resource<S>, String> {
        let why_not = self.why_not(handle);
        self.live.get_mut(&handle).ok_or(why_not)
    }

    pub(super) fn remove(&mut self, handle: u64) -> Result<Resource<S>, String> {
        self.live.remove(&handle).ok_or_else(|| self.why_not(handle))
    }

    fn why_not(&self, handle: u64) -> String {
        let past = handle > self.tag && handle < self.next_handle;
        if past { "was destroyed already".into() } else { "was never created".into() }
    }
}
