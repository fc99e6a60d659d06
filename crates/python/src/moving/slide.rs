//! Slides: moves down by less than the own size, to a place that overlaps the old one.
//!
//! A buffer is copied from its lower end up, in pieces no longer than the distance, each after the one before. An
//! image, and a buffer that would take too many pieces, goes through memory that is allocated for the time of the
//! move. Either way the copy overwrites the old place, so it has ended before anything else is done: the room
//! above the new place is free from then on.

use std::sync::Arc;

use ash::vk::ImageLayout;
use pyo3::prelude::*;
use vkmem_engine::{Allocation, AllocationCreateFlags, AllocationId, AllocationRequest, Error};
use vkmem_engine::{AllocationCreateInfo, MemoryPropertyFlags, MemoryUsage, PoolKey};
use vkmem_vulkan::kept_info::KeptInfo;
use vkmem_vulkan::{Relocation, ResourceHandle, Submission, TransferCommand, layout_after};

use super::mover::{FreedCounts, Mover};
use super::obstacle::Obstacle;
use super::step::{Commit, Frozen, Planned, Step, freeze, relocation, swap};
use crate::errors::to_py;
use crate::interpreter::detach;
use crate::lifetime::movable::MoveTurn;
use crate::lifetime::ownership::{AllocatorState, Resource};

/// A buffer that would take more pieces goes through other memory.
const MOST_PIECES: u64 = 512;

/// How the contents of a resource get to a place that overlaps the old one.
enum Route {
    /// In pieces; nothing is copied of an image whose texels are not wanted.
    Direct,
    /// Through memory of its own.
    Through(Allocation),
}

/// Whether slides are possible: they leave nothing that a frame in flight could read.
pub fn is_possible(allocator: &AllocatorState) -> bool {
    !allocator.has_frames_in_flight()
}

/// The request for other memory like that which a movable resource has; `None` for memory without a buffer or
/// image.
pub fn request_like(resource: &Resource) -> Option<AllocationRequest> {
    let now = resource.allocation();
    let mut create =
        AllocationCreateInfo { usage: MemoryUsage::Unknown, ..AllocationCreateInfo::default() };
    if now.mapped.is_some() {
        create.flags |= AllocationCreateFlags::MAPPED;
        create.required_flags |= MemoryPropertyFlags::HOST_VISIBLE;
    }
    if let PoolKey::Custom(pool) = now.id.pool_key() {
        create.pool = Some(pool);
    }
    let allocator = &resource.allocator.device_allocator;
    // SAFETY: live handles of this device.
    let mut request = unsafe {
        match resource.handle() {
            ResourceHandle::Memory => return None,
            ResourceHandle::Buffer(buffer) => allocator.request_for_buffer(buffer, &create),
            ResourceHandle::Image(image) => allocator.request_for_image(image, None, &create),
        }
    };
    request.kind = resource.kind;
    request.requirements.memory_type_bits = 1 << now.memory_type_index;
    request.requirements.size = now.size;
    request.dedicated = None;
    Some(request)
}

/// How a resource slides; an error if there is no memory for that.
fn route(allocator: &AllocatorState, it: &Planned) -> Result<Route, Error> {
    let resource = &it.resource;
    let now = resource.allocation();
    let is_direct = match resource.handle() {
        ResourceHandle::Image(_) => {
            resource.movable_layout().is_none_or(|it| it.get() == ImageLayout::UNDEFINED)
        }
        _ => now.size.div_ceil(now.offset - it.destination.offset) <= MOST_PIECES,
    };
    if is_direct {
        return Ok(Route::Direct);
    }
    let mut request = request_like(resource).ok_or(Error::UseAfterFree)?;
    // Not in the pool that is being tidied.
    request.create_info.pool = None;
    request.create_info.flags = AllocationCreateFlags::DEDICATED_MEMORY;
    allocator.engine().allocate(&request).map(Route::Through)
}

/// The memory of routes, freed when this is dropped.
struct Detours<'a> {
    allocator: &'a AllocatorState,
    memory: Vec<AllocationId>,
}

impl Drop for Detours<'_> {
    fn drop(&mut self) {
        crate::interpreter::without_gil(|| drop(self.allocator.engine().free_many(&self.memory)));
    }
}

/// Moves resources to places that overlap their own, and waits for the copies. Those that something uses at the
/// moment stay, and those for whose detour there is no memory. After an error nothing was submitted, and all of them are
/// where they were.
pub fn run(
    py: Python<'_>,
    allocator: &Arc<AllocatorState>,
    _turn: &MoveTurn<'_>,
    planned: Vec<Planned>,
    counts: &Arc<FreedCounts>,
    commit: Commit<'_>,
) -> PyResult<Step> {
    let (mut step, mut ready, mut routes) = (Step::default(), Vec::new(), Vec::new());
    let mut detours = Detours { allocator, memory: Vec::new() };
    for it in planned {
        if it.resource.allocation().mapped.is_some() {
            // The host may write to the old place at any time, and the new one overlaps it.
            step.stayed.push((it, Obstacle::Mapped));
            continue;
        }
        let Ok(route) = detach(py, || route(allocator, &it)) else {
            step.stayed.push((it, Obstacle::NoRoom));
            continue;
        };
        if let Route::Through(memory) = &route {
            detours.memory.push(memory.id);
        }
        match freeze(py, &it.resource) {
            Ok(()) => {
                ready.push(it);
                routes.push(route);
            }
            Err(why) => step.stayed.push((it, why)),
        }
    }
    if ready.is_empty() {
        return Ok(step);
    }
    let frozen = Frozen { py, planned: &ready, moved: Vec::new() };
    let copied = detach(py, || create_and_copy(allocator, &ready, &routes));
    let handles = copied.map_err(|error| to_py(py, &error))?;
    let in_place = "what is frozen is neither freed nor mapped";
    let places: Vec<_> = ready.iter().map(|it| Some(commit(it).expect(in_place))).collect();
    swap(py, allocator, &ready, &handles, &places, &mut step);
    // Without a pin: the device is done with them.
    drop(frozen);
    for it in &step.moved {
        it.resource.enter_after_move_from(it.before.allocation.id);
    }
    let left = step.moved.iter().map(|it| it.left(false)).collect();
    Mover::of(allocator).add(allocator, Submission::NONE, Vec::new(), left, counts);
    Ok(step)
}

/// Creates the new handles and copies to them; returns when the device has done so.
fn create_and_copy(
    allocator: &AllocatorState,
    ready: &[Planned],
    routes: &[Route],
) -> Result<Vec<ResourceHandle>, Error> {
    let relocations: Vec<Relocation<'_>> = ready.iter().filter_map(relocation).collect();
    let detours: Vec<Relocation<'_>> = relocations
        .iter()
        .zip(routes)
        .filter_map(|(it, route)| match route {
            Route::Direct => None,
            Route::Through(memory) => Some(Relocation { destination: *memory, ..*it }),
        })
        .collect();
    let device_allocator = &allocator.device_allocator;
    // SAFETY: nothing but the resources themselves lies at the destinations, and they are copied before that is
    // overwritten.
    let handles = unsafe { device_allocator.recreate(&relocations)? };
    // SAFETY: allocated for this.
    let between = match unsafe { device_allocator.recreate(&detours) } {
        Ok(between) => between,
        Err(error) => {
            // SAFETY: created here, and used by nothing.
            unsafe { device_allocator.destroy_handles(&handles) };
            return Err(error);
        }
    };
    let mut commands = Vec::new();
    let mut next = between.iter();
    for (at, (it, handle)) in relocations.iter().zip(&handles).enumerate() {
        if let Route::Through(_) = routes[at]
            && let Some(between) = next.next()
        {
            it.add_copies(*between, &mut commands);
            commands.push(TransferCommand::Barrier);
            let rest = Relocation { source: *between, layout: layout_after(it.layout), ..*it };
            rest.add_copies(*handle, &mut commands);
            commands.push(TransferCommand::Barrier);
        } else {
            let distance = ready[at].resource.allocation().offset - it.destination.offset;
            add_pieces(it, *handle, distance, &mut commands);
        }
    }
    let copied = copy_now(allocator, &commands);
    // SAFETY: created here, and the copies have ended or were not submitted.
    unsafe { device_allocator.destroy_handles(&between) };
    match copied {
        Ok(()) => Ok(handles),
        Err(error) => {
            // SAFETY: as above.
            unsafe { device_allocator.destroy_handles(&handles) };
            Err(error)
        }
    }
}

/// Adds the copies of a buffer by a distance in bytes, from its lower end up.
fn add_pieces(
    it: &Relocation<'_>,
    target: ResourceHandle,
    distance: u64,
    commands: &mut Vec<TransferCommand>,
) {
    let (KeptInfo::Buffer(kept), ResourceHandle::Buffer(source), ResourceHandle::Buffer(target)) =
        (it.kept, it.source, target)
    else {
        return;
    };
    let mut offset = 0;
    while offset < kept.size() {
        let size = distance.min(kept.size() - offset);
        let (source_offset, target_offset) = (offset, offset);
        commands.push(TransferCommand::CopyBuffer {
            source,
            source_offset,
            target,
            target_offset,
            size,
        });
        commands.push(TransferCommand::Barrier);
        offset += size;
    }
}

/// Submits commands and waits until the device has done them.
fn copy_now(allocator: &AllocatorState, commands: &[TransferCommand]) -> Result<(), Error> {
    if commands.is_empty() {
        return Ok(());
    }
    let driver = allocator.device_allocator.driver();
    // SAFETY: nothing uses the resources, as they are closed, and all of it stays until the submission has ended.
    let submission = unsafe { driver.submit(commands)? };
    // An error says that nothing runs any more: the old place was overwritten, so the new one it is.
    while !driver.wait(submission, u64::MAX).unwrap_or(true) {}
    Ok(())
}
