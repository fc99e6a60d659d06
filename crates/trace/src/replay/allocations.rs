//! Allocating and freeing.

use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags, AllocationRequest, Error, FailedItem,
};

use super::objects::{Live, LiveKind};
use super::tally::reason;
use super::worker::{NO_OBJECT, NO_SIZE, Worker};
use super::world::Instance;
use crate::event::{Call, Data, Event, GroupKind, Kind};
use crate::values::{Failure, FailureReason, Placed, Request};

/// An evictable allocation without a priority has that of VMA.
const PRIORITY: f32 = 0.5;

/// An allocation as the engine is asked for it.
pub(super) struct Asked {
    pub engine: AllocationRequest,
    /// As it is recorded.
    pub request: Request,
    /// Size in bytes, without what settings add.
    pub size: u64,
}

/// The parts of an event that allocates, or has failed to.
struct Parts<'e, 't> {
    number: Option<u32>,
    request: &'e Request,
    size: Option<u64>,
    buffer_size: Option<u64>,
    placed: Option<&'e Placed>,
    name: Option<&'t str>,
    data: Data<'t>,
    failure: Option<&'e Failure<'t>>,
}

impl<'e, 't> Parts<'e, 't> {
    fn of(call: &'e Call<'t>) -> Option<Self> {
        match call {
            Call::Allocate { allocation, request, size, buffer_size, placed, name, data } => {
                Some(Self {
                    number: Some(*allocation),
                    request,
                    size: *size,
                    buffer_size: *buffer_size,
                    placed: placed.as_ref(),
                    name: *name,
                    data: *data,
                    failure: None,
                })
            }
            Call::AllocateFailed { request, size, buffer_size, failure } => Some(Self {
                number: None,
                request,
                size: *size,
                buffer_size: *buffer_size,
                placed: None,
                name: None,
                data: Data::None,
                failure: failure.as_deref(),
            }),
            _ => None,
        }
    }
}

/// Returns the flags that the engine knows, without those that contradict each other.
fn known_flags(flags: AllocationCreateFlags, has_linear_pool: bool) -> AllocationCreateFlags {
    let mut flags = flags & AllocationCreateFlags::all();
    let strategies = (flags & AllocationCreateFlags::STRATEGY_MASK).bits();
    if strategies.count_ones() > 1 {
        // VMA takes the first of them.
        let first = AllocationCreateFlags::from_bits_retain(1 << strategies.trailing_zeros());
        flags = (flags - AllocationCreateFlags::STRATEGY_MASK) | first;
    }
    if !has_linear_pool {
        flags -= AllocationCreateFlags::UPPER_ADDRESS;
    }
    flags
}

impl Worker<'_> {
    /// Returns what the engine is asked for, or why it cannot be.
    pub fn asked(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        request: &Request,
        size: Option<u64>,
        buffer_size: Option<u64>,
    ) -> Result<Asked, &'static str> {
        let world = self.world;
        let format = world.trace.description().format;
        let complete = super::rules::complete(&world.info, format, request, size, buffer_size);
        let (size, mut request) = complete.ok_or(NO_SIZE)?;
        if let Some(mapping) = &world.mapping {
            mapping.request(&mut request);
        }
        let pool = match request.pool {
            None => None,
            Some(number) => Some(world.pools.with(number, |it| it.id).ok_or(NO_OBJECT)?),
        };
        let algorithm = world.settings.algorithm;
        let is_linear = algorithm.is_none_or(|it| it == Algorithm::Linear) && pool.is_some();
        request.flags = known_flags(request.flags, is_linear);
        request.min_alignment = request.min_alignment.max(world.settings.min_alignment);
        // Any number but 0 stands for the resource.
        let mut engine = request.to_engine(size, pool, 1).ok_or(NO_SIZE)?;
        let is_dedicated = request.flags.contains(AllocationCreateFlags::DEDICATED_MEMORY);
        if algorithm.is_some() && pool.is_none() && !is_dedicated {
            self.route(event, instance, &mut engine, &mut request);
        }
        Ok(Asked { engine, request, size })
    }

    /// Lets another algorithm serve what the default pools would.
    fn route(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        engine: &mut AllocationRequest,
        request: &mut Request,
    ) {
        let bits = engine.requirements.memory_type_bits;
        let found = instance.allocator.find_memory_type_index(
            bits,
            &engine.create_info,
            engine.resource_use,
        );
        let Ok(memory_type) = found else { return };
        let mut made = None;
        let pool = self.world.route(instance, memory_type, |info| made = Some(*info));
        if let (Some(info), Some(recording)) = (made, &mut self.recording) {
            let number = recording.number_pool();
            self.routes.insert((event.allocator, memory_type), number);
            let (pool, has_next, failure) = (Some(number), false, None);
            self.record_driver(event, instance);
            self.record(event, Call::CreatePool { pool, info, has_next, failure });
        }
        engine.create_info.pool = pool;
        if pool.is_some() {
            request.pool = self.routes.get(&(event.allocator, memory_type)).copied();
        }
    }

    /// Plays an allocation that succeeded or failed.
    pub fn allocate(&mut self, index: usize, event: &Event<'_>) {
        let Some(parts) = Parts::of(&event.call) else { return };
        if parts.number.is_none() && parts.failure.is_none() {
            // It was not tried.
            return self.record(event, event.call.clone());
        }
        let Some(instance) = self.instance(event) else { return };
        let asked = self.asked(event, instance, parts.request, parts.size, parts.buffer_size);
        let asked = match asked {
            Ok(asked) => asked,
            Err(why) => return self.tally.skip(why),
        };
        let made = self.timed(event.call.kind(), || instance.allocator.allocate(&asked.engine));
        self.after(index, event, instance);
        let extra = self.made(index, event, instance, &parts, &asked, made);
        self.free_extra(event, instance, extra);
    }

    /// Frees what the recorded program did not have.
    fn free_extra(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        extra: Option<(Option<u32>, Allocation)>,
    ) {
        let Some((number, it)) = extra else { return };
        drop(instance.allocator.free(it.id));
        self.record_driver(event, instance);
        if let Some(allocation) = number {
            self.record(event, Call::Free { allocation });
        }
    }

    /// Notes the result of an allocation. Returns what is to be freed again, with its number in a recording.
    fn made(
        &mut self,
        index: usize,
        event: &Event<'_>,
        instance: &Instance,
        parts: &Parts<'_, '_>,
        asked: &Asked,
        made: Result<Allocation, Error>,
    ) -> Option<(Option<u32>, Allocation)> {
        match (parts.number, made) {
            (Some(number), Ok(it)) => {
                self.check(index, &it, parts.placed);
                self.tally.resource(asked.request.resource.class(), asked.size);
                self.record_made(event, number, parts, asked, &it);
                self.add(index, event, instance, number, asked, it);
                if parts.name.is_some() {
                    let _ = instance.allocator.set_name(it.id, parts.name);
                }
            }
            (Some(_), Err(error)) => {
                self.tally.failed_now.add(index, asked.size, || reason(&error));
                self.record_failure(event, asked, parts.buffer_size, &error);
            }
            (None, Ok(it)) => {
                let what = || match parts.failure.and_then(|it| it.message) {
                    Some(message) => message.to_string(),
                    None => "the recording does not say why".into(),
                };
                self.tally.succeeded_now.add(index, asked.size, what);
                let number = self.recording.as_mut().map(|it| it.number_allocation());
                if let Some(number) = number {
                    self.record_made(event, number, parts, asked, &it);
                }
                return Some((number, it));
            }
            (None, Err(error)) => {
                self.tally.failed_again += 1;
                if self.world.is_exact {
                    self.check_failure(index, parts.failure, &error);
                }
                self.record_failure(event, asked, parts.buffer_size, &error);
            }
        }
        None
    }

    fn record_made(
        &mut self,
        event: &Event<'_>,
        number: u32,
        parts: &Parts<'_, '_>,
        asked: &Asked,
        it: &Allocation,
    ) {
        if self.recording.is_some() {
            let call = Call::Allocate {
                allocation: number,
                request: asked.request,
                size: Some(it.size),
                buffer_size: parts.buffer_size,
                placed: self.placed(it),
                name: parts.name,
                data: parts.data,
            };
            self.record(event, call);
        }
    }

    fn check_failure(&mut self, index: usize, recorded: Option<&Failure<'_>>, now: &Error) {
        let Some(recorded) = recorded.map(|it| it.reason) else { return };
        if recorded == FailureReason::Unknown {
            return;
        }
        self.tally.placements.checked += 1;
        let reason = FailureReason::of(now);
        if recorded != reason {
            let (recorded, reason) = (format!("{recorded:?}"), format!("{reason:?}"));
            self.tally.placements.differ(index, recorded, reason);
        }
    }

    fn record_failure(
        &mut self,
        event: &Event<'_>,
        asked: &Asked,
        buffer_size: Option<u64>,
        error: &Error,
    ) {
        if self.recording.is_some() {
            let message = reason(error);
            let failure = Some(Box::new(Failure::of(error, &message)));
            let (request, size) = (asked.request, Some(asked.size));
            self.record(event, Call::AllocateFailed { request, size, buffer_size, failure });
        }
    }

    /// Adds a live allocation.
    pub fn add(
        &mut self,
        index: usize,
        event: &Event<'_>,
        instance: &Instance,
        number: u32,
        asked: &Asked,
        it: Allocation,
    ) {
        let create_info = &asked.engine.create_info;
        let mut kind = LiveKind::Memory;
        let can_be_lost = create_info.flags.contains(AllocationCreateFlags::CAN_BECOME_LOST);
        // Else it is an event of its own.
        if can_be_lost && !self.world.is_told {
            let priority = create_info.priority.unwrap_or(PRIORITY);
            self.world.watch_losses(instance);
            if let Ok(evictable) = instance.allocator.make_evictable(&it, priority) {
                kind = LiveKind::Evictable(Box::new(evictable));
            }
        }
        let live = Live {
            allocation: it,
            kind,
            allocator: event.allocator,
            event: index as u32,
            size: asked.size,
            data_event: index as u32,
            name_event: None,
            is_retired: false,
            place: self.places.as_mut().map_or(0, |it| it.add(number)),
        };
        self.note_id(number, &live);
        self.world.gauges.allocate(asked.size);
        if let Some(old) = self.world.allocations.put(number, live) {
            // The trace does not say that it was freed.
            self.release(instance, old);
        }
    }

    /// Frees what was live; returns whether it was memory.
    fn release(&mut self, instance: &Instance, live: Live) -> bool {
        self.forget_id(&live);
        self.forget_place(&live);
        let is_lost = match live.kind {
            LiveKind::Memory => false,
            // What was lost was counted then.
            LiveKind::Evictable(evictable) => instance.allocator.end_evictable(*evictable),
            LiveKind::Alias | LiveKind::Lost => return false,
        };
        if !is_lost {
            self.world.gauges.free(live.size);
            drop(instance.allocator.free(live.allocation.id));
        }
        !is_lost
    }

    /// Plays a free.
    pub fn free(&mut self, _: usize, event: &Event<'_>, number: u32) {
        let Some(instance) = self.instance(event) else { return };
        let Some(live) = self.world.allocations.take(number) else {
            return self.tally.skip(NO_OBJECT);
        };
        let start = std::time::Instant::now();
        self.release(instance, live);
        self.tally.call(Kind::Free, start.elapsed(), false);
        self.record_driver(event, instance);
        self.record(event, Call::Free { allocation: number });
    }

    /// Plays a call that frees many. Returns false if its members have to be played one by one.
    pub fn free_many(&mut self, _: usize, event: &Event<'_>, events: &[Event<'_>]) -> bool {
        let Some(instance) = self.instance(event) else { return true };
        let (mut ids, mut sizes) = (Vec::new(), 0_u64);
        for it in events {
            let Call::Free { allocation } = it.call else { continue };
            match self.world.allocations.take(allocation) {
                Some(live) => {
                    self.forget_id(&live);
                    self.forget_place(&live);
                    let is_memory = match live.kind {
                        LiveKind::Memory => true,
                        LiveKind::Evictable(evictable) => !evictable.end(),
                        LiveKind::Alias | LiveKind::Lost => false,
                    };
                    if is_memory {
                        ids.push(live.allocation.id);
                        sizes = sizes.saturating_add(live.size);
                    }
                }
                None => self.tally.skip(NO_OBJECT),
            }
        }
        let _ = self.timed(Kind::Group, || {
            drop(instance.allocator.free_many(&ids));
            Ok(())
        });
        self.world.gauges.free(sizes);
        self.record_driver(event, instance);
        self.record_group(event, events, GroupKind::Free);
        true
    }

    fn record_group(&mut self, event: &Event<'_>, events: &[Event<'_>], kind: GroupKind) {
        if self.recording.is_some() {
            self.record(event, Call::Group { kind, count: events.len() as u32 });
            events.iter().for_each(|it| self.record(it, it.call.clone()));
        }
    }

    /// Plays a call that allocates all or none. Returns false if its members have to be played one by one.
    pub fn allocate_many(&mut self, index: usize, event: &Event<'_>, events: &[Event<'_>]) -> bool {
        let Some(instance) = self.instance(event) else { return true };
        let mut asked = Vec::new();
        for it in events {
            let Some(parts) = Parts::of(&it.call) else { return false };
            match self.asked(it, instance, parts.request, parts.size, parts.buffer_size) {
                Ok(one) => asked.push(one),
                Err(_) => return false,
            }
        }
        let failed_then = events.iter().any(|it| matches!(it.call, Call::AllocateFailed { .. }));
        let made_then = events.iter().any(|it| matches!(it.call, Call::Allocate { .. }));
        if failed_then && made_then {
            // This is not all or none: VMA 2.3 does not promise it.
            return false;
        }
        let requests: Vec<AllocationRequest> = asked.iter().map(|it| it.engine).collect();
        let made = {
            let start = std::time::Instant::now();
            let made = instance.allocator.allocate_many(&requests);
            self.tally.call(Kind::Group, start.elapsed(), made.is_err());
            made
        };
        self.after(index, event, instance);
        let count = events.len() as u32;
        self.record(event, Call::Group { kind: GroupKind::Allocate, count });
        let mut made: Vec<Result<Allocation, Option<Error>>> = match made {
            Ok(made) => made.into_iter().map(Ok).collect(),
            Err(FailedItem { index: at, error }) => {
                let mut all: Vec<_> = events.iter().map(|_| Err(None)).collect();
                if let Some(failed) = all.get_mut(at) {
                    *failed = Err(Some(error));
                }
                all
            }
        };
        let mut extra = Vec::new();
        for ((index, event), (asked, made)) in
            (index + 1..).zip(events).zip(asked.iter().zip(made.drain(..)))
        {
            let Some(parts) = Parts::of(&event.call) else { continue };
            match made {
                Ok(it) => {
                    let of = self.made(index, event, instance, &parts, asked, Ok(it));
                    extra.extend(of);
                }
                Err(Some(error)) => {
                    self.made(index, event, instance, &parts, asked, Err(error));
                }
                Err(None) => {
                    if parts.number.is_some() {
                        let undone = || "another one of its group failed".into();
                        self.tally.failed_now.add(index, asked.size, undone);
                    }
                    let (request, size) = (asked.request, Some(asked.size));
                    let (buffer_size, failure) = (parts.buffer_size, None);
                    let call = Call::AllocateFailed { request, size, buffer_size, failure };
                    self.record(event, call);
                }
            }
        }
        extra.into_iter().for_each(|it| self.free_extra(event, instance, Some(it)));
        true
    }
}
