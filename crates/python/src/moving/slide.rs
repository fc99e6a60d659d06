//! Slides: moves down by less than the own size, to a place that overlaps the old one.
//!
//! A buffer is copied from its lower end up, in pieces no longer than the distance, each after the one before. An
//! image, and a buffer that would take many pieces, goes through other memory. Either way the copy overwrites the
//! old place, so it has ended before anything else is done: the room above the new place is free from then on.
//!
//! The slides of a pass lie in different blocks. So they are copied side by side: the first piece of each, then the
//! second of each, and so on.

use std::sync::Arc;

use ash::vk::ImageLayout;
use pyo3::prelude::*;
use vkmem_engine::{Allocation, AllocationCreateFlags, AllocationId, AllocationRequest, Error};
use vkmem_engine::{AllocationCreateInfo, MemoryPropertyFlags, MemoryUsage, PoolKey};
use vkmem_vulkan::kept_info::KeptInfo;
use vkmem_vulkan::{
    Relocation, ResourceHandle, Submission, TransferCommand, has_run, layout_after,
};

use super::by_host::{HostCopies, is_moved_by_host};
use super::mover::{FreedCounts, Mover, wait};
use super::obstacle::Obstacle;
use super::scratch::Scratch;
use super::step::{Commit, Copied, Frozen, Planned, Step, check_margins, freeze, relocation, swap};
use crate::errors::to_py;
use crate::interpreter::detach;
use crate::lifetime::movable::MoveTurn;
use crate::lifetime::ownership::{AllocatorState, Resource};

/// A buffer that would take more pieces goes through other memory, if there is any: a barrier takes as long as
/// copying a megabyte.
const FEW_PIECES: u64 = 16;
/// A buffer that would take more pieces does not move without other memory.
const MOST_PIECES: u64 = 512;

/// How the contents of a resource get to a place that overlaps the old one.
enum Route {
    /// In pieces; nothing is copied of an image whose texels are not wanted.
    Direct,
    /// Through other memory.
    Through(Allocation),
    /// All at once, by the host.
    ByHost,
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

/// The number of pieces in which a resource can be copied; `None` for the texels of an image.
fn pieces(it: &Planned) -> Option<u64> {
    let now = it.resource.allocation();
    match it.resource.handle() {
        ResourceHandle::Image(_) => {
            let layout = it.resource.movable_layout().map_or(ImageLayout::UNDEFINED, |it| it.get());
            (layout == ImageLayout::UNDEFINED).then_some(0)
        }
        _ => Some(now.size.div_ceil(now.offset - it.destination.offset)),
    }
}

/// The request for memory that a resource slides through, if that is better than pieces.
fn detour(it: &Planned) -> Option<AllocationRequest> {
    let is_direct = pieces(it).is_some_and(|pieces| pieces <= FEW_PIECES);
    if is_direct || is_moved_by_host(&it.resource) {
        return None;
    }
    let mut request = request_like(&it.resource)?;
    // Not in the pool that is being tidied.
    request.create_info.pool = None;
    request.create_info.flags = AllocationCreateFlags::DEDICATED_MEMORY;
    Some(request)
}

/// How each of some resources slides; `None` for one that does not, as there is no memory for that.
fn routes(planned: &[Planned], scratch: &mut Scratch) -> Vec<Option<Route>> {
    scratch.begin_pass();
    let detours: Vec<_> = planned.iter().map(detour).collect();
    let bytes = |it: &AllocationRequest| it.requirements.size + it.requirements.alignment;
    let mut ahead: u64 = detours.iter().flatten().map(bytes).sum();
    let route = |(it, detour): (&Planned, &Option<AllocationRequest>)| {
        let Some(detour) = detour else {
            let by_host = is_moved_by_host(&it.resource);
            return Some(if by_host { Route::ByHost } else { Route::Direct });
        };
        let taken = scratch.take(detour, ahead);
        ahead -= bytes(detour);
        match taken {
            Ok(memory) => Some(Route::Through(memory)),
            Err(_) => pieces(it).filter(|it| *it <= MOST_PIECES).map(|_| Route::Direct),
        }
    };
    planned.iter().zip(&detours).map(route).collect()
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
    scratch: &mut Scratch,
    commit: Commit<'_>,
) -> PyResult<Step> {
    let (mut step, mut ready) = (Step::default(), Vec::new());
    // The host may write to the old place of what is mapped at any time, and the new one overlaps it.
    let is_mapped = |it: &Planned| it.resource.allocation().mapped.is_some();
    let (mapped, planned): (Vec<_>, Vec<_>) = planned.into_iter().partition(is_mapped);
    step.stayed.extend(mapped.into_iter().map(|it| (it, Obstacle::Mapped)));
    for it in planned {
        match freeze(py, &it.resource) {
            Ok(()) => ready.push(it),
            Err(why) => step.stayed.push((it, why)),
        }
    }
    // Only now, as the driver is asked about the handles, which nobody destroys from here on.
    let frozen = Frozen { py, planned: &ready, moved: Vec::new() };
    let found = detach(py, || self::routes(&ready, scratch));
    // Those that stay are opened below, the others when they have moved.
    std::mem::forget(frozen);
    let mut routes = Vec::with_capacity(found.len());
    let all = std::mem::take(&mut ready);
    for (it, route) in all.into_iter().zip(found) {
        if let Some(route) = route {
            ready.push(it);
            routes.push(route);
        } else {
            it.resource.pins.end_move(py, false);
            step.stayed.push((it, Obstacle::NoRoom));
        }
    }
    if ready.is_empty() {
        return Ok(step);
    }
    let frozen = Frozen { py, planned: &ready, moved: Vec::new() };
    let copied = detach(py, || {
        check_margins(allocator, &ready);
        let margins = Overwritten::begin(allocator, &ready);
        let copied = create_and_copy(allocator, &ready, &routes);
        if copied.is_err() {
            margins.take_back(allocator);
        }
        copied
    });
    let Copied { handles, failure, .. } = copied.map_err(|error| to_py(py, &error))?;
    step.failure = failure.map(|error| to_py(py, &error));
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

/// Margins that copies overwrite before their allocations have ended: checks by other threads leave them out from then
/// on. What has moved gets new ones.
struct Overwritten(Vec<(AllocationId, u64)>);

impl Overwritten {
    fn begin(allocator: &AllocatorState, ready: &[Planned]) -> Self {
        if allocator.debugger().is_none() {
            return Self(Vec::new());
        }
        let engine = allocator.engine();
        let ids = ready.iter().map(|it| it.resource.allocation().id);
        Self(ids.filter_map(|id| Some((id, engine.note_unfilled(id)?))).collect())
    }

    /// Notes that nothing was copied.
    fn take_back(self, allocator: &AllocatorState) {
        for (id, slack) in self.0 {
            // They were noted before, so there is room for that.
            let _noted = allocator.engine().note_filled(id, slack);
        }
    }
}

/// Creates the new handles and copies to them; returns when the device has done so.
fn create_and_copy(
    allocator: &AllocatorState,
    ready: &[Planned],
    routes: &[Route],
) -> Result<Copied, Error> {
    let relocations: Vec<Relocation<'_>> = ready.iter().filter_map(relocation).collect();
    let detours: Vec<Relocation<'_>> = relocations
        .iter()
        .zip(routes)
        .filter_map(|(it, route)| match route {
            Route::Direct | Route::ByHost => None,
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
    let mut rounds = Rounds::default();
    let mut next = between.iter();
    for (at, (it, handle)) in relocations.iter().zip(&handles).enumerate() {
        if let Route::Through(_) = routes[at]
            && let Some(between) = next.next()
        {
            it.add_copies(*between, rounds.at(0));
            let rest = Relocation { source: *between, layout: layout_after(it.layout), ..*it };
            rest.add_copies(*handle, rounds.at(1));
        } else if let Route::Direct = routes[at] {
            let distance = ready[at].resource.allocation().offset - it.destination.offset;
            add_pieces(it, *handle, distance, &mut rounds);
        }
    }
    let commands = rounds.joined();
    let by_host = ready.iter().zip(routes).filter(|(_, route)| matches!(route, Route::ByHost));
    let by_host = by_host.map(|(it, _)| (&*it.resource, &it.destination));
    let copied = HostCopies::prepare(allocator, true, by_host).and_then(|by_host| {
        let failure = copy_now(allocator, &commands)?;
        // The old places are overwritten: from here on the new ones it is.
        Ok(failure.or(by_host.run().err()))
    });
    // SAFETY: created here, and the copies have ended or were not submitted.
    unsafe { device_allocator.destroy_handles(&between) };
    match copied {
        Ok(failure) => Ok(Copied { handles, submission: Submission::NONE, failure }),
        Err(error) => {
            // SAFETY: as above.
            unsafe { device_allocator.destroy_handles(&handles) };
            Err(error)
        }
    }
}

/// Commands between barriers.
#[derive(Default)]
struct Rounds(Vec<Vec<TransferCommand>>);

impl Rounds {
    /// The commands of a round, which is the next one at most.
    fn at(&mut self, round: usize) -> &mut Vec<TransferCommand> {
        if round >= self.0.len() {
            self.0.resize_with(round + 1, Vec::new);
        }
        &mut self.0[round]
    }

    /// All commands, with barriers.
    fn joined(self) -> Vec<TransferCommand> {
        let rounds: Vec<_> = self.0.into_iter().filter(|it| !it.is_empty()).collect();
        rounds.join(&TransferCommand::Barrier)
    }
}

/// Adds the copies of a buffer by a distance in bytes, from its lower end up.
fn add_pieces(it: &Relocation<'_>, target: ResourceHandle, distance: u64, rounds: &mut Rounds) {
    let (KeptInfo::Buffer(kept), ResourceHandle::Buffer(source), ResourceHandle::Buffer(target)) =
        (it.kept, it.source, target)
    else {
        return;
    };
    let (mut offset, mut round) = (0, 0);
    while offset < kept.size() {
        let size = distance.min(kept.size() - offset);
        let (source_offset, target_offset) = (offset, offset);
        rounds.at(round).push(TransferCommand::CopyBuffer {
            source,
            source_offset,
            target,
            target_offset,
            size,
        });
        offset += size;
        round += 1;
    }
}

/// Submits commands and waits until the device has done them; returns an error after that.
fn copy_now(
    allocator: &AllocatorState,
    commands: &[TransferCommand],
) -> Result<Option<Error>, Error> {
    if commands.is_empty() {
        return Ok(None);
    }
    let driver = allocator.device_allocator.driver();
    // SAFETY: nothing uses the resources, as they are closed, and all of it stays until the submission has ended.
    let (submission, failure) = has_run(unsafe { driver.submit(commands) })?;
    // An error says that nothing runs any more: the old place was overwritten, so the new one it is.
    wait(&**driver, submission);
    Ok(failure.map(Error::from))
}
