//! [`ReplayedData`]: a replay that has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use vkmem_engine::Error;
use vkmem_trace::{ReplayReport, Replayed, Trace, compare, comparison_table, replay};

use super::background::{Ends, run};
use super::data::TraceData;
use super::settings::{Asked, clock, read};
use crate::errors::{out_of_host_memory, to_py, trace_error};
use crate::interpreter::{detach, without_gil};

/// The allocators of a replay.
enum Allocators {
    /// As they are at its end.
    Live(Box<Replayed>),
    /// As dumps, by their numbers: their memory, which was real, is given back.
    Dumps(Vec<(u16, [Result<String, Error>; 2])>),
    /// None: one of many replays that are compared.
    Gone,
}

/// A replay that has ended, for `vk_mem.trace.ReplayReport`.
#[pyclass(name = "_Replayed", module = "vk_mem", frozen)]
pub struct ReplayedData {
    report: ReplayReport,
    trace: Option<Arc<Trace>>,
    allocators: Allocators,
}

impl Drop for ReplayedData {
    fn drop(&mut self) {
        // What an allocator ends may take locks that others wait with for the interpreter.
        let allocators = std::mem::replace(&mut self.allocators, Allocators::Gone);
        without_gil(move || drop(allocators));
    }
}

/// Plays a trace.
fn play(
    py: Python<'_>,
    trace: &Arc<Trace>,
    asked: Asked,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<ReplayedData> {
    let trace = trace.clone();
    let made = run(py, Ends::Soon, progress, move |work| {
        let Asked { mut settings, speed, device } = asked;
        work.total.store(settings.until.unwrap_or(usize::MAX).min(trace.len()) as u64, Relaxed);
        settings.clock = Some(clock(work.clone(), speed));
        let made = replay(&trace, &settings).map(|replayed| ended(replayed, device.is_some()));
        // The device goes back to be released by a thread that has the interpreter; nothing is on it any more.
        drop(settings);
        (made, device)
    })?;
    made.0.map_err(|error| trace_error(py, &error.to_string(), None, None))
}

fn ended(replayed: Replayed, is_real: bool) -> ReplayedData {
    if !is_real {
        let report = replayed.report().clone();
        let trace = replayed.trace().map(|it| Arc::new(it.clone()));
        return ReplayedData { report, trace, allocators: Allocators::Live(Box::new(replayed)) };
    }
    let numbers = replayed.allocators().into_iter();
    let dumps = numbers.filter_map(|number| {
        Some((number, [replayed.dump(number, false)?, replayed.dump(number, true)?]))
    });
    let allocators = Allocators::Dumps(dumps.collect());
    let report = replayed.report().clone();
    let trace = replayed.into_trace().map(Arc::new);
    ReplayedData { report, trace, allocators }
}

/// Plays a trace with each of some settings, `threads` at a time.
fn play_all(
    py: Python<'_>,
    trace: &Arc<Trace>,
    asked: Vec<Asked>,
    threads: usize,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<ReplayedData>> {
    let trace = trace.clone();
    let made = run(py, Ends::Soon, progress, move |work| {
        let (mut settings, mut devices) = (Vec::new(), Vec::new());
        for it in asked {
            let events = it.settings.until.unwrap_or(usize::MAX).min(trace.len());
            work.total.fetch_add(events as u64, Relaxed);
            // A replay by the clock begins with the others, and not with all of them.
            let clock = Some(clock(work.clone(), it.speed));
            settings.push(vkmem_trace::ReplaySettings { clock, ..it.settings });
            devices.push(it.device);
        }
        (compare(&trace, &settings, threads), devices)
    })?;
    let reports = made.0.map_err(|error| trace_error(py, &error.to_string(), None, None))?;
    let of = |report| ReplayedData { report, trace: None, allocators: Allocators::Gone };
    Ok(reports.into_iter().map(of).collect())
}

#[pymethods]
impl TraceData {
    /// Plays the trace with settings by their names.
    fn replay(
        &self,
        py: Python<'_>,
        given: &Bound<'_, PyDict>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<ReplayedData> {
        play(py, &self.trace, read(given)?, progress)
    }

    /// Plays the trace with each of some settings, `threads` at a time.
    fn compare(
        &self,
        py: Python<'_>,
        given: Vec<Bound<'_, PyDict>>,
        threads: usize,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<ReplayedData>> {
        let asked = given.iter().map(read).collect::<PyResult<_>>()?;
        play_all(py, &self.trace, asked, threads, progress)
    }
}

fn raised(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::NoHostMemory(_) => out_of_host_memory(py),
        other => to_py(py, other),
    }
}

#[pymethods]
impl ReplayedData {
    /// The report as JSON.
    fn json(&self) -> String {
        self.report.to_json()
    }

    /// The report as a table.
    fn text(&self) -> String {
        self.report.to_string()
    }

    /// Numbers of the allocators that were created.
    fn allocators(&self) -> Vec<u16> {
        match &self.allocators {
            Allocators::Live(replayed) => replayed.allocators(),
            Allocators::Dumps(dumps) => dumps.iter().map(|it| it.0).collect(),
            Allocators::Gone => Vec::new(),
        }
    }

    /// A dump of an allocator; `None` if there is no such allocator.
    fn dump(&self, py: Python<'_>, number: u16, detailed: bool) -> PyResult<Option<String>> {
        let made = match &self.allocators {
            Allocators::Live(replayed) => detach(py, || replayed.dump(number, detailed)),
            Allocators::Dumps(dumps) => {
                let found = dumps.iter().find(|it| it.0 == number);
                found.map(|it| it.1[usize::from(detailed)].clone())
            }
            Allocators::Gone => None,
        };
        made.transpose().map_err(|error| raised(py, &error))
    }

    /// Numbers of the virtual blocks that are there.
    fn virtual_blocks(&self) -> Vec<u32> {
        match &self.allocators {
            Allocators::Live(replayed) => replayed.virtual_blocks(),
            Allocators::Dumps(_) | Allocators::Gone => Vec::new(),
        }
    }

    /// A dump of a virtual block; `None` if there is no such block.
    fn dump_virtual_block(
        &self,
        py: Python<'_>,
        number: u32,
        detailed: bool,
    ) -> PyResult<Option<String>> {
        let made = match &self.allocators {
            Allocators::Live(replayed) => {
                detach(py, || replayed.dump_virtual_block(number, detailed))
            }
            Allocators::Dumps(_) | Allocators::Gone => None,
        };
        made.transpose().map_err(|error| raised(py, &error))
    }

    /// The replay as a trace, if it was recorded.
    fn trace(&self) -> Option<TraceData> {
        self.trace.clone().map(|trace| TraceData { trace })
    }

    /// One table of many reports.
    #[staticmethod]
    fn table(reports: Vec<PyRef<'_, Self>>) -> String {
        let reports: Vec<ReplayReport> = reports.iter().map(|it| it.report.clone()).collect();
        comparison_table(&reports)
    }
}
