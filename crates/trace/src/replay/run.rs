//! [`replay`]: plays a trace, and what is left of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use vkmem_engine::{Allocation, Allocator, Error, SlotKey, check_info};

use super::describe::{Described, data_text};
use super::driver::FUNCTIONS;
use super::gauges::Peak;
use super::mapping::differences;
use super::objects::Space;
use super::recording::Recording;
use super::report::{DriverFunction, HeapFigures, RecordedFigures, ReplayReport};
use super::runs::{ALL, MOVABLE};
use super::samples::{Sample, Samples};
use super::schedule::{play_in_order, play_on_threads};
use super::settings::{ReplayDevice, ReplaySettings, ReplayThreads};
use super::tally::ClassFigures;
use super::worker::Worker;
use super::world::World;
use crate::description::Description;
use crate::error::Format;
use crate::event::{Call, Data, Kind};
use crate::format::VERSION;
use crate::trace::Trace;
use crate::usage::Usage;

/// The most bytes of all heaps of a device: an exbibyte.
const LARGEST_DEVICE: u64 = 1 << 60;

/// Settings with which no trace can be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError(String);

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReplayError {}

/// A replay that has ended: its report, and the allocators as they are then.
pub struct Replayed {
    report: ReplayReport,
    world: World,
    trace: Option<Trace>,
}

impl Replayed {
    /// Returns the report.
    pub fn report(&self) -> &ReplayReport {
        &self.report
    }

    /// Returns the report alone.
    pub fn into_report(self) -> ReplayReport {
        self.report
    }

    /// Returns the numbers of the allocators that were created.
    pub fn allocators(&self) -> Vec<u16> {
        self.world.instances().map(|(number, _)| number).collect()
    }

    /// Returns an allocator by its number.
    pub fn allocator(&self, number: u16) -> Option<&Allocator> {
        self.world.instances().find(|it| it.0 == number).map(|(_, it)| &it.allocator)
    }

    /// Returns a live allocation by its recorded number.
    pub fn allocation(&self, number: u32) -> Option<Allocation> {
        self.world.allocations.with(number, |it| it.allocation)
    }

    /// Returns a JSON dump of an allocator (`vmaBuildStatsString`), with names, custom data and call sites as recorded;
    /// `None` if there is no such allocator. O(regions).
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn dump(&self, number: u16, detailed: bool) -> Option<Result<String, Error>> {
        let described = Described::new(&self.world, number);
        Some(self.allocator(number)?.build_stats_string(detailed, &described))
    }

    /// Returns the recorded numbers of the virtual blocks that are there, without sets.
    pub fn virtual_blocks(&self) -> Vec<u32> {
        let mut all = self.world.created_spaces();
        all.retain(|number| {
            self.world.spaces.with(*number, |it| matches!(it, Space::Block(_))) == Some(true)
        });
        all
    }

    /// Returns a JSON dump of a virtual block (`vmaBuildVirtualBlockStatsString`), with custom data as recorded; `None`
    /// if there is no such block. O(ranges).
    ///
    /// # Errors
    /// [`Error::NoHostMemory`]
    pub fn dump_virtual_block(&self, number: u32, detailed: bool) -> Option<Result<String, Error>> {
        let mut texts: HashMap<SlotKey, String> = HashMap::new();
        for live in self.world.live_virtuals().into_iter().filter(|it| it.space == number) {
            let Some(event) = live.data else { continue };
            if let Call::SetVirtualData { data, .. } = &self.world.trace.event(event as usize).call
                && *data != Data::None
            {
                texts.insert(live.key, data_text(data));
            }
        }
        let text_of = |key: SlotKey| texts.get(&key).map(String::as_str);
        let made = self.world.spaces.with(number, |space| match space {
            Space::Block(block) => Some(block.build_stats_string(detailed, &text_of)),
            Space::Set(..) => None,
        });
        made.flatten()
    }

    /// Returns the replay as a trace, if it was recorded.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Returns the replay as a trace alone, if it was recorded.
    pub fn into_trace(self) -> Option<Trace> {
        self.trace
    }
}

/// Plays a trace. What cannot be played is counted in the report, and no error.
///
/// # Errors
/// [`ReplayError`] for settings that contradict each other, or a device that none can be.
pub fn replay(trace: &Arc<Trace>, settings: &ReplaySettings) -> Result<Replayed, ReplayError> {
    check(settings)?;
    let given = match &settings.device {
        ReplayDevice::Simulated(info) => Some(info),
        _ => None,
    };
    for info in given.into_iter().chain(&trace.description().device) {
        check_info(info).map_err(|error| ReplayError(error.to_string()))?;
        let sizes = info.heaps.iter().map(|heap| heap.size);
        if sizes.fold(0_u64, u64::saturating_add) > LARGEST_DEVICE {
            return Err(ReplayError("the heaps of the device are larger than any memory".into()));
        }
    }
    let world = World::new(trace.clone(), settings.clone());
    world.check_options().map_err(|error| ReplayError(error.to_string()))?;
    let recording = settings.records.then(|| Recording::new(trace, description(&world)));
    let end = settings.until.unwrap_or(usize::MAX).min(trace.len());
    let mut samples = Samples::new(settings.samples, end);
    let mut worker = Worker::new(&world, recording);
    let start = Instant::now();
    let played = match settings.threads {
        ReplayThreads::One => play_in_order(&world, &mut worker, &mut samples, end),
        ReplayThreads::AsRecorded => play_on_threads(&world, &mut worker, &mut samples, end),
    };
    let wall_time = start.elapsed().as_nanos() as u64;
    worker.end();
    let open: Vec<u16> = world.instances().map(|(number, _)| number).collect();
    open.into_iter().for_each(|number| worker.leftovers(number));
    world.spaces.each(|_| worker.tally.leftovers.spaces += 1);
    worker.tally.leftovers.virtual_allocations += world.live_virtuals().len() as u64;
    samples.taken.push(Sample::take(&world, worker.places.as_ref(), played));
    let recorded_trace = worker.recording.take().and_then(Recording::finish);
    let tally = worker.tally;
    let mut report = ReplayReport {
        name: settings.name.clone(),
        device: world.info.name.clone(),
        events: played,
        functions: tally.calls(),
        skipped: tally.skipped,
        wall_time,
        frames: tally.frames,
        peak_held: world.gauges.peak_of_held(),
        peak_live: world.gauges.peak_of_live(),
        held_at_peak_live: world.gauges.held_at_peak_of_live(),
        held: world.gauges.held(),
        live: world.gauges.live(),
        samples: samples.taken,
        failed_now: tally.failed_now,
        succeeded_now: tally.succeeded_now,
        failed_again: tally.failed_again,
        leftovers: tally.leftovers,
        classes: tally.classes,
        moves: tally.moves,
        losses: tally.losses,
        recorded_losses: tally.recorded_losses,
        placements: tally.placements,
        ..ReplayReport::default()
    };
    report.add_recorded(trace, played);
    report.add_devices(&world);
    Ok(Replayed { report, world, trace: recorded_trace })
}

fn check(settings: &ReplaySettings) -> Result<(), ReplayError> {
    let wrong = |what: &str| Err(ReplayError(what.into()));
    if settings.records && settings.threads != ReplayThreads::One {
        return wrong("a replay is recorded on one thread only");
    }
    let alignment = settings.min_alignment;
    if alignment != 0 && !alignment.is_power_of_two() {
        return Err(ReplayError(format!("min_alignment is {alignment}, not a power of two")));
    }
    if settings.block_size == Some(0) || settings.small_heap_block_size == Some(0) {
        return wrong("the size of blocks is 0");
    }
    let share = settings.retention.and_then(|it| it.share);
    if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return wrong("the share of retained blocks is not from 0 to 1");
    }
    Ok(())
}

/// Describes the recording of a replay.
fn description(world: &World) -> Description {
    let of_trace = world.trace.description();
    let options = world.instance(0).map(|it| it.options.clone());
    let mut settings = of_trace.settings.clone();
    if !world.is_exact && of_trace.setting(MOVABLE).is_none() {
        settings.push((MOVABLE.into(), ALL.into()));
    }
    Description {
        format: Format::VkMem,
        version: VERSION,
        device: Some(world.info.clone()),
        options,
        settings,
        ..of_trace.clone()
    }
}

impl ReplayReport {
    /// Fills what follows from the trace alone.
    fn add_recorded(&mut self, trace: &Trace, played: usize) {
        let columns = trace.columns();
        let times = &columns.times()[..played];
        self.recorded_time = match (times.first(), times.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first),
            _ => 0,
        };
        let mut threads: HashMap<u32, usize> = HashMap::new();
        for thread in &columns.threads()[..played] {
            *threads.entry(*thread).or_default() += 1;
        }
        self.threads = threads.len();
        let busiest = threads.values().max().copied().unwrap_or(0);
        self.busiest_thread = if played == 0 { 0.0 } else { busiest as f64 / played as f64 };
        self.begins_in_the_middle = columns.flags().iter().any(|it| it & 1 != 0);
        if columns.kinds()[..played].contains(&(Kind::AllocateMemory as u8)) {
            self.recorded = Some(recorded_figures(trace, played));
        }
    }

    /// Fills what the devices of a replay say.
    fn add_devices(&mut self, world: &World) {
        if let Some(device) = &world.trace.description().device
            && !matches!(world.settings.device, ReplayDevice::AsRecorded)
        {
            self.device_differences = differences(device, &world.info);
        }
        let sizes = world.info.heaps.iter().map(|heap| heap.size);
        self.heaps = sizes.map(|size| HeapFigures { size, ..HeapFigures::default() }).collect();
        self.memory_types = vec![ClassFigures::default(); world.info.types.len()];
        let named = FUNCTIONS.into_iter();
        self.driver = named.map(|name| DriverFunction { name, count: 0, failed: 0 }).collect();
        for (_, instance) in world.instances() {
            let calls = instance.driver.calls();
            for (index, it) in self.driver.iter_mut().enumerate() {
                it.count += calls.counts[index];
                it.failed += calls.failed[index];
            }
            for (heap, (held, peak)) in self.heaps.iter_mut().zip(calls.by_heap) {
                heap.held += held;
                heap.peak_held += peak;
            }
            for (figures, (count, bytes)) in self.memory_types.iter_mut().zip(calls.by_type) {
                figures.count += count;
                figures.bytes = figures.bytes.saturating_add(bytes);
            }
        }
    }
}

/// Returns what the recorded program held.
fn recorded_figures(trace: &Trace, end: usize) -> RecordedFigures {
    let (mut usage, mut figures) = (Usage::new(trace), RecordedFigures::default());
    for (event, it) in trace.events().take(end).enumerate() {
        if !matches!(
            it.call,
            Call::Allocate { .. }
                | Call::Free { .. }
                | Call::AllocateMemory { .. }
                | Call::FreeMemory { .. }
        ) {
            usage.apply(&it);
            continue;
        }
        usage.apply(&it);
        let now = usage.total();
        if now.block_bytes > figures.peak_held.bytes {
            figures.peak_held = Peak { bytes: now.block_bytes, event };
        }
        if now.allocation_bytes > figures.peak_live.bytes {
            figures.peak_live = Peak { bytes: now.allocation_bytes, event };
            figures.held_at_peak_live = now.block_bytes;
        }
    }
    (figures.held, figures.live) = (usage.total().block_bytes, usage.total().allocation_bytes);
    figures
}
