//! [`Timeline`]: the events of a trace as counters, slices, instants and flows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::lanes::Lanes;
use super::output::{Flow, Mark, MemoryOperation, Output, TrackId, TrackKind, Value};
use crate::event::{Call, Event, Kind, MoveResult, NO_TYPE, Object};
use crate::trace::Trace;
use crate::usage::{Held, Usage};
use crate::values::Resource;

/// What a timeline shows beside heaps, pools, blocks and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineOptions {
    /// Allocations of at least this many bytes as slices; `None`: none.
    pub allocations: Option<u64>,
    /// Whether each buffer and image has a `VulkanMemoryEvent` where it is bound, not only memory objects.
    pub resources: bool,
}

/// The tracks of what is held and live of one heap, memory type or pool, and the values that they show.
#[derive(Clone, Copy, Debug)]
struct Pair {
    held: TrackId,
    live: TrackId,
    shown: (u64, u64),
}

/// Turns events into an output.
pub(super) struct Timeline<'t, O> {
    trace: &'t Trace,
    options: TimelineOptions,
    output: O,
    usage: Usage<'t>,
    next_track: u64,
    next_flow: u64,
    total: Option<Pair>,
    heaps: Vec<Pair>,
    /// Of memory types that share a heap with others in use; the others are as their heap.
    types: Vec<(usize, Pair)>,
    pools: BTreeMap<u32, Pair>,
    pool_names: BTreeMap<u32, &'t str>,
    budgets: Vec<(TrackId, Option<u64>)>,
    frames: TrackId,
    frame_is_open: bool,
    failures: TrackId,
    evictions: TrackId,
    marks: TrackId,
    blocks: Lanes,
    blocks_group: TrackId,
    runs: Lanes,
    passes: BTreeSet<u32>,
    allocations: Lanes,
    allocations_group: TrackId,
    /// Live allocations that are images, where resources are shown.
    images: BTreeSet<u32>,
    time: u64,
}

const PROCESS: TrackId = TrackId(1);

impl<'t, O: Output> Timeline<'t, O> {
    /// Declares the tracks.
    pub fn begin(trace: &'t Trace, options: TimelineOptions, mut output: O) -> io::Result<Self> {
        output.begin(trace)?;
        let name = trace.description().program.as_deref().unwrap_or("GPU memory");
        output.track(PROCESS, None, name, TrackKind::Group)?;
        let mut made = Self {
            trace,
            options,
            output,
            usage: Usage::new(trace),
            next_track: 1,
            next_flow: 0,
            total: None,
            heaps: Vec::new(),
            types: Vec::new(),
            pools: BTreeMap::new(),
            pool_names: pool_names(trace),
            budgets: Vec::new(),
            frames: PROCESS,
            frame_is_open: false,
            failures: PROCESS,
            evictions: PROCESS,
            marks: PROCESS,
            blocks: Lanes::default(),
            blocks_group: PROCESS,
            runs: Lanes::default(),
            passes: BTreeSet::new(),
            allocations: Lanes::default(),
            allocations_group: PROCESS,
            images: BTreeSet::new(),
            time: 0,
        };
        made.declare()?;
        Ok(made)
    }

    fn declare(&mut self) -> io::Result<()> {
        let trace = self.trace;
        let has = |kind: Kind| trace.columns().kinds().contains(&(kind as u8));
        let types = types_in_use(trace);
        match &trace.description().device {
            None => self.total = Some(self.pair("memory", "memory")?),
            Some(device) => {
                for heap in 0..device.heaps.len() {
                    let scale = format!("heap {heap}");
                    let pair = self.pair(&scale, &scale)?;
                    self.heaps.push(pair);
                    if has(Kind::Budget) {
                        let kind = TrackKind::Bytes { scale: &scale };
                        let track = self.new_track(PROCESS, &format!("{scale} budget"), kind)?;
                        self.budgets.push((track, None));
                    }
                    let of_heap: Vec<usize> = types
                        .iter()
                        .copied()
                        .filter(|it| device.types[*it].heap_index as usize == heap)
                        .collect();
                    if of_heap.len() > 1 {
                        for of_type in of_heap {
                            let pair = self.pair(&format!("memory type {of_type}"), &scale)?;
                            self.types.push((of_type, pair));
                        }
                    }
                }
            }
        }
        self.frames = self.new_track(PROCESS, "frames", TrackKind::Slices)?;
        self.failures = self.new_track(PROCESS, "failures", TrackKind::Slices)?;
        self.evictions = self.new_track(PROCESS, "evictions", TrackKind::Slices)?;
        self.marks = self.new_track(PROCESS, "marks", TrackKind::Slices)?;
        self.blocks_group = self.new_track(PROCESS, "memory objects", TrackKind::Group)?;
        if self.options.allocations.is_some() {
            self.allocations_group = self.new_track(PROCESS, "allocations", TrackKind::Group)?;
        }
        Ok(())
    }

    fn new_track(
        &mut self,
        parent: TrackId,
        name: &str,
        kind: TrackKind<'_>,
    ) -> io::Result<TrackId> {
        self.next_track += 1;
        let id = TrackId(self.next_track);
        self.output.track(id, Some(parent), name, kind)?;
        Ok(id)
    }

    fn pair(&mut self, name: &str, scale: &str) -> io::Result<Pair> {
        let kind = TrackKind::Bytes { scale };
        let held = self.new_track(PROCESS, &format!("{name} held"), kind)?;
        let live = self.new_track(PROCESS, &format!("{name} live"), kind)?;
        // So that the first value is shown, whatever it is.
        Ok(Pair { held, live, shown: (u64::MAX, u64::MAX) })
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.time = event.time.max(self.time);
        let before = match event.call {
            Call::EndMove { allocation, .. } | Call::Free { allocation } => {
                self.usage.allocation(allocation)
            }
            _ => None,
        };
        self.mark(event, before)?;
        self.usage.apply(event);
        if let Call::EndMove { allocation, result: MoveResult::Moved, .. } = event.call {
            self.moved(event, allocation, before)?;
        }
        self.counters()
    }

    /// Writes the counters that have changed.
    #[inline]
    fn counters(&mut self) -> io::Result<()> {
        let time = self.time;
        if let Some(pair) = &mut self.total {
            show(&mut self.output, time, pair, self.usage.total())?;
        }
        for (pair, held) in self.heaps.iter_mut().zip(self.usage.heaps()) {
            show(&mut self.output, time, pair, *held)?;
        }
        for (index, pair) in &mut self.types {
            show(&mut self.output, time, pair, self.usage.types()[*index])?;
        }
        for number in self.usage.touched_pools() {
            if let Some(pair) = self.pools.get_mut(number) {
                let held = self.usage.pools().get(number).copied().unwrap_or_default();
                show(&mut self.output, time, pair, held)?;
            }
        }
        Ok(())
    }

    /// Writes the slices, instants and operations of an event.
    fn mark(
        &mut self,
        event: &Event<'_>,
        before: Option<(u64, Option<u32>, Option<u32>)>,
    ) -> io::Result<()> {
        let (time, trace) = (self.time, self.trace);
        match &event.call {
            Call::BeginFrame {} => {
                if std::mem::replace(&mut self.frame_is_open, true) {
                    self.output.end_slice(self.frames, time)?;
                }
                let name = format!("frame {}", event.frame);
                let mark = Mark { name: &name, ..Mark::default() };
                self.output.slice(self.frames, time, trace, &mark)
            }
            Call::AllocateMemory { memory: Some(memory), memory_type, size, .. } => {
                self.begin_block(event, *memory, *memory_type, *size)
            }
            Call::AllocateMemory { memory: None, memory_type, size, result, .. } => {
                let result = result.to_string();
                let values = [
                    ("size", Value::Number(*size)),
                    ("memory type", Value::Number(memory_type.unwrap_or(0).into())),
                    ("VkResult", Value::Text(&result)),
                ];
                let name = "vkAllocateMemory failed";
                let mark = Mark { name, values: &values, site: event.site, flow: None };
                self.output.instant(self.failures, time, trace, &mark)
            }
            Call::FreeMemory { memory } => self.end_block(*memory),
            Call::CreatePool { pool: Some(pool), .. } => {
                let named = self.pool_names.get(pool);
                let name =
                    named.map_or(format!("pool {pool}"), |name| format!("pool {pool}: {name}"));
                if !self.pools.contains_key(pool) {
                    let pair = self.pair(&name, &format!("pool {pool}"))?;
                    self.pools.insert(*pool, pair);
                }
                Ok(())
            }
            Call::Allocate { allocation, request, size, placed, buffer_size, name, .. } => {
                let size = size.or(*buffer_size).unwrap_or(0);
                if let (true, Some(placed)) = (self.options.resources, placed) {
                    if matches!(request.resource, Resource::Image(_)) {
                        self.images.insert(*allocation);
                    }
                    let (memory_type, memory) = (placed.memory_type, placed.memory);
                    self.resource(*allocation, true, (size, memory_type, memory), placed.offset)?;
                }
                if self.options.allocations.is_some_and(|least| size >= least) {
                    let name = match name {
                        Some(name) => (*name).to_string(),
                        None => format!("allocation {allocation}"),
                    };
                    let values = [
                        ("size", Value::Number(size)),
                        ("class", Value::Text(request.resource.class())),
                    ];
                    let mark = Mark { name: &name, values: &values, site: event.site, flow: None };
                    self.begin_allocation(*allocation, &mark)?;
                }
                Ok(())
            }
            Call::Free { allocation } => {
                if let (true, Some(before)) = (self.options.resources, before) {
                    self.resource(*allocation, false, before, 0)?;
                    self.images.remove(allocation);
                }
                self.end_allocation(*allocation)
            }
            Call::AllocateFailed { size, buffer_size, failure: Some(failure), .. } => {
                let reason = format!("{:?}", failure.reason);
                let values = [
                    ("size", Value::Number(size.or(*buffer_size).unwrap_or(0))),
                    ("reason", Value::Text(&reason)),
                    ("message", Value::Text(failure.message.unwrap_or(""))),
                ];
                let mark = Mark {
                    name: "allocation failed",
                    values: &values,
                    site: event.site,
                    flow: None,
                };
                self.output.instant(self.failures, time, trace, &mark)
            }
            Call::Failed { function, failure, .. } => {
                let reason = format!("{:?}", failure.reason);
                let values = [
                    ("reason", Value::Text(&reason)),
                    ("message", Value::Text(failure.message.unwrap_or(""))),
                ];
                let name = format!("{function} failed");
                let mark = Mark { name: &name, values: &values, site: event.site, flow: None };
                self.output.instant(self.failures, time, trace, &mark)
            }
            Call::Lose { allocations } => {
                for number in allocations.iter() {
                    let size = self.usage.allocation(number).map_or(0, |it| it.0);
                    let values = [
                        ("allocation", Value::Number(number.into())),
                        ("size", Value::Number(size)),
                    ];
                    let mark = Mark { name: "lost", values: &values, site: event.site, flow: None };
                    self.output.instant(self.evictions, time, trace, &mark)?;
                    self.end_allocation(number)?;
                }
                Ok(())
            }
            Call::Budget { heap, budget, .. } => match self.budgets.get_mut(*heap as usize) {
                Some((track, shown)) if *shown != Some(*budget) => {
                    *shown = Some(*budget);
                    self.output.counter(*track, time, *budget)
                }
                _ => Ok(()),
            },
            Call::Mark { text } => {
                let mark = Mark { name: text, site: event.site, ..Mark::default() };
                self.output.instant(self.marks, time, trace, &mark)
            }
            _ => self.defragmentation(event),
        }
    }

    fn begin_block(
        &mut self,
        event: &Event<'_>,
        number: u32,
        memory_type: Option<u32>,
        size: u64,
    ) -> io::Result<()> {
        if self.blocks.of(number).is_some() {
            return Ok(());
        }
        let (next, output, group) = (&mut self.next_track, &mut self.output, self.blocks_group);
        let track = self.blocks.take(number, |lane| {
            *next += 1;
            let id = TrackId(*next);
            output.track(id, Some(group), &format!("block {lane}"), TrackKind::Slices)?;
            io::Result::Ok(id)
        })?;
        let of_type = memory_type.map_or(String::new(), |it| format!(" of memory type {it}"));
        let name = format!("memory object {number}{of_type}");
        let values = [("size", Value::Number(size))];
        let mark = Mark { name: &name, values: &values, site: event.site, flow: None };
        self.output.slice(track, self.time, self.trace, &mark)?;
        self.device_memory(number, memory_type, size, true)
    }

    fn end_block(&mut self, number: u32) -> io::Result<()> {
        let Some(track) = self.blocks.give_back(number) else { return Ok(()) };
        self.output.end_slice(track, self.time)?;
        let Some((memory_type, size)) = self.usage.memory(number) else { return Ok(()) };
        self.device_memory(number, memory_type, size, false)
    }

    fn device_memory(
        &mut self,
        number: u32,
        memory_type: Option<u32>,
        size: u64,
        begins: bool,
    ) -> io::Result<()> {
        let Some(memory_type) = memory_type else { return Ok(()) };
        let operation = MemoryOperation {
            is_memory: true,
            is_image: false,
            begins,
            size,
            memory_type,
            heap: self.heap_of(memory_type),
            memory: u64::from(number) + 1,
            object: u64::from(number) + 1,
            offset: 0,
        };
        self.output.memory(self.time, self.trace, &operation)
    }

    fn heap_of(&self, memory_type: u32) -> u32 {
        let device = self.trace.description().device.as_ref();
        let of_type = device.and_then(|it| it.types.get(memory_type as usize));
        of_type.map_or(0, |it| it.heap_index)
    }

    /// Tells that a buffer or image is bound, or no longer. What of it is known is as in [`Usage::allocation`].
    fn resource(
        &mut self,
        number: u32,
        begins: bool,
        (size, memory_type, memory): (u64, Option<u32>, Option<u32>),
        offset: u64,
    ) -> io::Result<()> {
        let Some(memory_type) = memory_type else { return Ok(()) };
        let operation = MemoryOperation {
            is_memory: false,
            is_image: self.images.contains(&number),
            begins,
            size,
            memory_type,
            heap: self.heap_of(memory_type),
            memory: memory.map_or(0, |it| u64::from(it) + 1),
            object: u64::from(number) + 1,
            offset,
        };
        self.output.memory(self.time, self.trace, &operation)
    }

    fn begin_allocation(&mut self, number: u32, mark: &Mark<'_>) -> io::Result<()> {
        if self.allocations.of(number).is_some() {
            return Ok(());
        }
        let (next, output, group) =
            (&mut self.next_track, &mut self.output, self.allocations_group);
        let track = self.allocations.take(number, |lane| {
            *next += 1;
            let id = TrackId(*next);
            output.track(id, Some(group), &format!("allocations {lane}"), TrackKind::Slices)?;
            io::Result::Ok(id)
        })?;
        self.output.slice(track, self.time, self.trace, mark)
    }

    fn end_allocation(&mut self, number: u32) -> io::Result<()> {
        match self.allocations.give_back(number) {
            Some(track) => self.output.end_slice(track, self.time),
            None => Ok(()),
        }
    }

    fn defragmentation(&mut self, event: &Event<'_>) -> io::Result<()> {
        let (time, trace) = (self.time, self.trace);
        match event.call {
            Call::BeginDefragmentation { run, .. } if self.runs.of(run).is_none() => {
                let (next, output) = (&mut self.next_track, &mut self.output);
                let track = self.runs.take(run, |lane| {
                    *next += 1;
                    let id = TrackId(*next);
                    let name = format!("defragmentation {lane}");
                    output.track(id, Some(PROCESS), &name, TrackKind::Slices)?;
                    io::Result::Ok(id)
                })?;
                let name = format!("run {run}");
                let mark = Mark { name: &name, site: event.site, ..Mark::default() };
                self.output.slice(track, time, trace, &mark)
            }
            Call::BeginPass { run, moves } => {
                let Some(track) = self.runs.of(run) else { return Ok(()) };
                self.end_pass(run)?;
                self.passes.insert(run);
                let values = [("moves", Value::Number(moves.into()))];
                let mark = Mark { name: "pass", values: &values, ..Mark::default() };
                self.output.slice(track, time, trace, &mark)
            }
            Call::EndPass { run, .. } => self.end_pass(run),
            Call::EndDefragmentation { run, .. } => {
                self.end_pass(run)?;
                match self.runs.give_back(run) {
                    Some(track) => self.output.end_slice(track, time),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn end_pass(&mut self, run: u32) -> io::Result<()> {
        match self.runs.of(run).filter(|_| self.passes.remove(&run)) {
            Some(track) => self.output.end_slice(track, self.time),
            None => Ok(()),
        }
    }

    /// Draws an arrow from the memory object where an allocation was to that where it is.
    fn moved(
        &mut self,
        event: &Event<'_>,
        number: u32,
        before: Option<(u64, Option<u32>, Option<u32>)>,
    ) -> io::Result<()> {
        let track = |memory: Option<u32>| memory.and_then(|it| self.blocks.of(it));
        let (size, from) = before.map_or((0, None), |it| (it.0, it.2));
        let to = self.usage.allocation(number).and_then(|it| it.2);
        let (Some(from), Some(to)) = (track(from), track(to)) else { return Ok(()) };
        let flow = self.next_flow + 1;
        self.next_flow = flow;
        let values = [("allocation", Value::Number(number.into())), ("size", Value::Number(size))];
        for (name, track, flow) in
            [("move out", from, Flow::Starts(flow)), ("move in", to, Flow::Ends(flow))]
        {
            let mark = Mark { name, values: &values, site: event.site, flow: Some(flow) };
            self.output.instant(track, self.time, self.trace, &mark)?;
        }
        Ok(())
    }

    /// Ends all slices, and returns the output.
    pub fn finish(mut self) -> io::Result<O> {
        let time = self.time;
        for run in std::mem::take(&mut self.passes) {
            if let Some(track) = self.runs.of(run) {
                self.output.end_slice(track, time)?;
            }
        }
        let mut open = self.runs.take_all();
        open.extend(self.allocations.take_all());
        open.extend(self.blocks.take_all());
        open.extend(self.frame_is_open.then_some(self.frames));
        open.into_iter().try_for_each(|track| self.output.end_slice(track, time))?;
        self.output.finish()?;
        Ok(self.output)
    }
}

/// Writes what has changed of a pair of counters.
#[inline]
fn show<O: Output>(output: &mut O, time: u64, pair: &mut Pair, held: Held) -> io::Result<()> {
    let now = (held.block_bytes, held.allocation_bytes);
    if now.0 != pair.shown.0 {
        output.counter(pair.held, time, now.0)?;
    }
    if now.1 != pair.shown.1 {
        output.counter(pair.live, time, now.1)?;
    }
    pair.shown = now;
    Ok(())
}

/// Returns the memory types in which anything was allocated.
fn types_in_use(trace: &Trace) -> BTreeSet<usize> {
    let mut used = [false; 256];
    trace.columns().memory_types().iter().for_each(|it| used[usize::from(*it)] = true);
    used[usize::from(NO_TYPE)] = false;
    let count = trace.description().device.as_ref().map_or(0, |it| it.types.len());
    (0..count).filter(|it| used[*it]).collect()
}

/// Returns the last name of each pool.
fn pool_names(trace: &Trace) -> BTreeMap<u32, &str> {
    let kinds = trace.columns().kinds().iter().enumerate();
    let names = kinds.filter(|(_, kind)| **kind == Kind::Name as u8);
    let named = names.filter_map(|(index, _)| match trace.event(index).call {
        Call::Name { object: Object::Pool(pool), name: Some(name) } => Some((pool, name)),
        _ => None,
    });
    named.collect()
}
