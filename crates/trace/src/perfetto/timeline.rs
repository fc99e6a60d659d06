//! [`Timeline`]: the events of a trace as counters, slices, instants and flows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::counters::Counters;
use super::lanes::Lanes;
use super::output::{Flow, Mark, MemoryOperation, Output, TrackId, TrackKind, Value};
use super::tracks::{PROCESS, Tracks};
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::event::{Call, Event, MoveResult};
use crate::usage::Usage;
use crate::values::Resource;

/// What a timeline shows beside heaps, pools, blocks and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineOptions {
    /// Allocations of at least this many bytes as slices; `None`: none.
    pub allocations: Option<u64>,
    /// Whether each buffer and image has a `VulkanMemoryEvent` where it is bound, not only memory objects.
    pub resources: bool,
}

/// Turns events into an output.
pub(super) struct Timeline<O> {
    options: TimelineOptions,
    tracks: Tracks<O>,
    usage: Usage,
    counters: Counters,
    next_flow: u64,
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

impl<O: Output> Timeline<O> {
    /// Declares the tracks. `pool_names` are those that are known before events tell them.
    pub fn begin(
        description: &Description,
        options: TimelineOptions,
        usage: Usage,
        pool_names: BTreeMap<u32, String>,
        mut output: O,
    ) -> io::Result<Self> {
        output.begin(description)?;
        let name = description.program.as_deref().unwrap_or("GPU memory");
        let mut tracks = Tracks::begin(output, name)?;
        let counters = Counters::declare(description, pool_names, &mut tracks)?;
        let mut declare = |name, kind| tracks.declare(PROCESS, name, kind);
        Ok(Self {
            options,
            usage,
            counters,
            next_flow: 0,
            frames: declare("frames", TrackKind::Slices)?,
            frame_is_open: false,
            failures: declare("failures", TrackKind::Slices)?,
            evictions: declare("evictions", TrackKind::Slices)?,
            marks: declare("marks", TrackKind::Slices)?,
            blocks: Lanes::default(),
            blocks_group: declare("memory objects", TrackKind::Group)?,
            runs: Lanes::default(),
            passes: BTreeSet::new(),
            allocations: Lanes::default(),
            allocations_group: match options.allocations {
                Some(_) => declare("allocations", TrackKind::Group)?,
                None => PROCESS,
            },
            images: BTreeSet::new(),
            time: 0,
            tracks,
        })
    }

    /// Returns the output.
    pub fn output_mut(&mut self) -> &mut O {
        &mut self.tracks.output
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event<'_>, dictionary: &Dictionary) -> io::Result<()> {
        self.time = event.time.max(self.time);
        self.counters.before(event, self.time, &self.usage, &mut self.tracks)?;
        let before = match event.call {
            Call::EndMove { allocation, .. } | Call::Free { allocation } => {
                self.usage.allocation(allocation)
            }
            _ => None,
        };
        self.mark(event, before, dictionary)?;
        self.usage.apply(event);
        if let Call::EndMove { allocation, result: MoveResult::Moved, .. } = event.call {
            self.moved(event, allocation, before, dictionary)?;
        }
        self.counters.show(event, self.time, &self.usage, &mut self.tracks)
    }

    /// Writes the slices, instants and operations of an event.
    fn mark(
        &mut self,
        event: &Event<'_>,
        before: Option<(u64, Option<u32>, Option<u32>)>,
        dictionary: &Dictionary,
    ) -> io::Result<()> {
        let time = self.time;
        match &event.call {
            Call::BeginFrame {} => {
                if std::mem::replace(&mut self.frame_is_open, true) {
                    self.tracks.output.end_slice(self.frames, time)?;
                }
                let name = format!("frame {}", event.frame);
                let mark = Mark { name: &name, ..Mark::default() };
                self.tracks.output.slice(self.frames, time, dictionary, &mark)
            }
            Call::AllocateMemory { memory: Some(memory), memory_type, size, .. } => {
                self.begin_block(event, *memory, *memory_type, *size, dictionary)
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
                self.tracks.output.instant(self.failures, time, dictionary, &mark)
            }
            Call::FreeMemory { memory } => self.end_block(*memory),
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
                    self.begin_allocation(*allocation, &mark, dictionary)?;
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
                self.tracks.output.instant(self.failures, time, dictionary, &mark)
            }
            Call::Failed { function, failure, .. } => {
                let reason = format!("{:?}", failure.reason);
                let values = [
                    ("reason", Value::Text(&reason)),
                    ("message", Value::Text(failure.message.unwrap_or(""))),
                ];
                let name = format!("{function} failed");
                let mark = Mark { name: &name, values: &values, site: event.site, flow: None };
                self.tracks.output.instant(self.failures, time, dictionary, &mark)
            }
            Call::Lose { allocations } => {
                for number in allocations.iter() {
                    let size = self.usage.allocation(number).map_or(0, |it| it.0);
                    let values = [
                        ("allocation", Value::Number(number.into())),
                        ("size", Value::Number(size)),
                    ];
                    let mark = Mark { name: "lost", values: &values, site: event.site, flow: None };
                    self.tracks.output.instant(self.evictions, time, dictionary, &mark)?;
                    self.end_allocation(number)?;
                }
                Ok(())
            }
            Call::Budget { heap, budget, .. } => {
                self.counters.budget(*heap, time, *budget, &mut self.tracks)
            }
            Call::Mark { text } => {
                let mark = Mark { name: text, site: event.site, ..Mark::default() };
                self.tracks.output.instant(self.marks, time, dictionary, &mark)
            }
            _ => self.defragmentation(event, dictionary),
        }
    }

    fn begin_block(
        &mut self,
        event: &Event<'_>,
        number: u32,
        memory_type: Option<u32>,
        size: u64,
        dictionary: &Dictionary,
    ) -> io::Result<()> {
        if self.blocks.of(number).is_some() {
            return Ok(());
        }
        let (tracks, group) = (&mut self.tracks, self.blocks_group);
        let declare = |lane| tracks.declare(group, &format!("block {lane}"), TrackKind::Slices);
        let track = self.blocks.take(number, declare)?;
        let of_type = memory_type.map_or(String::new(), |it| format!(" of memory type {it}"));
        let name = format!("memory object {number}{of_type}");
        let values = [("size", Value::Number(size))];
        let mark = Mark { name: &name, values: &values, site: event.site, flow: None };
        self.tracks.output.slice(track, self.time, dictionary, &mark)?;
        self.device_memory(number, memory_type, size, true)
    }

    fn end_block(&mut self, number: u32) -> io::Result<()> {
        let Some(track) = self.blocks.give_back(number) else { return Ok(()) };
        self.tracks.output.end_slice(track, self.time)?;
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
        self.tracks.output.memory(self.time, &operation)
    }

    fn heap_of(&self, memory_type: u32) -> u32 {
        self.usage.heap_of(memory_type as usize).map_or(0, |it| it as u32)
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
        self.tracks.output.memory(self.time, &operation)
    }

    fn begin_allocation(
        &mut self,
        number: u32,
        mark: &Mark<'_>,
        dictionary: &Dictionary,
    ) -> io::Result<()> {
        if self.allocations.of(number).is_some() {
            return Ok(());
        }
        let (tracks, group) = (&mut self.tracks, self.allocations_group);
        let declare =
            |lane| tracks.declare(group, &format!("allocations {lane}"), TrackKind::Slices);
        let track = self.allocations.take(number, declare)?;
        self.tracks.output.slice(track, self.time, dictionary, mark)
    }

    fn end_allocation(&mut self, number: u32) -> io::Result<()> {
        match self.allocations.give_back(number) {
            Some(track) => self.tracks.output.end_slice(track, self.time),
            None => Ok(()),
        }
    }

    fn defragmentation(&mut self, event: &Event<'_>, dictionary: &Dictionary) -> io::Result<()> {
        let time = self.time;
        match event.call {
            Call::BeginDefragmentation { run, .. } if self.runs.of(run).is_none() => {
                let tracks = &mut self.tracks;
                let track = self.runs.take(run, |lane| {
                    let name = format!("defragmentation {lane}");
                    tracks.declare(PROCESS, &name, TrackKind::Slices)
                })?;
                let name = format!("run {run}");
                let mark = Mark { name: &name, site: event.site, ..Mark::default() };
                self.tracks.output.slice(track, time, dictionary, &mark)
            }
            Call::BeginPass { run, moves } => {
                let Some(track) = self.runs.of(run) else { return Ok(()) };
                self.end_pass(run)?;
                self.passes.insert(run);
                let values = [("moves", Value::Number(moves.into()))];
                let mark = Mark { name: "pass", values: &values, ..Mark::default() };
                self.tracks.output.slice(track, time, dictionary, &mark)
            }
            Call::EndPass { run, .. } => self.end_pass(run),
            Call::EndDefragmentation { run, .. } => {
                self.end_pass(run)?;
                match self.runs.give_back(run) {
                    Some(track) => self.tracks.output.end_slice(track, time),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn end_pass(&mut self, run: u32) -> io::Result<()> {
        match self.runs.of(run).filter(|_| self.passes.remove(&run)) {
            Some(track) => self.tracks.output.end_slice(track, self.time),
            None => Ok(()),
        }
    }

    /// Draws an arrow from the memory object where an allocation was to that where it is.
    fn moved(
        &mut self,
        event: &Event<'_>,
        number: u32,
        before: Option<(u64, Option<u32>, Option<u32>)>,
        dictionary: &Dictionary,
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
            self.tracks.output.instant(track, self.time, dictionary, &mark)?;
        }
        Ok(())
    }

    /// Ends all slices, and returns the output.
    pub fn finish(mut self) -> io::Result<O> {
        let time = self.time;
        self.counters.finish(time, &self.usage, &mut self.tracks)?;
        for run in std::mem::take(&mut self.passes) {
            if let Some(track) = self.runs.of(run) {
                self.tracks.output.end_slice(track, time)?;
            }
        }
        let mut open = self.runs.take_all();
        open.extend(self.allocations.take_all());
        open.extend(self.blocks.take_all());
        open.extend(self.frame_is_open.then_some(self.frames));
        open.into_iter().try_for_each(|track| self.tracks.output.end_slice(track, time))?;
        self.tracks.output.finish()?;
        Ok(self.tracks.output)
    }
}
