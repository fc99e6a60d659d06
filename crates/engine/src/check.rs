//! Validation of requests before anything is changed; each error is one line.

use crate::device::{DeviceInfo, MemoryPropertyFlags as Property};
use crate::error::{Error, FailureFigures};
use crate::request::{
    Algorithm, AllocationCreateFlags as Create, AllocationCreateInfo, AllocationRequest,
    MemoryUsage, PoolCreateInfo,
};
use crate::words::{bytes, counted};

fn invalid(reason: impl Into<String>) -> Result<(), Error> {
    Err(Error::InvalidArgument(reason.into()))
}

/// Rejects a [`DeviceInfo`] that violates Vulkan's limits.
pub(crate) fn check_device(info: &DeviceInfo) -> Result<(), Error> {
    let limits = &info.limits;
    if info.types.is_empty() || info.types.len() > 32 {
        return invalid(format!("a device with {}", counted(info.types.len(), "memory type")));
    }
    if info.types.iter().any(|it| it.heap_index as usize >= info.heaps.len()) {
        return invalid("a memory type of a heap that the device does not have");
    }
    for (name, value) in [
        ("bufferImageGranularity", limits.buffer_image_granularity),
        ("nonCoherentAtomSize", limits.non_coherent_atom_size),
    ] {
        if !value.is_power_of_two() {
            return invalid(format!("{name} is {value}, not a power of two"));
        }
    }
    Ok(())
}

/// Rejects a request with a size of 0, an alignment that is not a power of two, or contradictory options.
#[inline]
pub(crate) fn check_request(request: &AllocationRequest) -> Result<(), Error> {
    let needs = &request.requirements;
    if needs.size == 0 {
        return invalid("size is 0");
    }
    if !needs.alignment.is_power_of_two() {
        return invalid(format!("alignment is {}, not a power of two", needs.alignment));
    }
    check_create_info(&request.create_info)
}

/// Rejects options that contradict each other.
#[inline]
pub(crate) fn check_create_info(create_info: &AllocationCreateInfo) -> Result<(), Error> {
    // Fast path: most requests set none of the options that can contradict.
    let plain = create_info.flags.is_empty()
        && create_info.min_alignment == 0
        && create_info.priority.is_none();
    if plain { Ok(()) } else { check_options(create_info) }
}

fn check_options(create_info: &AllocationCreateInfo) -> Result<(), Error> {
    let flags = create_info.flags;
    let unknown = flags - Create::all();
    if !unknown.is_empty() {
        return invalid(format!("AllocationCreateFlags has no bits {:#x}", unknown.bits()));
    }
    if create_info.min_alignment != 0 && !create_info.min_alignment.is_power_of_two() {
        let alignment = create_info.min_alignment;
        return invalid(format!("min_alignment is {alignment}, not a power of two"));
    }
    if let Some(priority) = create_info.priority
        && !(0.0..=1.0).contains(&priority)
    {
        return invalid(format!("priority is {priority}, not from 0 to 1"));
    }
    if flags.contains(Create::UPPER_ADDRESS) && create_info.pool.is_none() {
        return invalid("UPPER_ADDRESS is for a pool with the linear algorithm");
    }
    if flags.contains(Create::DEDICATED_MEMORY | Create::UPPER_ADDRESS) {
        return invalid(
            "DEDICATED_MEMORY and UPPER_ADDRESS contradict each other: memory of its own has no \
             upper end",
        );
    }
    if flags.contains(Create::DEDICATED_MEMORY | Create::NEVER_ALLOCATE) {
        return invalid("DEDICATED_MEMORY and NEVER_ALLOCATE contradict each other");
    }
    if create_info.memory_allocate_next != 0
        && flags.intersects(Create::NEVER_ALLOCATE | Create::UPPER_ADDRESS)
    {
        return invalid(
            "memory_allocate_next is for a memory object of its own: NEVER_ALLOCATE and UPPER_ADDRESS \
             contradict it",
        );
    }
    if flags.contains(Create::CAN_BECOME_LOST | Create::MAPPED) {
        return invalid(
            "CAN_BECOME_LOST and MAPPED contradict each other: what is mapped cannot be taken away",
        );
    }
    if flags.contains(Create::CAN_BECOME_LOST) && create_info.export_handle_types != 0 {
        return invalid(
            "CAN_BECOME_LOST and export_handle_types contradict each other: others may use what was exported",
        );
    }
    if flags.contains(Create::HOST_ACCESS_MASK) {
        return invalid(
            "HOST_ACCESS_SEQUENTIAL_WRITE and HOST_ACCESS_RANDOM contradict each other: choose \
             RANDOM if the host reads",
        );
    }
    if (flags & Create::STRATEGY_MASK).bits().count_ones() > 1 {
        return invalid("more than one STRATEGY flag");
    }
    let host_access = flags.intersects(Create::HOST_ACCESS_MASK);
    if flags.contains(Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD) && !host_access {
        return invalid(
            "HOST_ACCESS_ALLOW_TRANSFER_INSTEAD needs HOST_ACCESS_SEQUENTIAL_WRITE or \
             HOST_ACCESS_RANDOM",
        );
    }
    let usage = create_info.usage;
    // A memory type with any of these properties can be mapped.
    let visible = Property::HOST_VISIBLE | Property::HOST_COHERENT | Property::HOST_CACHED;
    let is_visible = host_access || create_info.required_flags.intersects(visible);
    if usage.is_auto() && flags.contains(Create::MAPPED) && !is_visible {
        return invalid(
            "MAPPED with MemoryUsage.AUTO needs HOST_ACCESS_SEQUENTIAL_WRITE or \
             HOST_ACCESS_RANDOM, or required_flags=HOST_VISIBLE; HOST_COHERENT among the required_flags \
             is memory that needs no flush",
        );
    }
    if usage == MemoryUsage::GpuLazilyAllocated
        && (host_access || flags.intersects(Create::MAPPED | Create::NEVER_ALLOCATE))
    {
        return invalid(
            "GPU_LAZILY_ALLOCATED memory is dedicated and cannot be mapped: MAPPED, HOST_ACCESS \
             and NEVER_ALLOCATE contradict it",
        );
    }
    Ok(())
}

/// Rejects a pool that the device cannot have; `heap_limit` returns the usable bytes of a heap.
pub(crate) fn check_pool(
    info: &DeviceInfo,
    heap_limit: impl Fn(u32) -> u64,
    rules: &PoolCreateInfo,
) -> Result<(), Error> {
    let types = info.types.len();
    if rules.memory_type_index as usize >= types {
        return invalid(format!("memory type {} of {types}", rules.memory_type_index));
    }
    if rules.block_size == Some(0) {
        return invalid("block_size is 0");
    }
    if rules.max_block_count != 0 && rules.min_block_count > rules.max_block_count {
        let (min, max) = (rules.min_block_count, rules.max_block_count);
        return invalid(format!("min_block_count is {min}, above max_block_count, which is {max}"));
    }
    if rules.min_alignment != 0 && !rules.min_alignment.is_power_of_two() {
        return invalid(format!("min_alignment is {}, not a power of two", rules.min_alignment));
    }
    if let Some(priority) = rules.priority
        && !(0.0..=1.0).contains(&priority)
    {
        return invalid(format!("priority is {priority}, not from 0 to 1"));
    }
    if let Some(debug) = &rules.debug {
        debug.check()?;
        if debug.always_dedicated && (rules.block_size.is_some() || rules.max_block_count != 0) {
            return invalid(
                "always_dedicated contradicts a block_size or a max_block_count: such a pool has no memory objects \
                 of their own",
            );
        }
    }
    let flags = info.flags_of(rules.memory_type_index);
    if flags.contains(Property::LAZILY_ALLOCATED) && rules.block_size.is_some() {
        return invalid("lazily allocated memory is dedicated: a pool of it has no block_size");
    }
    if flags.contains(Property::DEVICE_COHERENT_AMD) && !info.amd_device_coherent {
        let index = rules.memory_type_index;
        return invalid(format!(
            "memory type {index} needs VK_AMD_device_coherent_memory, which is not enabled"
        ));
    }
    let heap_size = heap_limit(info.heap_of(rules.memory_type_index));
    let largest = heap_size.min(info.limits.max_memory_allocation_size);
    // Without a block size the device's limits decide, but the heap must hold at least one byte.
    let size = rules.block_size.unwrap_or(1);
    if size > largest {
        let index = rules.memory_type_index;
        let reason = format!("a block of memory type {index} has at most {}", bytes(largest));
        let figures = FailureFigures { size, can_never_succeed: true, ..FailureFigures::default() };
        return Err(Error::OutOfDeviceMemory { reason, figures });
    }
    Ok(())
}

/// Rejects options that no allocation of this pool can have.
pub(crate) fn check_pool_allows(
    rules: &PoolCreateInfo,
    create_info: &AllocationCreateInfo,
) -> Result<(), Error> {
    if create_info.flags.contains(Create::UPPER_ADDRESS) && rules.algorithm != Algorithm::Linear {
        return invalid(format!(
            "UPPER_ADDRESS is for a pool with the linear algorithm; this pool's is {}",
            rules.algorithm.name()
        ));
    }
    if create_info.memory_allocate_next != 0 && rules.memory_allocate_next != 0 {
        return invalid(
            "memory_allocate_next is given for this allocation and for its pool: one memory object has one \
             chain",
        );
    }
    let more = create_info.export_handle_types & !rules.all_export_handle_types();
    if more != 0 && rules.next_export_handle_types.is_some() {
        return invalid(format!(
            "the memory_allocate_next of this pool says what its memory can be exported as, and leaves \
             out export_handle_types {more:#x}"
        ));
    }
    Ok(())
}
