//! Reads the settings of replays from what `vk_mem.trace` has checked and named.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use vkmem_engine::{profile_info, profile_names};
use vkmem_trace::{Clock, ReplayDevice, ReplaySettings, ReplayThreads};
use vkmem_vulkan::Driver;

use super::background::Work;
use crate::arguments::iterables;
use crate::arguments::numbers::{real, unsigned};
use crate::arguments::options;
use crate::arguments::text::Text;
use crate::debugging;
use crate::errors::invalid;
use crate::lifetime::ownership::DeviceCore;
use crate::objects::device::Device;
use crate::objects::simulated::SimulatedDevice;

/// More than any device has.
const MOST_HEAPS: usize = 1024;
/// Events between two looks at whether to go on.
const STEP: usize = 1024;
/// The longest that a replay sleeps without looking whether to go on.
const NAP: Duration = Duration::from_millis(20);

/// With what a trace is replayed, before the replay begins.
pub struct Asked {
    pub settings: ReplaySettings,
    /// Times as fast as it was recorded; `None`: at full speed.
    pub speed: Option<f64>,
    /// A real device, which must not end before the replay does.
    pub device: Option<Arc<DeviceCore>>,
}

/// Reads `device=`: a profile, a simulated device, whose description counts, or a real one.
fn device(value: &Bound<'_, PyAny>) -> PyResult<(ReplayDevice, Option<Arc<DeviceCore>>)> {
    let py = value.py();
    if let Ok(simulated) = value.cast::<SimulatedDevice>() {
        let core = &simulated.as_super().get().core;
        core.check_process(py)?;
        return Ok((ReplayDevice::Simulated(core.driver.info().clone()), None));
    }
    if let Ok(device) = value.cast::<Device>() {
        let core = device.get().core.clone();
        core.check_process(py)?;
        let driver: Arc<dyn Driver> = Arc::clone(&core.driver);
        return Ok((ReplayDevice::Other(driver), Some(core)));
    }
    let wrong = || -> PyErr {
        let kind = value.get_type().name().map_or("?".into(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "device must be a vk_mem.Device, a vk_mem.SimulatedDevice or the name of a profile, not \
             {kind}"
        ))
    };
    let name = Text::extract(value.as_borrowed()).map_err(|_| wrong())?.0;
    match profile_info(&name) {
        Some(info) => Ok((ReplayDevice::Simulated(info), None)),
        None => {
            let names = profile_names().join(", ");
            let name = name.escape_debug();
            Err(invalid(py, format!("no profile is named '{name}'; there are {names}")))
        }
    }
}

/// Reads settings by their names; what is `None` is as recorded.
pub fn read(given: &Bound<'_, PyDict>) -> PyResult<Asked> {
    let py = given.py();
    let get = |name: &str| -> PyResult<Option<Bound<'_, PyAny>>> {
        Ok(given.get_item(name)?.filter(|it| !it.is_none()))
    };
    let number = |name: &str| get(name)?.map(|it| unsigned(&it, name)).transpose();
    let count = |name: &str| -> PyResult<Option<usize>> {
        let number = number(name)?;
        Ok(number.map(|it| usize::try_from(it).unwrap_or(usize::MAX)))
    };
    let switch =
        |name: &str| -> PyResult<Option<bool>> { get(name)?.map(|it| it.is_truthy()).transpose() };
    let bytes = |name: &str| -> PyResult<Option<Vec<u64>>> {
        let one = |it: &Bound<'_, PyAny>| {
            if it.is_none() { Ok(u64::MAX) } else { unsigned(it, name) }
        };
        get(name)?.map(|it| iterables::read(&it, name, MOST_HEAPS, one)).transpose()
    };
    let mut settings = ReplaySettings::default();
    let mut kept = None;
    if let Some(name) = get("name")? {
        settings.name = Text::string(&name, "name")?;
    }
    if let Some(given) = get("device")? {
        (settings.device, kept) = device(&given)?;
    }
    if let Some(name) = get("algorithm")? {
        let name = Text::string(&name, "algorithm")?;
        settings.algorithm = Some(options::algorithm(py, &name)?);
    }
    settings.block_size = number("block_size")?;
    settings.small_heap_block_size = number("small_heap_block_size")?;
    settings.retention = get("retention")?.map(|it| options::retention(&it)).transpose()?;
    settings.heap_size_limits = bytes("heap_size_limits")?;
    settings.budgets = bytes("budgets")?;
    settings.exceed_allocation_count = switch("exceed_allocation_count")?;
    settings.frames_in_use = number("frames_in_use")?;
    settings.prefetch = switch("prefetch")?.unwrap_or(false);
    settings.debug = get("debug")?
        .map(|it| debugging::read::debug(&it).map(|debug| debug.engine_options()))
        .transpose()?;
    settings.min_alignment = number("min_alignment")?.unwrap_or(0);
    settings.injects_failures = switch("inject_failures")?.unwrap_or(true);
    settings.records = switch("record")?.unwrap_or(false);
    settings.samples = count("samples")?.unwrap_or(settings.samples);
    settings.until = count("until")?;
    if let Some(threads) = get("threads")? {
        settings.threads = match Text::string(&threads, "threads")?.as_str() {
            "one" => ReplayThreads::One,
            "recorded" => ReplayThreads::AsRecorded,
            other => {
                let other = other.escape_debug();
                return Err(invalid(py, format!("threads is 'one' or 'recorded', not '{other}'")));
            }
        };
    }
    let speed = match get("clock")? {
        None => None,
        Some(clock) if clock.is_instance_of::<PyString>() => {
            match Text::string(&clock, "clock")?.as_str() {
                "full" => None,
                "recorded" => Some(1.0),
                other => {
                    let other = other.escape_debug();
                    let what = "clock is 'full', 'recorded' or how many times as fast";
                    return Err(invalid(py, format!("{what}, not '{other}'")));
                }
            }
        }
        Some(clock) => Some(real(&clock, "clock")?),
    };
    if speed.is_some_and(|it| it.is_nan() || it <= 0.0) {
        return Err(invalid(py, "clock is how many times as fast as recorded: more than 0"));
    }
    Ok(Asked { settings, speed, device: kept })
}

/// Returns a clock that counts events as they are played, waits for their times if `speed` is given, and ends the replay
/// when nobody waits for it any more.
pub fn clock(work: Arc<Work>, speed: Option<f64>) -> Clock {
    let (start, last) = (Instant::now(), AtomicUsize::new(0));
    Clock::new(move |index, time| {
        let before = last.load(Relaxed);
        if index >= before + STEP {
            last.store(index, Relaxed);
            work.done.fetch_add((index - before) as u64, Relaxed);
            if work.stops() {
                return ControlFlow::Break(());
            }
        }
        if let Some(speed) = speed {
            let due = Duration::try_from_secs_f64(time as f64 / 1e9 / speed);
            let due = due.unwrap_or(Duration::MAX);
            while let Some(left) = due.checked_sub(start.elapsed()).filter(|it| !it.is_zero()) {
                if work.stops() {
                    return ControlFlow::Break(());
                }
                std::thread::sleep(left.min(NAP));
            }
        }
        ControlFlow::Continue(())
    })
}
