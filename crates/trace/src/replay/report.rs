//! [`ReplayReport`]: what came of a replay.

use std::collections::BTreeMap;

use super::gauges::Peak;
use super::samples::Sample;
use super::tally::{ClassFigures, Failures, FunctionCalls, Leftovers, Placements};

/// Memory that the recorded program held, where the trace says it: that of PyTorch in its snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedFigures {
    /// The most bytes that were held.
    pub peak_held: Peak,
    /// The most bytes that were live.
    pub peak_live: Peak,
    /// Bytes held at that moment.
    pub held_at_peak_live: u64,
    /// Bytes held at the end.
    pub held: u64,
    /// Bytes live at the end.
    pub live: u64,
}

/// A heap of the device of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapFigures {
    /// Size in bytes.
    pub size: u64,
    /// Bytes held at the end.
    pub held: u64,
    /// The most bytes that were held.
    pub peak_held: u64,
}

/// A function of the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverFunction {
    /// Name.
    pub name: &'static str,
    /// Number of calls.
    pub count: u64,
    /// Number of them that failed.
    pub failed: u64,
}

/// What came of a replay. Sizes are in bytes, times in ns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayReport {
    /// Name of the settings.
    pub name: String,
    /// Name of the device.
    pub device: String,
    /// Number of events that were played or passed over.
    pub events: usize,
    /// Why events were passed over, and how many.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Whether the trace tells of what existed before its first call: that was made anew, elsewhere.
    pub begins_in_the_middle: bool,
    /// Calls by kind.
    pub functions: Vec<(&'static str, FunctionCalls)>,
    /// Time that the replay took.
    pub wall_time: u64,
    /// Time from the first to the last event of the recording.
    pub recorded_time: u64,
    /// Number of recorded threads.
    pub threads: usize,
    /// Share of the events that the busiest of them has.
    pub busiest_thread: f64,
    /// Number of frames.
    pub frames: u64,
    /// The most bytes that were held.
    pub peak_held: Peak,
    /// The most bytes that were live.
    pub peak_live: Peak,
    /// Bytes held when the most were live.
    pub held_at_peak_live: u64,
    /// Bytes held at the end.
    pub held: u64,
    /// Bytes live at the end.
    pub live: u64,
    /// Heaps of the device.
    pub heaps: Vec<HeapFigures>,
    /// Memory objects that were allocated, by memory type.
    pub memory_types: Vec<ClassFigures>,
    /// Figures over time; the last sample is that at the end.
    pub samples: Vec<Sample>,
    /// Calls of the driver.
    pub driver: Vec<DriverFunction>,
    /// Allocations that succeeded in the recording and failed now.
    pub failed_now: Failures,
    /// Allocations that failed in the recording and succeeded now.
    pub succeeded_now: Failures,
    /// Number of allocations that failed in both.
    pub failed_again: u64,
    /// What was never freed.
    pub leftovers: Leftovers,
    /// Resources by VmaReplay's classes.
    pub classes: BTreeMap<&'static str, ClassFigures>,
    /// Moves of defragmentations.
    pub moves: ClassFigures,
    /// Allocations that were lost.
    pub losses: ClassFigures,
    /// Number of allocations that the recorded program lost.
    pub recorded_losses: u64,
    /// Properties in which the device differs from the recorded one.
    pub device_differences: Vec<String>,
    /// Places compared with the recorded ones.
    pub placements: Placements,
    /// Memory that the recorded program held, if the trace says it.
    pub recorded: Option<RecordedFigures>,
}

/// Returns held / live; 1 if nothing is live.
fn ratio(held: u64, live: u64) -> f64 {
    if live == 0 { 1.0 } else { held as f64 / live as f64 }
}

impl ReplayReport {
    /// Returns held / live at the moment when the most was live.
    pub fn held_per_live(&self) -> f64 {
        ratio(self.held_at_peak_live, self.peak_live.bytes)
    }

    /// Returns the number of calls of the driver.
    pub fn driver_calls(&self) -> u64 {
        self.driver.iter().map(|it| it.count).sum()
    }

    /// Returns the number of calls that were played.
    pub fn calls(&self) -> u64 {
        self.functions.iter().map(|(_, it)| it.count).sum()
    }

    /// Returns the mean fragmentation of all samples.
    pub fn mean_fragmentation(&self) -> f64 {
        let sum: f64 = self.samples.iter().map(|it| it.fragmentation).sum();
        if self.samples.is_empty() { 0.0 } else { sum / self.samples.len() as f64 }
    }
}

impl RecordedFigures {
    /// Returns held / live at the moment when the most was live.
    pub fn held_per_live(&self) -> f64 {
        ratio(self.held_at_peak_live, self.peak_live.bytes)
    }
}
