//! Waiting for one transfer.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::words::bytes;
use vkmem_engine::{Error, VALIDATION_FAILED};
use vkmem_vulkan::TransferDirection;

use super::state::{Transfer, Way};
use crate::arguments::numbers::real;
use crate::errors::{invalid, to_py};
use crate::interpreter::detach;
use crate::package::AWAITED;

/// When a timeout in seconds is over; never without one.
pub fn until(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
    let Some(timeout) = timeout else { return Ok(None) };
    let seconds = real(timeout, "timeout")?;
    if seconds.is_nan() {
        return Err(invalid(timeout.py(), "timeout is not a number"));
    }
    // Longer than any program runs is as good as for ever.
    let duration = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    Ok(duration.and_then(|it| Instant::now().checked_add(it)))
}

impl Transfer {
    /// Waits with the allocator kept open.
    fn wait_here(&self, py: Python<'_>, until: Option<Instant>) -> PyResult<bool> {
        let allocator = &self.resource.allocator;
        allocator.device.check_process(py)?;
        if self.job.is_known_to_have_ended() {
            self.let_go(py);
            return Ok(true);
        }
        allocator.change(py, || {
            let _inside = allocator.enter(py)?;
            let has_ended = self.wait_until(py, allocator, until)?;
            // What it fills is the caller's alone from now on.
            self.state.let_first_go(py);
            Ok(has_ended)
        })
    }

    fn wait_or_raise(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        if self.wait_here(py, until(timeout)?)? {
            return Ok(());
        }
        Err(PyTimeoutError::new_err("the transfer has not ended"))
    }

    fn failure(&self, py: Python<'_>) -> Option<PyErr> {
        self.outcome().flatten().map(|error| self.explained(py, &error))
    }

    /// The exception for an error; of a call that broke a rule of Vulkan it says which.
    fn explained(&self, py: Python<'_>, error: &Error) -> PyErr {
        let raised = to_py(py, error);
        let Error::Device(failed) = error else { return raised };
        let driver = self.resource.allocator.device_allocator.driver();
        if failed.result == VALIDATION_FAILED
            && let Some(what) = driver.last_violation()
        {
            let resource = self.resource.describe();
            let text = format!("{}; a transfer of {resource}: {what}", raised.value(py));
            // The text of an exception is its first argument.
            if let Err(error) = raised.value(py).setattr("args", (text,)) {
                return error;
            }
        }
        raised
    }

    fn direction_name(&self) -> &'static str {
        match self.direction {
            _ if self.way == Way::Blit => "mipmaps",
            TransferDirection::Upload => "upload",
            TransferDirection::Download => "download",
        }
    }
}

#[pymethods]
impl Transfer {
    /// Whether it has ended, well or not. Waits for nothing, and submits nothing: a transfer of an open
    /// batch has not ended.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let allocator = &self.resource.allocator;
        allocator.device.check_process(py)?;
        if !self.job.is_known_to_have_ended() {
            let Some(_inside) = allocator.pins.pin(py) else { return Ok(false) };
            let engine = &self.state.engine;
            let ended = detach(py, || engine.poll(&allocator.device_allocator, &self.job));
            if !ended {
                return Ok(false);
            }
        }
        self.let_go(py);
        Ok(true)
    }

    /// Waits until it has ended, `timeout` seconds at most: whether it has. A transfer of an open batch is
    /// submitted first.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        self.wait_here(py, until(timeout)?)
    }

    /// Waits, and returns the array of a download, or None of an upload.
    ///
    /// Raises `TimeoutError` after `timeout` seconds, and what went wrong with the transfer: as
    /// `OutOfDeviceMemoryError`, `DeviceLostError`.
    #[pyo3(signature = (timeout = None))]
    pub(super) fn result(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.wait_or_raise(py, timeout)?;
        match self.failure(py) {
            Some(error) => Err(error),
            None => Ok(self.result.lock().as_ref().map(|it| it.clone_ref(py))),
        }
    }

    /// Waits, and returns what `result` would raise; None if the transfer went well.
    ///
    /// Raises `TimeoutError` after `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn exception(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.wait_or_raise(py, timeout)?;
        Ok(self.failure(py).map(|error| error.into_value(py).into_any()))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        AWAITED.get(slf.py())?.call1((slf,))?.call_method0("__await__")
    }

    /// How the bytes go: "direct", "ring" or "import"; "blit" where the device makes mip levels.
    #[getter]
    fn way(&self) -> &'static str {
        self.way.name()
    }

    /// "upload" or "download"; "mipmaps" where the device makes mip levels.
    #[getter]
    fn direction(&self) -> &'static str {
        self.direction_name()
    }

    /// Bytes that it copies.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.size
    }

    fn __repr__(&self) -> String {
        let state = match self.outcome() {
            _ if self.resource.allocator.device.is_forked() => "from before os.fork()",
            None => "in flight",
            Some(None) => "done",
            Some(Some(_)) => "failed",
        };
        let (direction, size) = (self.direction_name(), bytes(self.size));
        format!("<vk_mem.Transfer: {direction} of {size}, {}, {state}>", self.way.name())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Another thread that holds it is alive, and so is what it holds.
        match self.result.try_lock() {
            Some(result) => visit.call(&*result),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let result = self.result.lock().take();
        drop(result);
    }
}
