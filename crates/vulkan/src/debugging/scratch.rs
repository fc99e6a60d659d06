//! [`Scratch`]: host-visible memory that one call goes through.

use std::sync::Arc;

use ash::vk;
use vkmem_engine::{
    DedicatedTarget, DeviceError, DeviceInfo, Error, HostAddress, MemoryAllocateInfo, MemoryHandle,
    MemoryPropertyFlags, MemoryRange,
};

use crate::driver::contract::Driver;

/// What the scratch memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The host writes it, the device reads it.
    Upload,
    /// The device writes it, the host reads it.
    Download,
}

/// A mapped buffer. Its memory object is not one of the allocator's, so that no figure of the program changes.
pub(super) struct Scratch {
    driver: Arc<dyn Driver>,
    pub(super) buffer: vk::Buffer,
    pub(super) size: u64,
    memory: Option<Memory>,
}

struct Memory {
    handle: MemoryHandle,
    size: u64,
    address: Option<HostAddress>,
    is_coherent: bool,
}

/// Returns the memory types that can serve, the best ones first.
fn types(info: &DeviceInfo, bits: u32, purpose: Purpose) -> Vec<u32> {
    use MemoryPropertyFlags as P;
    let wanted = match purpose {
        Purpose::Upload => P::HOST_COHERENT,
        Purpose::Download => P::HOST_CACHED,
    };
    let serves = |index: &u32| {
        let flags = info.flags_of(*index);
        let of_amd = P::DEVICE_COHERENT_AMD | P::DEVICE_UNCACHED_AMD;
        bits >> index & 1 == 1
            && flags.contains(P::HOST_VISIBLE)
            && !info.has_no_memory(*index)
            && (info.amd_device_coherent || !flags.intersects(of_amd))
    };
    let mut found: Vec<u32> = (0..info.types.len() as u32).filter(serves).collect();
    found.sort_by_key(|index| {
        let flags = info.flags_of(*index);
        (!flags.contains(wanted), flags.contains(P::DEVICE_LOCAL))
    });
    found
}

impl Scratch {
    /// Allocates and maps it.
    ///
    /// # Errors
    /// Those of the driver calls.
    pub(super) fn new(
        driver: &Arc<dyn Driver>,
        size: u64,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let usage = match purpose {
            Purpose::Upload => vk::BufferUsageFlags::TRANSFER_SRC,
            Purpose::Download => vk::BufferUsageFlags::TRANSFER_DST,
        };
        let info = vk::BufferCreateInfo::default().size(size).usage(usage);
        // SAFETY: a plain create info.
        let buffer = unsafe { driver.create_buffer(&info) };
        let buffer = buffer.map_err(|error| error.of("vkCreateBuffer"))?;
        // From here on dropping it undoes what was done.
        let mut made = Self { driver: driver.clone(), buffer, size, memory: None };
        // SAFETY: made above.
        let needs = unsafe { driver.buffer_requirements(buffer) };
        let mut allocated = Err(DeviceError::FeatureNotPresent);
        for index in types(driver.info(), needs.memory_type_bits, purpose) {
            let dedicated =
                needs.requires_dedicated.then(|| DedicatedTarget::Buffer(raw_of(buffer)));
            let info =
                MemoryAllocateInfo { dedicated, ..MemoryAllocateInfo::of_type(index, needs.size) };
            allocated = driver.allocate(&info).map(|handle| (handle, index));
            match allocated {
                Err(error) if error != DeviceError::DeviceLost => {}
                _ => break,
            }
        }
        let (handle, index) = allocated.map_err(|error| error.of("vkAllocateMemory"))?;
        driver.hide_bindings(vk::ObjectType::DEVICE_MEMORY, handle.0);
        let is_coherent = !driver.info().is_non_coherent(index);
        let mut memory = Memory { handle, size: needs.size, address: None, is_coherent };
        let address = driver.map(handle).map_err(|error| error.of("vkMapMemory"));
        memory.address = address.ok();
        made.memory = Some(memory);
        address?;
        // SAFETY: both were made above; the memory has the size and a type that the buffer needs.
        let bound = unsafe { driver.bind_buffer(buffer, handle, 0) };
        bound.map_err(|error| error.of("vkBindBufferMemory"))?;
        driver.hide_bindings(vk::ObjectType::BUFFER, raw_of(buffer));
        Ok(made)
    }

    fn memory(&self) -> (&Memory, HostAddress) {
        let memory = self.memory.as_ref().expect("it was allocated in `new`");
        (memory, memory.address.expect("it was mapped in `new`"))
    }

    fn whole(memory: &Memory) -> [MemoryRange; 1] {
        [MemoryRange { memory: memory.handle, offset: 0, size: memory.size }]
    }

    /// Writes bytes at its beginning, and makes them visible to the device.
    ///
    /// # Errors
    /// Those of `vkFlushMappedMemoryRanges`.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        assert!(bytes.len() as u64 <= self.size, "{} bytes in {}", bytes.len(), self.size);
        let (memory, address) = self.memory();
        let to = std::ptr::with_exposed_provenance_mut(address.0.get());
        // SAFETY: mapped memory of at least so many bytes that nobody else uses.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        if memory.is_coherent {
            return Ok(());
        }
        let flushed = self.driver.flush(&Self::whole(memory));
        Ok(flushed.map_err(|error| error.of("vkFlushMappedMemoryRanges"))?)
    }

    /// Returns what the device wrote, up to an offset.
    ///
    /// # Errors
    /// Those of `vkInvalidateMappedMemoryRanges`.
    ///
    /// # Safety
    /// The device does not use it meanwhile, nor while the result lives.
    pub(super) unsafe fn read(&self, size: u64) -> Result<&[u8], Error> {
        assert!(size <= self.size, "{size} bytes of {}", self.size);
        let (memory, address) = self.memory();
        if !memory.is_coherent {
            let invalidated = self.driver.invalidate(&Self::whole(memory));
            invalidated.map_err(|error| error.of("vkInvalidateMappedMemoryRanges"))?;
        }
        let from = std::ptr::with_exposed_provenance(address.0.get());
        // SAFETY: mapped memory of at least so many bytes, which nobody writes, as the caller guarantees.
        Ok(unsafe { std::slice::from_raw_parts(from, size as usize) })
    }
}

fn raw_of(buffer: vk::Buffer) -> u64 {
    vk::Handle::as_raw(buffer)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: made in `new`; every submission that used it was waited for.
        unsafe { self.driver.destroy_buffer(self.buffer) };
        if let Some(memory) = &self.memory {
            // Unmaps it, too.
            self.driver.free(memory.handle);
        }
    }
}
