//! Host-visible memory that is mapped for good, which copies go through.

use ash::vk;
use vkmem_engine::{
    Allocation, AllocationCreateFlags, AllocationCreateInfo, Error, MemoryPropertyFlags,
    MemoryRange, MemoryUsage,
};

use crate::allocator::DeviceAllocator;
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::transfer_queue::{Sharing, TransferQueue};
use crate::transfer::uses::BufferPart;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferDirection {
    /// From the host to the device.
    Upload,
    /// From the device to the host.
    Download,
}

/// A buffer in memory of its own, and where the host sees it.
#[derive(Clone, Copy, Debug)]
pub struct Staging {
    buffer: vk::Buffer,
    allocation: Allocation,
    address: usize,
    size: u64,
    /// What flushes and invalidates are rounded to, where they are needed.
    atom: Option<u64>,
    sharing: Sharing,
}

impl Staging {
    /// Allocates `size` bytes: for uploads of a coherent type where there is one, for downloads of a cached one,
    /// as reading any other memory is slow.
    ///
    /// # Errors
    /// Those of [`DeviceAllocator::create_buffer`].
    pub fn new(
        allocator: &DeviceAllocator,
        size: u64,
        direction: TransferDirection,
    ) -> Result<Self, Error> {
        let host = AllocationCreateFlags::MAPPED | AllocationCreateFlags::DEDICATED_MEMORY;
        let (usage, access, preferred_flags, name) = match direction {
            TransferDirection::Upload => (
                vk::BufferUsageFlags::TRANSFER_SRC,
                AllocationCreateFlags::HOST_ACCESS_SEQUENTIAL_WRITE,
                MemoryPropertyFlags::HOST_COHERENT,
                "vk_mem ring for uploads",
            ),
            TransferDirection::Download => (
                vk::BufferUsageFlags::TRANSFER_DST,
                AllocationCreateFlags::HOST_ACCESS_RANDOM,
                MemoryPropertyFlags::HOST_CACHED,
                "vk_mem ring for downloads",
            ),
        };
        // Both queues use all of it all the time.
        let queue = allocator.driver().transfer_queue().filter(TransferQueue::is_of_another_family);
        let families = queue.map(|it| [it.main_family_index, it.family_index]);
        let mut info = vk::BufferCreateInfo::default().size(size).usage(usage);
        let mut sharing = Sharing::Exclusive;
        if let Some(families) = &families {
            info = info.sharing_mode(vk::SharingMode::CONCURRENT).queue_family_indices(families);
            sharing = Sharing::Concurrent;
        }
        let create = AllocationCreateInfo {
            flags: host | access,
            usage: MemoryUsage::AutoPreferHost,
            required_flags: MemoryPropertyFlags::HOST_VISIBLE,
            preferred_flags,
            ..Default::default()
        };
        // SAFETY: made here.
        let (buffer, allocation) =
            unsafe { allocator.create_buffer(&info, &create, |on, request| on.allocate(request)) }?;
        let raw = vk::Handle::as_raw(buffer);
        allocator.driver().hide_bindings(vk::ObjectType::BUFFER, raw);
        let Some(address) = allocation.mapped else {
            // SAFETY: made here, and nobody has seen it.
            drop(unsafe { allocator.destroy(ResourceHandle::Buffer(buffer), Some(allocation.id)) });
            return Err(Error::MemoryMap("the memory for staging cannot be mapped".into()));
        };
        allocator.add_own_buffer(allocation.id, usage);
        // For dumps; without host memory for it there is none.
        let _ = allocator.engine().set_name(allocation.id, Some(name));
        let atom = allocator.engine().atom_size(allocation.memory_type_index);
        Ok(Self { buffer, allocation, address: address.0.get(), size, atom, sharing })
    }

    /// The part of the buffer from an offset on, in bytes.
    pub fn part(&self, offset: u64) -> BufferPart {
        BufferPart { buffer: self.buffer, offset, is_shared: false, sharing: self.sharing }
    }

    /// Where the host sees its first byte.
    pub fn address(&self) -> usize {
        self.address
    }

    /// What segments are aligned to, so that no two share an atom, nor mostly a line of the cache.
    pub fn alignment(&self) -> u64 {
        self.atom.unwrap_or(1).max(64)
    }

    /// The part of the memory object.
    pub fn range(&self, offset: u64, size: u64) -> MemoryRange {
        let memory = self.allocation.memory;
        MemoryRange { memory, offset: self.allocation.offset + offset, size }
    }

    fn rounded(&self, offset: u64, size: u64) -> Option<(u64, u64)> {
        let atom = self.atom?;
        let (start, end) = (offset / atom * atom, (offset + size).next_multiple_of(atom));
        Some((start, end.min(self.size) - start))
    }

    /// Makes what the host wrote visible to the device, where that is needed.
    ///
    /// # Errors
    /// Those of `vkFlushMappedMemoryRanges`.
    pub fn flush(&self, allocator: &DeviceAllocator, offset: u64, size: u64) -> Result<(), Error> {
        let Some((offset, size)) = self.rounded(offset, size) else { return Ok(()) };
        allocator.engine().flush(self.allocation.id, offset, size)
    }

    /// Makes what the device wrote visible to the host, where that is needed.
    ///
    /// # Errors
    /// Those of `vkInvalidateMappedMemoryRanges`.
    pub fn invalidate(
        &self,
        allocator: &DeviceAllocator,
        offset: u64,
        size: u64,
    ) -> Result<(), Error> {
        let Some((offset, size)) = self.rounded(offset, size) else { return Ok(()) };
        allocator.engine().invalidate(self.allocation.id, offset, size)
    }

    /// Gives it back.
    ///
    /// # Safety
    /// The device does not use it any more.
    pub unsafe fn destroy(self, allocator: &DeviceAllocator) {
        allocator.remove_own_buffer(self.allocation.id);
        // SAFETY: made in `new`; the caller vouches for the device.
        drop(unsafe {
            allocator.destroy(ResourceHandle::Buffer(self.buffer), Some(self.allocation.id))
        });
    }
}
