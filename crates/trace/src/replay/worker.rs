//! [`Worker`]: plays events, one after the other.

use std::collections::HashMap;
use std::time::Instant;

use vkmem_engine::{Allocation, Error};

use super::objects::Live;
use super::places::Places;
use super::recording::Recording;
use super::tally::Tally;
use super::world::{Instance, World};
use crate::event::{Call, Event, GroupKind, Kind};
use crate::trace::Trace;
use crate::values::Placed;

/// Why an event was not played.
pub(super) const NO_ALLOCATOR: &str = "its allocator is not there";
pub(super) const NO_OBJECT: &str = "what it refers to is not there";
pub(super) const NO_SIZE: &str = "the trace does not say its size";
pub(super) const TOO_MANY_BLOCKS: &str = "its pool has too many blocks";
pub(super) const NOT_POSSIBLE: &str = "this library cannot do that";

/// A memory object: its allocator and its handle.
type Memory = (u16, u64);

/// A thread of a replay.
pub(super) struct Worker<'w> {
    pub world: &'w World,
    pub tally: Tally,
    pub recording: Option<Recording>,
    /// Memory objects of the replay by their recorded numbers, and the reverse.
    memories: (HashMap<u32, Memory>, HashMap<Memory, u32>),
    /// Losses that were recorded (negative) or happened now, and the event of each, until both have.
    open_losses: HashMap<u32, (bool, usize)>,
    /// Numbers of route pools in the recording of the replay.
    pub routes: HashMap<(u16, u32), u32>,
    /// The live allocations, where samples must not look into the allocators.
    pub places: Option<Places>,
    /// The allocator that was created last, until anything else happens: what it knew of budgets then is told next.
    pub created: Option<u16>,
    /// Numbers of the places that allocations leave when their moves end, by those of the allocations.
    pub kept_sources: HashMap<u32, u32>,
}

/// Returns how many of the events after a group event belong to it: those of its thread and kind.
pub(super) fn members(trace: &Trace, group: usize, kind: GroupKind, count: u32) -> usize {
    let columns = trace.columns();
    let start = group + 1;
    let end = start.saturating_add(count as usize).min(trace.len());
    let is_member = |index: usize| {
        let of_kind = columns.kind(index);
        let belongs = match kind {
            GroupKind::Allocate => matches!(of_kind, Kind::Allocate | Kind::AllocateFailed),
            GroupKind::Free => of_kind == Kind::Free,
            GroupKind::Flush => of_kind == Kind::Flush,
            GroupKind::Invalidate => of_kind == Kind::Invalidate,
            GroupKind::VirtualAllocate => {
                matches!(of_kind, Kind::VirtualAllocate | Kind::VirtualAllocateFailed)
            }
            GroupKind::VirtualFree => of_kind == Kind::VirtualFree,
            GroupKind::VirtualMove => of_kind == Kind::VirtualMove,
        };
        belongs
            && columns.threads()[index] == columns.threads()[group]
            && columns.allocators()[index] == columns.allocators()[group]
    };
    (start..end).take_while(|index| is_member(*index)).count()
}

/// Returns whether an event is about an allocator that exists, not about a virtual block or the program.
fn needs_allocator(call: &Call<'_>) -> bool {
    match call {
        Call::Group { kind, .. } => !matches!(
            kind,
            GroupKind::VirtualAllocate | GroupKind::VirtualFree | GroupKind::VirtualMove
        ),
        // That one is created with its own options first.
        Call::Mark { .. } | Call::CreateAllocator { .. } => false,
        other => !other.kind().is_of_space(),
    }
}

impl<'w> Worker<'w> {
    pub fn new(world: &'w World, recording: Option<Recording>) -> Self {
        let keeps_places = world.is_exact || recording.is_some();
        Self {
            world,
            tally: Tally::default(),
            recording,
            memories: Default::default(),
            open_losses: HashMap::new(),
            routes: HashMap::new(),
            places: keeps_places.then(Places::default),
            created: None,
            kept_sources: HashMap::new(),
        }
    }

    /// Plays an event; with the first of a group the whole group. Returns the number of events that were played.
    pub fn play(&mut self, index: usize) -> usize {
        let event = self.world.trace.event(index);
        self.world.gauges.set_event(index);
        match event.call {
            Call::CreateAllocator { .. } => self.created = Some(event.allocator),
            Call::Budget { .. } => {}
            _ => self.created = None,
        }
        if self.world.is_exact
            && needs_allocator(&event.call)
            && let Some(instance) = self.world.instance(event.allocator)
            && !matches!(event.call, Call::AllocateMemory { .. } | Call::FreeMemory { .. })
        {
            instance.driver.begin_call(event.thread);
            instance.losses.begin_call(event.thread);
        }
        if let Call::Group { kind, count } = event.call {
            let members = members(&self.world.trace, index, kind, count);
            if members > 0 {
                self.group(index, &event, kind, members);
                return members + 1;
            }
        }
        self.one(index, &event);
        1
    }

    fn group(&mut self, index: usize, event: &Event<'_>, kind: GroupKind, members: usize) {
        let events: Vec<Event<'_>> =
            (index + 1..=index + members).map(|it| self.world.trace.event(it)).collect();
        let done = match kind {
            GroupKind::Allocate => self.allocate_many(index, event, &events),
            GroupKind::Free => self.free_many(index, event, &events),
            GroupKind::Flush | GroupKind::Invalidate => {
                self.synchronise_many(index, event, &events)
            }
            GroupKind::VirtualAllocate => self.virtual_allocate_many(index, event, &events),
            GroupKind::VirtualFree => self.virtual_free_many(index, event, &events),
            // The moves are a result, to be compared.
            GroupKind::VirtualMove => {
                if self.world.is_exact {
                    self.record(event, event.call.clone());
                }
                false
            }
        };
        if !done {
            (index + 1..).zip(&events).for_each(|(index, event)| self.one(index, event));
        }
    }

    /// Plays one call.
    fn one(&mut self, index: usize, event: &Event<'_>) {
        match &event.call {
            Call::Allocate { .. } | Call::AllocateFailed { .. } => self.allocate(index, event),
            Call::Free { allocation } => self.free(index, event, *allocation),
            Call::Map { .. }
            | Call::Unmap { .. }
            | Call::Flush { .. }
            | Call::Invalidate { .. }
            | Call::Query { .. } => self.host_access(event),
            Call::BeginFrame {} => self.begin_frame(event),
            Call::VirtualAllocate { .. } | Call::VirtualAllocateFailed { .. } => {
                self.virtual_allocate(index, event);
            }
            Call::VirtualFree { space, allocation } => {
                self.virtual_free(event, *space, *allocation)
            }
            Call::CreateAllocator { .. } | Call::DestroyAllocator {} => self.allocator(event),
            Call::CreatePool { .. } | Call::DestroyPool { .. } => self.pool(index, event),
            Call::Alias { .. } | Call::Import { .. } | Call::CreateLost { .. } => {
                self.other_allocation(index, event);
            }
            Call::Name { .. } | Call::SetData { .. } => self.describe(index, event),
            Call::Touch { .. }
            | Call::Lose { .. }
            | Call::MakeEvictable { .. }
            | Call::MakeLost { .. }
            | Call::EvictOverBudget { .. } => self.losses(index, event),
            Call::BeginDefragmentation { .. }
            | Call::BeginPass { .. }
            | Call::ProposeMove { .. }
            | Call::EndMove { .. }
            | Call::EndPass { .. }
            | Call::RefuseMoves { .. }
            | Call::LimitPasses { .. }
            | Call::KeepSource { .. }
            | Call::EndDefragmentation { .. } => self.defragmentation(index, event),
            Call::AllocateMemory { .. } | Call::FreeMemory { .. } | Call::Budget { .. } => {
                self.driver(event);
            }
            Call::Trim { .. } => self.trim(event),
            Call::QueryBudget { .. }
            | Call::EndQuarantine { .. }
            | Call::MergeFreed { .. }
            | Call::Prefetch { .. }
            | Call::RefuseLosses { .. } => self.upkeep(event),
            Call::AnswerMoves { .. } | Call::MakeRoom { .. } => self.expect_room(index, event),
            Call::CreateSpace { .. }
            | Call::DestroySpace { .. }
            | Call::ClearSpace { .. }
            | Call::GrowSpace { .. }
            | Call::AddBlock { .. }
            | Call::RemoveBlock { .. }
            | Call::VirtualMove { .. }
            | Call::SetVirtualData { .. }
            | Call::MergeSpace { .. }
            | Call::DefragmentSpace { .. } => self.space(index, event),
            Call::Resize { .. } => self.tally.skip(NOT_POSSIBLE),
            Call::RequestFree { allocation } => {
                self.world.allocations.with(*allocation, |it| it.is_retired = true);
                self.record(event, event.call.clone());
            }
            // A failed call has changed nothing.
            Call::Failed { .. } | Call::Mark { .. } | Call::Group { .. } => {
                self.record(event, event.call.clone());
            }
        }
    }

    /// Calls a function and counts it with the time that it takes.
    #[inline]
    pub fn timed<R>(
        &mut self,
        kind: Kind,
        call: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        let start = Instant::now();
        let made = call();
        self.tally.call(kind, start.elapsed(), made.is_err());
        made
    }

    /// Returns the allocator of an event.
    #[inline]
    pub fn instance(&mut self, event: &Event<'_>) -> Option<&'w Instance> {
        let found = self.world.instance(event.allocator);
        if found.is_none() {
            self.tally.skip(NO_ALLOCATOR);
        }
        found
    }

    /// Ends a call that may have asked the driver for memory: notes what was lost for it, and compares what the driver
    /// was asked for.
    pub fn after(&mut self, index: usize, event: &Event<'_>, instance: &Instance) {
        if self.world.is_exact {
            self.end_room(index, event, instance);
        }
        if self.world.numbers.is_some() {
            self.note_losses(index, event, instance);
        }
        if self.world.is_exact {
            let (left, unexpected) = instance.driver.end_of_call();
            if left + unexpected > 0 {
                let recorded = format!("{left} more calls of vkAllocateMemory");
                self.tally.placements.differ(index, recorded, format!("{unexpected} others"));
            }
        }
        self.record_driver(event, instance);
    }

    /// Records what the driver was asked for.
    #[inline]
    pub fn record_driver(&mut self, event: &Event<'_>, instance: &Instance) {
        if let Some(recording) = &mut self.recording {
            recording.push_driver(event, instance.driver.take_events());
        }
    }

    /// Records a call of the replay.
    #[inline]
    pub fn record(&mut self, event: &Event<'_>, call: Call<'_>) {
        if let Some(recording) = &mut self.recording {
            recording.push(event, call);
        }
    }

    /// Returns where an allocation is, for a recording of the replay.
    pub fn placed(&self, it: &Allocation) -> Option<Placed> {
        self.recording.as_ref().map(|recording| recording.placed(it))
    }

    /// Compares a place with the recorded one. A memory object is the recorded one if no other was taken for it.
    pub fn check(&mut self, index: usize, it: &Allocation, recorded: Option<&Placed>) {
        let Some(recorded) = recorded.filter(|_| self.world.is_exact) else { return };
        let Some(memory_type) = recorded.memory_type else { return };
        self.tally.placements.checked += 1;
        let handle = (self.world.trace.columns().allocators()[index], it.memory.0);
        let is_same = recorded.memory.is_none_or(|number| {
            let known = *self.memories.0.entry(number).or_insert(handle);
            known == handle && *self.memories.1.entry(handle).or_insert(number) == number
        });
        if is_same
            && memory_type == it.memory_type_index
            && recorded.offset == it.offset
            && recorded.is_dedicated == it.is_dedicated()
        {
            return;
        }
        let place = |memory_type: u32, memory: Option<u32>, offset: u64, is_dedicated: bool| {
            let own = if is_dedicated { ", memory of its own" } else { "" };
            let memory = memory.map_or("another one".into(), |it| it.to_string());
            format!("memory type {memory_type}, memory object {memory}, offset {offset}{own}")
        };
        let number = self.memories.1.get(&handle).copied();
        self.tally.placements.differ(
            index,
            place(memory_type, recorded.memory, recorded.offset, recorded.is_dedicated),
            place(it.memory_type_index, number, it.offset, it.is_dedicated()),
        );
    }

    /// Forgets a memory object that the recorded program gave back.
    pub fn forget_memory(&mut self, number: u32) {
        if let Some(handle) = self.memories.0.remove(&number) {
            self.memories.1.remove(&handle);
        }
    }

    /// Notes that an allocation was lost in the recording, or now; the other is expected to happen, too.
    pub fn note_loss(&mut self, index: usize, number: u32, now: bool) {
        match self.open_losses.get(&number) {
            Some((other, _)) if *other != now => _ = self.open_losses.remove(&number),
            _ => _ = self.open_losses.insert(number, (now, index)),
        }
    }

    /// Counts losses that happened only in the recording or only now.
    pub fn end(&mut self) {
        for (number, (now, index)) in std::mem::take(&mut self.open_losses) {
            if self.world.is_exact {
                let what = |is: bool| {
                    format!("allocation {number} was {}", if is { "lost" } else { "not lost" })
                };
                self.tally.placements.differ(index, what(!now), what(now));
            }
        }
    }

    /// Notes the id of an allocation, where ids may change.
    pub fn note_id(&self, number: u32, live: &Live) {
        if let Some(numbers) = &self.world.numbers {
            numbers.lock().insert((live.allocator, live.allocation.id), number);
        }
    }

    /// Forgets that an allocation is live.
    pub fn forget_place(&mut self, live: &Live) {
        if let (true, Some(places)) = (live.is_memory(), &mut self.places)
            && let Some(moved) = places.remove(live.place)
        {
            self.world.allocations.with(moved, |it| it.place = live.place);
        }
    }

    /// Forgets the id of an allocation.
    pub fn forget_id(&self, live: &Live) {
        // An alias has the id of what it lies in.
        if let (true, Some(numbers)) = (live.is_memory(), &self.world.numbers) {
            numbers.lock().remove(&(live.allocator, live.allocation.id));
        }
    }
}
