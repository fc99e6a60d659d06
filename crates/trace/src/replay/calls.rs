//! Calls for the host, frames, losses, pools, allocators and the driver.

use std::sync::atomic::Ordering::Relaxed;

use vkmem_engine::{AllocationId, Error, HostRange, PoolKey};

use super::driver::Answer;
use super::objects::{Live, LiveKind, LivePool};
use super::tally::{TOLD, reason};
use super::worker::{NO_OBJECT, TOO_MANY_BLOCKS, Worker};
use super::world::Instance;
use crate::event::{Call, Event, GroupKind, Kind, Object};
use crate::values::{Failure, Numbers};

impl Worker<'_> {
    /// Returns the id of an allocation that is there and not lost; counts it otherwise.
    fn id(&mut self, number: u32) -> Option<AllocationId> {
        let found = self.world.allocations.with(number, |live| match &live.kind {
            LiveKind::Memory | LiveKind::Alias => Some(live.allocation.id),
            LiveKind::Evictable(it) if !it.is_lost() => Some(live.allocation.id),
            _ => None,
        });
        let found = found.flatten();
        if found.is_none() {
            self.tally.skip(NO_OBJECT);
        }
        found
    }

    /// Plays a map, unmap, flush, invalidate or query.
    pub fn host_access(&mut self, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        let (Call::Map { allocation }
        | Call::Unmap { allocation }
        | Call::Flush { allocation, .. }
        | Call::Invalidate { allocation, .. }
        | Call::Query { allocation }) = event.call
        else {
            return;
        };
        let Some(id) = self.id(allocation) else { return };
        let engine = &instance.allocator;
        let kind = event.call.kind();
        // A failure is counted with the calls of its kind.
        let _: Result<(), Error> = match event.call {
            Call::Map { .. } => self.timed(kind, || engine.map(id).map(drop)),
            Call::Unmap { .. } => self.timed(kind, || engine.unmap(id)),
            Call::Flush { offset, size, .. } => self.timed(kind, || engine.flush(id, offset, size)),
            Call::Invalidate { offset, size, .. } => {
                self.timed(kind, || engine.invalidate(id, offset, size))
            }
            _ => {
                self.touch(allocation);
                self.timed(kind, || engine.info(id).map(drop))
            }
        };
        self.record(event, event.call.clone());
    }

    /// Plays a call that flushes or invalidates many. Returns false if its members have to be played one by one.
    pub fn synchronise_many(&mut self, _: usize, event: &Event<'_>, events: &[Event<'_>]) -> bool {
        let Some(instance) = self.instance(event) else { return true };
        let mut ranges = Vec::new();
        for it in events {
            if let Call::Flush { allocation, offset, size }
            | Call::Invalidate { allocation, offset, size } = it.call
                && let Some(id) = self.id(allocation)
            {
                ranges.push(HostRange { id, offset, size });
            }
        }
        let flushes = matches!(event.call, Call::Group { kind: GroupKind::Flush, .. });
        let _ = self.timed(Kind::Group, || {
            let engine = &instance.allocator;
            let done =
                if flushes { engine.flush_many(&ranges) } else { engine.invalidate_many(&ranges) };
            done.map_err(|failed| failed.error)
        });
        self.record(event, event.call.clone());
        events.iter().for_each(|it| self.record(it, it.call.clone()));
        true
    }

    /// Plays a name or custom data.
    pub fn describe(&mut self, index: usize, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        match event.call {
            Call::Name { object: Object::Allocation(number), name } => {
                let named = self.world.allocations.with(number, |it| {
                    let is_alias = matches!(it.kind, LiveKind::Alias);
                    it.name_event = is_alias.then_some(index as u32);
                    is_alias
                });
                if named == Some(true) {
                    return self.record(event, event.call.clone());
                }
                let Some(id) = self.id(number) else { return };
                let _ = self.timed(Kind::Name, || instance.allocator.set_name(id, name));
            }
            Call::Name { object: Object::Pool(number), name } => {
                let name = name.map(str::to_string);
                if self.world.pools.with(number, |pool| pool.name = name).is_none() {
                    return self.tally.skip(NO_OBJECT);
                }
            }
            Call::SetData { allocation, .. } => {
                let data_event = index as u32;
                let set = self.world.allocations.with(allocation, |it| it.data_event = data_event);
                if set.is_none() {
                    return self.tally.skip(NO_OBJECT);
                }
            }
            _ => {}
        }
        self.record(event, event.call.clone());
    }

    fn touch(&self, number: u32) {
        self.world.allocations.with(number, |live| {
            if let LiveKind::Evictable(evictable) = &live.kind {
                evictable.touch();
            }
        });
    }

    /// Lets an allocation be lost from now on, or no more.
    fn make_evictable(
        &mut self,
        event: &Event<'_>,
        instance: &Instance,
        number: u32,
        priority: Option<f32>,
    ) {
        // Without the lock of the allocation, as the engine takes its own.
        let before = self.world.allocations.with(number, |live| match &live.kind {
            LiveKind::Memory | LiveKind::Evictable(_) => {
                let kind = std::mem::replace(&mut live.kind, LiveKind::Memory);
                Some((live.allocation, kind))
            }
            LiveKind::Alias | LiveKind::Lost => None,
        });
        let Some(Some((it, before))) = before else { return self.tally.skip(NO_OBJECT) };
        if let LiveKind::Evictable(evictable) = before
            && evictable.end()
        {
            // It is lost here, and not in the recording: that is counted as a loss.
            self.world.allocations.with(number, |live| live.kind = LiveKind::Lost);
            return self.record(event, event.call.clone());
        }
        if let Some(priority) = priority {
            self.world.watch_losses(instance);
            if let Ok(evictable) = instance.allocator.make_evictable(&it, priority) {
                let kind = LiveKind::Evictable(Box::new(evictable));
                self.world.allocations.with(number, |live| live.kind = kind);
            }
        }
        self.record(event, event.call.clone());
    }

    /// Plays uses and losses.
    pub fn losses(&mut self, index: usize, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        match &event.call {
            Call::Touch { allocations } => {
                let _ = self.timed(Kind::Touch, || Ok(()));
                allocations.iter().for_each(|number| self.touch(number));
                self.record(event, event.call.clone());
            }
            Call::MakeEvictable { allocation, priority } => {
                self.make_evictable(event, instance, *allocation, *priority);
            }
            Call::Lose { allocations } => {
                for number in allocations.iter() {
                    self.tally.recorded_losses += 1;
                    if self.world.is_exact {
                        self.note_loss(index, number, false);
                    }
                }
            }
            Call::MakeLost { pool, .. } => {
                let id = match pool {
                    None => None,
                    Some(number) => match self.world.pools.with(*number, |it| it.id) {
                        None => return self.tally.skip(NO_OBJECT),
                        id => id,
                    },
                };
                let made =
                    self.timed(Kind::MakeLost, || instance.allocator.make_allocations_lost(id));
                self.after(index, event, instance);
                let count = made.ok().map(|it| it as u64);
                self.record(event, Call::MakeLost { pool: *pool, count });
            }
            _ => {
                let made = self
                    .timed(Kind::EvictOverBudget, || Ok(instance.allocator.evict_over_budget()));
                self.after(index, event, instance);
                self.record(event, Call::EvictOverBudget { bytes: made.unwrap_or(0) });
            }
        }
    }

    /// Counts what was lost since the last call.
    pub fn note_losses(&mut self, index: usize, event: &Event<'_>, instance: &Instance) {
        let lost = instance.losses.take();
        if lost.is_empty() {
            return;
        }
        let mut numbers = Vec::new();
        if let Some(all) = &self.world.numbers {
            let mut all = all.lock();
            numbers.extend(lost.iter().filter_map(|id| all.remove(&(event.allocator, *id))));
        }
        for &number in &numbers {
            let size = self.world.allocations.with(number, |live| live.size).unwrap_or(0);
            self.tally.losses.count += 1;
            self.tally.losses.bytes = self.tally.losses.bytes.saturating_add(size);
            self.world.gauges.free(size);
            if self.world.is_exact {
                self.note_loss(index, number, true);
            }
        }
        self.record(event, Call::Lose { allocations: Numbers::new(&numbers) });
    }

    /// Plays the begin of a frame.
    pub fn begin_frame(&mut self, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        let is_told = self.world.is_told;
        let _ = self.timed(Kind::BeginFrame, || {
            instance.allocator.set_frame(event.frame);
            // Else it is an event of its own.
            if !is_told {
                instance.allocator.refresh_budget();
            }
            Ok(())
        });
        self.tally.frames += 1;
        self.record_driver(event, instance);
        self.record(event, Call::BeginFrame {});
    }

    /// Plays what changes the state of an allocator without a result.
    pub fn upkeep(&mut self, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        let engine = &instance.allocator;
        let kind = event.call.kind();
        let key = |worker: &Self, pool: Option<u32>, memory_type: Option<u32>| match pool {
            Some(pool) => worker.world.pools.with(pool, |it| PoolKey::Custom(it.id)),
            None => memory_type.map(PoolKey::Default),
        };
        let has_type = |key: &PoolKey| match key {
            PoolKey::Default(it) => (*it as usize) < engine.device().info().types.len(),
            PoolKey::Custom(_) => true,
        };
        let _: Result<(), Error> = match event.call {
            Call::QueryBudget { trims } => self.timed(kind, || {
                match trims {
                    true => engine.refresh_budget(),
                    false => drop(engine.heap_budgets()),
                }
                Ok(())
            }),
            Call::EndQuarantine { all: true } => {
                self.timed(kind, || Ok(_ = engine.end_quarantines()))
            }
            Call::EndQuarantine { .. } => {
                self.timed(kind, || Ok(_ = engine.end_overdue_quarantines()))
            }
            // Elsewhere blocks are allocated when they are needed.
            Call::Prefetch { .. } if !self.world.is_exact => return,
            Call::MergeFreed { pool, memory_type } | Call::Prefetch { pool, memory_type } => {
                let Some(key) = key(self, pool, memory_type).filter(has_type) else {
                    return self.tally.skip(NO_OBJECT);
                };
                self.timed(kind, || {
                    match kind {
                        Kind::Prefetch => engine.prefetch(key),
                        _ => engine.merge_freed(key),
                    }
                    Ok(())
                })
            }
            Call::RefuseLosses { ref allocations } => {
                let id = |it| self.world.allocations.with(it, |live| live.allocation.id);
                if self.world.is_exact {
                    instance.losses.refuse(allocations.iter().filter_map(id).collect());
                }
                Ok(())
            }
            _ => Ok(()),
        };
        if kind == Kind::Prefetch {
            let _ = instance.driver.end_of_call();
        }
        self.record_driver(event, instance);
        self.record(event, event.call.clone());
    }

    /// Plays what empties pools.
    pub fn trim(&mut self, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        let made = self.timed(Kind::Trim, || Ok(instance.allocator.trim()));
        self.record_driver(event, instance);
        self.record(event, Call::Trim { bytes: made.unwrap_or(0) });
    }

    /// Takes what the recorded driver was asked for and answered.
    pub fn driver(&mut self, event: &Event<'_>) {
        if event.is_state {
            return;
        }
        match event.call {
            Call::AllocateMemory { memory_type, size, result, .. } if self.world.is_exact => {
                if let Some(instance) = self.world.instance(event.allocator) {
                    instance.driver.expect(event.thread, Answer { memory_type, size, result });
                }
            }
            Call::FreeMemory { memory } => self.forget_memory(memory),
            Call::Budget { heap, block_bytes, usage, budget, .. } => {
                if let Some(instance) = self.world.instance(event.allocator) {
                    instance.driver.report(heap, usage, budget, block_bytes);
                    if self.created == Some(event.allocator) {
                        // It was asked when the allocator was created, before anything is played.
                        instance.allocator.refresh_budget();
                    }
                }
                self.record(event, event.call.clone());
            }
            _ => {}
        }
    }

    /// Plays the creation or the end of an allocator.
    pub fn allocator(&mut self, event: &Event<'_>) {
        if let Call::CreateAllocator { options } = &event.call {
            let world = self.world;
            let options = options.as_deref();
            let _ = self
                .timed(Kind::CreateAllocator, || world.create_instance(event.allocator, options));
            if self.recording.is_some() {
                let options = world.instance(event.allocator).map(|it| it.options.clone());
                self.record(event, Call::CreateAllocator { options: options.map(Box::new) });
            }
            return;
        }
        let Some(instance) = self.instance(event) else { return };
        self.leftovers(event.allocator);
        let start = std::time::Instant::now();
        self.free_all(event.allocator, instance);
        instance.allocator.close();
        instance.closed.store(true, Relaxed);
        self.tally.call(Kind::DestroyAllocator, start.elapsed(), false);
        self.record_driver(event, instance);
        self.record(event, Call::DestroyAllocator {});
    }

    /// Counts what an allocator still has.
    pub fn leftovers(&mut self, allocator: u16) {
        let Some(instance) = self.world.instance(allocator) else { return };
        let left = &mut self.tally.leftovers;
        let mut names = Vec::new();
        self.world.allocations.each(|live| {
            if live.allocator != allocator || matches!(live.kind, LiveKind::Lost) {
                return;
            }
            left.allocations += 1;
            if !matches!(live.kind, LiveKind::Alias) {
                left.bytes = left.bytes.saturating_add(live.size);
            }
            if left.first.len() + names.len() < TOLD {
                names.push((live.event as usize, live.size, live.allocation.id));
            }
        });
        let name = |id| instance.allocator.name(id).ok().flatten();
        left.first.extend(names.into_iter().map(|(event, size, id)| (event, size, name(id))));
        self.world.pools.each(|pool| left.pools += u64::from(pool.allocator == allocator));
    }

    /// Frees what the program did not.
    fn free_all(&mut self, allocator: u16, instance: &Instance) {
        let (mut ids, mut evictables, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
        self.world.allocations.each(|live: &mut Live| {
            let kind = std::mem::replace(&mut live.kind, LiveKind::Lost);
            if live.allocator != allocator {
                live.kind = kind;
                return;
            }
            match kind {
                LiveKind::Memory => {
                    ids.push(live.allocation.id);
                    bytes = bytes.saturating_add(live.size);
                }
                LiveKind::Evictable(it) => evictables.push((it, live.allocation.id, live.size)),
                LiveKind::Alias | LiveKind::Lost => {}
            }
        });
        // Their end takes a lock that comes before those of objects.
        for (evictable, id, size) in evictables {
            if !evictable.end() {
                ids.push(id);
                bytes = bytes.saturating_add(size);
            }
        }
        drop(instance.allocator.free_many(&ids));
        self.world.gauges.free(bytes);
    }

    /// Plays the creation or the end of a pool.
    pub fn pool(&mut self, index: usize, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        match &event.call {
            Call::CreatePool { pool, info, has_next, failure } => {
                let mut info = *info;
                info.memory_allocate_next = 0;
                if self.world.settings.debug.is_some() {
                    // As in its allocator.
                    info.debug = None;
                }
                info.algorithm = self.world.settings.algorithm.unwrap_or(info.algorithm);
                if let (Some(size), Some(_)) = (self.world.settings.block_size, info.block_size) {
                    info.block_size = Some(size);
                }
                if let Some(mapping) = &self.world.mapping {
                    info.memory_type_index = mapping.memory_type(info.memory_type_index);
                }
                if !self.world.take_pool_blocks(info.min_block_count) {
                    return self.tally.skip(TOO_MANY_BLOCKS);
                }
                let made = self.timed(Kind::CreatePool, || instance.allocator.create_pool(&info));
                self.after(index, event, instance);
                let has_next = *has_next;
                match (made, *pool) {
                    (Ok(id), Some(number)) => {
                        let live = LivePool { id, allocator: event.allocator, name: None };
                        self.world.pools.put(number, live);
                        let (pool, failure) = (Some(number), None);
                        self.record(event, Call::CreatePool { pool, info, has_next, failure });
                    }
                    (Ok(id), None) => {
                        let what = || match failure.as_ref().and_then(|it| it.message) {
                            Some(message) => message.to_string(),
                            None => "a pool".into(),
                        };
                        self.tally.succeeded_now.add(index, 0, what);
                        let number = self.recording.as_mut().map(|it| it.number_pool());
                        let (pool, failure) = (number, None);
                        self.record(event, Call::CreatePool { pool, info, has_next, failure });
                        let _ = instance.allocator.destroy_pool(id);
                        self.record_driver(event, instance);
                        if let Some(pool) = number {
                            self.record(event, Call::DestroyPool { pool });
                        }
                    }
                    (Err(error), pool) => {
                        match pool {
                            Some(_) => self.tally.failed_now.add(index, 0, || reason(&error)),
                            None => self.tally.failed_again += 1,
                        }
                        let message = reason(&error);
                        let failure = Some(Box::new(Failure::of(&error, &message)));
                        self.record(
                            event,
                            Call::CreatePool { pool: None, info, has_next, failure },
                        );
                    }
                }
            }
            Call::DestroyPool { pool } => {
                let Some(live) = self.world.pools.take(*pool) else {
                    return self.tally.skip(NO_OBJECT);
                };
                let kind = event.call.kind();
                if self.timed(kind, || instance.allocator.destroy_pool(live.id)).is_err() {
                    self.world.pools.put(*pool, live);
                    return;
                }
                self.record_driver(event, instance);
                self.record(event, event.call.clone());
            }
            _ => {}
        }
    }
}
