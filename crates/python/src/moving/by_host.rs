//! Moves of buffers by the host, where the device has no queue that copies.
//!
//! The host cannot wait for work that it did not submit. So it copies only while no frame can be in flight, by the
//! rule after which old handles are released: then everything that the device has written is there.

use ash::vk::QueueFlags;
use vkmem_engine::{
    Allocation, AllocationId, Error, HostAddress, HostRange, MemoryPropertyFlags, MemoryRange,
};
use vkmem_vulkan::{Relocation, ResourceHandle, Target, TransferCommand, copy_bytes};

use crate::lifetime::ownership::{AllocatorState, Resource};

/// What the device's own queue can do, if it can copy.
pub fn queue_flags(allocator: &AllocatorState) -> Option<QueueFlags> {
    let flags = allocator.device_allocator.driver().queue_flags();
    let any = QueueFlags::GRAPHICS | QueueFlags::COMPUTE | QueueFlags::TRANSFER;
    flags.intersects(any).then_some(flags)
}

/// Whether the host moves what is in a resource: a buffer that it can map, of a device without a queue, while no
/// frame in flight can use it.
pub fn is_moved_by_host(resource: &Resource) -> bool {
    let allocator = &resource.allocator;
    let memory_type = resource.allocation().memory_type_index;
    let flags = allocator.engine().device().info().flags_of(memory_type);
    matches!(resource.handle(), ResourceHandle::Buffer(_))
        && queue_flags(allocator).is_none()
        && flags.contains(MemoryPropertyFlags::HOST_VISIBLE)
        && !allocator.has_frames_in_flight()
}

/// Copies what the host moves, to places that overlap no old one; returns for each move whether it did.
///
/// # Errors
/// Those of mapping, invalidating and flushing.
pub fn copy_by_host<'a>(
    allocator: &AllocatorState,
    moves: impl Iterator<Item = (&'a Resource, &'a Allocation)> + Clone,
) -> Result<Vec<bool>, Error> {
    let by_host: Vec<bool> = moves.clone().map(|(it, _)| is_moved_by_host(it)).collect();
    let of_host = moves.zip(&by_host).filter(|(_, is_by_host)| **is_by_host).map(|(it, _)| it);
    HostCopies::prepare(allocator, false, of_host)?.run()?;
    Ok(by_host)
}

/// Returns the commands that copy what the host has not, to the new handles.
pub fn copies_of_others(
    relocations: &[Relocation<'_>],
    handles: &[ResourceHandle],
    by_host: &[bool],
) -> Vec<TransferCommand> {
    let mut commands = Vec::new();
    for ((it, handle), is_by_host) in relocations.iter().zip(handles).zip(by_host) {
        if !is_by_host {
            it.add_copies(*handle, &mut commands);
        }
    }
    commands
}

/// The bytes of a buffer, mapped at its old place and its new one.
struct Copy {
    source: HostAddress,
    target: HostAddress,
    from: MemoryRange,
    to: MemoryRange,
    is_non_coherent: bool,
}

/// Copies that the host is about to make. All that can fail without a loss has been done: the memory is mapped, and
/// what the device has written is visible.
pub struct HostCopies<'a> {
    allocator: &'a AllocatorState,
    copies: Vec<Copy>,
    /// Whether the new places overlap the old ones.
    slides: bool,
    /// Destinations with memory of their own.
    targets: Vec<AllocationId>,
    mapped: Vec<AllocationId>,
}

impl<'a> HostCopies<'a> {
    /// Prepares the copies of buffers that the host moves, each to its new place.
    ///
    /// # Errors
    /// Those of mapping and invalidating.
    pub fn prepare<'b>(
        allocator: &'a AllocatorState,
        slides: bool,
        planned: impl Iterator<Item = (&'b Resource, &'b Allocation)>,
    ) -> Result<Self, Error> {
        let (copies, targets, mapped) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = Self { allocator, copies, slides, targets, mapped };
        for (resource, destination) in planned {
            all.add(resource, destination)?;
        }
        Ok(all)
    }

    fn map(&mut self, id: AllocationId) -> Result<HostAddress, Error> {
        let address = self.allocator.engine().map(id)?;
        self.mapped.push(id);
        Ok(address)
    }

    fn add(&mut self, resource: &Resource, to: &Allocation) -> Result<(), Error> {
        let size = resource.host_size;
        let from = resource.allocation();
        let source = self.map(from.id)?;
        resource.refresh(0, size)?;
        let target = if self.slides {
            // In one block, of which a slide reserves only the gap that it fills.
            let distance = (from.offset - to.offset) as usize;
            let lower = source.0.get().checked_sub(distance).and_then(|it| it.try_into().ok());
            HostAddress(lower.expect("the start of mapped memory lies below"))
        } else {
            self.targets.push(to.id);
            self.map(to.id)?
        };
        self.copies.push(Copy {
            source,
            target,
            from: MemoryRange { memory: from.memory, offset: from.offset, size },
            to: MemoryRange { memory: to.memory, offset: to.offset, size },
            is_non_coherent: resource.atom_size().is_some(),
        });
        Ok(())
    }

    /// Copies.
    ///
    /// # Errors
    /// Those of a flush: the bytes are at their new places, and the device may not see them yet.
    pub fn run(self) -> Result<(), Error> {
        let driver = self.allocator.device_allocator.driver();
        for it in &self.copies {
            driver.host_access(it.from, false);
            driver.host_access(it.to, true);
            let length = it.from.size as usize;
            // SAFETY: both are mapped until this is dropped; the resources are closed to all others, and nothing
            // else uses the destinations.
            unsafe { copy_bytes(it.source.0.get(), it.target.0.get(), length, Target::InUse) };
        }
        self.flush()
    }

    fn flush(&self) -> Result<(), Error> {
        let engine = self.allocator.engine();
        if !self.slides {
            let range = |&id| HostRange { id, offset: 0, size: u64::MAX };
            let ranges: Vec<HostRange> = self.targets.iter().map(range).collect();
            return engine.flush_many(&ranges).map_err(|failed| failed.error);
        }
        // What slides has no allocation at its new place yet, which ends below its old one.
        let atom = engine.device().info().limits.non_coherent_atom_size.max(1);
        let rounded = |it: &MemoryRange| {
            let offset = it.offset / atom * atom;
            let end = (it.offset + it.size).next_multiple_of(atom);
            MemoryRange { memory: it.memory, offset, size: end - offset }
        };
        let needs_it = self.copies.iter().filter(|it| it.is_non_coherent);
        let ranges: Vec<MemoryRange> = needs_it.map(|it| rounded(&it.to)).collect();
        if ranges.is_empty() {
            return Ok(());
        }
        let flushed = self.allocator.device_allocator.driver().flush(&ranges);
        flushed.map_err(|error| error.of("vkFlushMappedMemoryRanges").into())
    }
}

impl Drop for HostCopies<'_> {
    fn drop(&mut self) {
        for id in &self.mapped {
            // Mapped here, and neither freed nor unmapped since.
            let _ = self.allocator.engine().unmap(*id);
        }
    }
}
