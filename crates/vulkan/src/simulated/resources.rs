//! The live buffers or images of a simulated driver.

use std::collections::VecDeque;

use ash::vk;
use vkmem_engine::{DeviceError, KeyMap, MemoryHandle, MemoryRange, MemoryRequirements};

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
    /// The queue families that share it (`SHARING_MODE_CONCURRENT`); none for an exclusive one.
    pub(super) families: Vec<u32>,
    /// Memory and offset in bytes, once bound; for a disjoint image those of its first plane, once all
    /// planes are bound.
    pub(super) bound: Option<(MemoryHandle, u64)>,
    /// Layouts of the subresources of an image, if they differ from that of its shape.
    pub(super) layouts: KeyMap<Subresource, vk::ImageLayout>,
    /// Bound planes of a disjoint image, with memory and offset in bytes.
    pub(super) planes: Vec<(u32, MemoryHandle, u64)>,
}

impl<S> Resource<S> {
    /// Returns the bytes of memory that it is bound to.
    pub(super) fn place(&self) -> Option<MemoryRange> {
        let (memory, offset) = self.bound?;
        Some(MemoryRange { memory, offset, size: self.requirements.size })
    }

    /// Returns all ranges of memory that it may have used, which are larger for planes that were bound separately.
    pub(super) fn used(&self) -> Vec<MemoryRange> {
        let size = self.requirements.size;
        let planes = self.planes.iter();
        let planes = planes.map(|(_, memory, offset)| MemoryRange {
            memory: *memory,
            offset: *offset,
            size,
        });
        self.place().into_iter().chain(planes).collect()
    }
}

/// All live resources of one kind. Handles are consecutive numbers after a tag for the kind and are not
/// reused, so a stale one never refers to another resource.
#[derive(Debug)]
pub(super) struct Resources<S> {
    tag: u64,
    next_handle: u64,
    live: KeyMap<u64, Resource<S>>,
    /// Where those that were destroyed last lay, for messages.
    gone: VecDeque<(u64, MemoryRange)>,
}

/// How many destroyed resources are remembered: a device that lives for long forgets the others.
const MOST_GONE: usize = 1 << 16;

impl<S> Resources<S> {
    pub(super) fn new(tag: u64) -> Self {
        Self { tag, next_handle: tag + 1, live: KeyMap::default(), gone: VecDeque::new() }
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
        families: Vec<u32>,
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
                families,
                bound: None,
                layouts: KeyMap::default(),
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
        let removed = self.live.remove(&handle).ok_or_else(|| self.why_not(handle))?;
        if self.gone.len() >= MOST_GONE {
            self.gone.pop_front();
        }
        // Without room for it only a message says less.
        if let (Some(place), Ok(())) = (removed.place(), self.gone.try_reserve(1)) {
            self.gone.push_back((handle, place));
        }
        Ok(removed)
    }

    /// Returns all live resources, in any order.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Resource<S>)> {
        self.live.iter().map(|(handle, resource)| (*handle, resource))
    }

    /// Returns where a resource lay that was destroyed.
    pub(super) fn place_of_gone(&self, handle: u64) -> Option<MemoryRange> {
        self.gone.iter().rev().find(|(gone, _)| *gone == handle).map(|(_, place)| *place)
    }

    /// Returns a live resource in a range of memory, but not this one.
    pub(super) fn resident(&self, range: &MemoryRange, but: u64) -> Option<u64> {
        let meets = |(handle, resource): &(&u64, &Resource<S>)| {
            **handle != but
                && resource.place().is_some_and(|it| {
                    it.memory == range.memory
                        && it.offset < range.offset.saturating_add(range.size)
                        && range.offset < it.offset.saturating_add(it.size)
                })
        };
        // The first one in memory, whatever the order of the table.
        let offset = |it: &(&u64, &Resource<S>)| it.1.bound.map(|(_, offset)| offset);
        self.live.iter().filter(meets).min_by_key(offset).map(|(handle, _)| *handle)
    }

    fn why_not(&self, handle: u64) -> String {
        let past = handle > self.tag && handle < self.next_handle;
        if past { "was destroyed already".into() } else { "was never created".into() }
    }
}
