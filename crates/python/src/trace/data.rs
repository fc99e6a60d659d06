//! [`TraceData`]: a trace in memory.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{IntoPyDict, PyDict, PyTuple};
use vkmem_trace::{
    Format, Kind, Position, ReadError, SiteId, TimelineOptions, Trace, load_with, options_fields,
};
use vkmem_vulkan::PhysicalDeviceSummary;

use super::background::{Ends, run};
use super::column::{OfTrace, TraceColumn};
use super::convert::{to_dict, to_object};
use super::files::{FileFormat, write};
use super::usage::usage;
use crate::errors::{os_error, trace_error};
use crate::objects::device_info::PhysicalDevice;

/// A trace in memory, for `vk_mem.trace.Trace`.
#[pyclass(name = "_TraceData", module = "vk_mem", frozen)]
pub struct TraceData {
    pub trace: Arc<Trace>,
}

/// Returns a place in a file as its line and its offset, one of which is `None`.
fn place(position: Option<Position>) -> (Option<u64>, Option<u64>) {
    match position {
        Some(Position::Line(line)) => (Some(line), None),
        Some(Position::Offset(offset)) => (None, Some(offset)),
        None => (None, None),
    }
}

fn raise(py: Python<'_>, error: &ReadError) -> PyErr {
    let (line, offset) = place(error.position);
    trace_error(py, &error.to_string(), line, offset)
}

type Fields<'py> = (u8, Bound<'py, PyTuple>, Bound<'py, PyTuple>);

#[pymethods]
impl TraceData {
    /// Reads a file of a format by its name; `None`: of that which its first bytes tell.
    #[staticmethod]
    fn load(
        py: Python<'_>,
        data: PyBackedBytes,
        format: Option<&str>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let format = match format {
            None => None,
            Some(name) => match Format::ALL.into_iter().find(|it| it.name() == name) {
                Some(format) => Some(format),
                None => return Err(PyValueError::new_err(format!("no format is named {name:?}"))),
            },
        };
        let (trace, _data) = run(py, Ends::ByItself, progress, move |work| {
            let trace = load_with(&data, format, &|done, total| work.note(done, total));
            // Goes back to be released by a thread that has the interpreter.
            (trace, data)
        })?;
        let trace = trace.map_err(|error| raise(py, &error))?;
        Ok(Self { trace: Arc::new(trace) })
    }

    /// Kinds of events: number, name, names of the fields.
    #[staticmethod]
    fn kinds() -> Vec<(u8, &'static str, Vec<&'static str>)> {
        let fields = |kind: Kind| kind.fields().iter().map(|(name, _)| *name).collect();
        Kind::ALL.iter().map(|kind| (*kind as u8, kind.name(), fields(*kind))).collect()
    }

    fn __len__(&self) -> usize {
        self.trace.len()
    }

    /// A column by its name.
    fn column(&self, name: &str) -> PyResult<TraceColumn> {
        macro_rules! of {
            ($($column:ident: $type:ty = $dtype:literal,)+) => {
                match name {
                    $(stringify!($column) => {
                        let trace = self.trace.clone();
                        TraceColumn::new($dtype, OfTrace::<$type> { trace, get: |it| it.$column() })
                    })+
                    _ => return Err(PyKeyError::new_err(format!("no column is named {name:?}"))),
                }
            };
        }
        Ok(of! {
            kinds: u8 = "u1",
            flags: u8 = "u1",
            memory_types: u8 = "u1",
            allocators: u16 = "u2",
            threads: u32 = "u4",
            sequences: u64 = "u8",
            times: u64 = "u8",
            frames: u64 = "u8",
            sites: u32 = "u4",
            objects: u32 = "u4",
            requests: u32 = "u4",
            sizes: u64 = "u8",
            buffer_sizes: u64 = "u8",
            offsets: u64 = "u8",
            memories: u32 = "u4",
        })
    }

    /// An event: the number of its kind; sequence, time, thread, frame, allocator, site, is_state; and the fields of
    /// its kind. A request is its number.
    fn event<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Fields<'py>> {
        if index >= self.trace.len() {
            return Err(PyIndexError::new_err("no such event"));
        }
        let event = self.trace.event(index);
        let request = self.trace.columns().requests()[index];
        let site = event.site.map(|it| it.0);
        let head = (
            event.sequence,
            event.time,
            event.thread,
            event.frame,
            event.allocator,
            site,
            event.is_state,
        );
        let fields = event.call.fields();
        let fields = fields.iter().map(|(_, value)| to_object(py, value, request));
        let fields = fields.collect::<PyResult<Vec<_>>>()?;
        Ok((event.call.kind() as u8, head.into_pyobject(py)?, PyTuple::new(py, fields)?))
    }

    /// The fields of a request by their names.
    fn request<'py>(&self, py: Python<'py>, number: usize) -> PyResult<Bound<'py, PyDict>> {
        let requests = self.trace.dictionary().requests();
        let request =
            requests.get(number).ok_or_else(|| PyIndexError::new_err("no such request"))?;
        to_dict(py, &request.fields(), 0)
    }

    /// The functions of a call stack, the innermost first: file, line, function.
    fn stack(&self, site: u32) -> Vec<(&str, u32, &str)> {
        let stack = self.trace.stack(SiteId(site));
        stack.map(|frame| (frame.file, frame.line, frame.function)).collect()
    }

    /// What the trace says before its first event, by name.
    fn description<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let it = self.trace.description();
        let dict = PyDict::new(py);
        dict.set_item("format", it.format.name())?;
        dict.set_item("version", it.version)?;
        let device = it.device.as_ref().map(|info| {
            PhysicalDevice::from(PhysicalDeviceSummary {
                info: info.clone(),
                driver_name: String::new(),
                driver_version: String::new(),
                extensions: it.extensions.iter().filter(|it| it.1).map(|it| it.0.clone()).collect(),
            })
        });
        dict.set_item("device", device)?;
        dict.set_item("driver_version", it.driver_version)?;
        let options = it.options.as_ref().map(options_fields);
        let options = options.as_ref().map(|it| to_object(py, it, 0)).transpose()?;
        dict.set_item("options", options)?;
        dict.set_item(
            "extensions",
            it.extensions.iter().map(|(name, on)| (name, *on)).into_py_dict(py)?,
        )?;
        dict.set_item(
            "settings",
            it.settings.iter().map(|(name, value)| (name, value)).into_py_dict(py)?,
        )?;
        dict.set_item("program", it.program.as_deref())?;
        dict.set_item("process", it.process)?;
        dict.set_item("library", it.library.as_deref())?;
        dict.set_item("start", it.start)?;
        dict.set_item("resolution", it.resolution)?;
        Ok(dict)
    }

    /// The first warnings: line, offset, what.
    fn warnings(&self) -> Vec<(Option<u64>, Option<u64>, &str)> {
        let warnings = self.trace.warnings().iter();
        let one = |it: &'_ vkmem_trace::Warning| place(it.position);
        warnings.map(|it| (one(it).0, one(it).1, it.what.as_str())).collect()
    }

    /// Number of all warnings.
    #[getter]
    fn warning_count(&self) -> u64 {
        self.trace.warning_count()
    }

    /// Number of events of kinds that are not known.
    #[getter]
    fn unknown_events(&self) -> u64 {
        self.trace.unknown_events()
    }

    /// Where the file ends in the middle: its line and its offset, one of which is `None`; or `None`.
    #[getter]
    fn cut(&self) -> Option<(Option<u64>, Option<u64>)> {
        self.trace.cut().map(|it| place(Some(it)))
    }

    /// Whether it says what memory was held: there are events of the driver, or no allocations.
    #[getter]
    fn says_memory(&self) -> bool {
        self.trace.says_memory()
    }

    /// The index of the first event of a line of a text file, from 1, or of one behind it; `None` for binary files.
    fn event_of_line(&self, line: u64) -> Option<usize> {
        self.trace.event_of_line(line)
    }

    /// Events, bytes held, bytes live: of all heaps together, then of each.
    fn usage(&self, py: Python<'_>) -> PyResult<Vec<[TraceColumn; 3]>> {
        let trace = self.trace.clone();
        run(py, Ends::Soon, None, move |work| usage(&trace, work))
    }

    /// Writes the trace into a file; returns what the format has no words for: kinds of events, and how many.
    fn write(
        &self,
        py: Python<'_>,
        path: PathBuf,
        format: &str,
        allocations: Option<u64>,
        resources: bool,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(&'static str, u64)>> {
        let options = TimelineOptions { allocations, resources };
        let format = match format {
            "vkmem" => FileFormat::VkMem,
            "vma" => FileFormat::Vma,
            "rmm" => FileFormat::Rmm,
            "perfetto" => FileFormat::Perfetto(options),
            "chrome" => FileFormat::Chrome(options),
            _ => return Err(PyValueError::new_err(format!("no format is named {format:?}"))),
        };
        let trace = self.trace.clone();
        let done = run(py, Ends::Soon, progress, move |work| write(&trace, format, &path, work))?;
        done.map_err(|error| os_error(py, &error, None))
    }
}
