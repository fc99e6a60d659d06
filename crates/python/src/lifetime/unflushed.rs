//! Warnings about host writes that no flush made available to the device: found on simulated devices only.
//!
//! Checked where such a write does harm: before a copy that reads it, and when its memory is freed. Other
//! drivers report none.

use std::ffi::CString;
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyType;
use vkmem_engine::MemoryRange;
use vkmem_engine::words::bytes;
use vkmem_vulkan::HostSide;

use super::ownership::Resource;
use crate::interpreter::in_finaliser;
use crate::package::ERRORS;

impl Resource {
    /// Returns the warning about unflushed writes, before the memory is freed. The writes are forgotten, so
    /// that they do not count as those of the next resource in the same place.
    #[inline]
    pub fn lost_writes(&self) -> Option<String> {
        // Without extras there were no writers of non-coherent memory.
        self.extras.get()?;
        self.look_for_lost_writes()
    }

    #[cold]
    fn look_for_lost_writes(&self) -> Option<String> {
        // Memory that is not persistently mapped was flushed when its last view was closed; the writes of an
        // alias are reported with its base.
        let whole = &self.allocation();
        if whole.mapped.is_none() || self.alias().is_some() || self.atom_size().is_none() {
            return None;
        }
        let driver = self.allocator.device_allocator.driver();
        let range = |size| MemoryRange { memory: whole.memory, offset: whole.offset, size };
        let found = driver.unflushed(HostSide::Memory(range(self.host_size)))?;
        driver.forget_unflushed(range(whole.size));
        Some(self.unflushed_text(&found, "its end: the device never saw that"))
    }

    /// Raises an exception if a copy is about to use unflushed host writes and warnings are errors.
    pub fn check_flushed(&self, py: Python<'_>, place: HostSide, harm: &str) -> PyResult<()> {
        match self.allocator.device_allocator.driver().unflushed(place) {
            None => Ok(()),
            Some(found) => warn(py, &self.unflushed_text(&found, harm)),
        }
    }

    fn unflushed_text(&self, found: &Range<u64>, harm: &str) -> String {
        let (offset, size) = (found.start, found.end - found.start);
        format!(
            "{}: the host wrote {} at offset {offset} and did not flush before {harm}. Call \
             flush({offset}, {size}) after writing, or ask for memory that needs none: \
             required_flags=HOST_COHERENT",
            self.describe(),
            bytes(size),
        )
    }
}

/// Issues an `UnflushedWriteWarning`; raises an exception if warnings are turned into errors.
pub fn warn(py: Python<'_>, message: &str) -> PyResult<()> {
    let category = ERRORS.get(py, "UnflushedWriteWarning")?.cast_into::<PyType>()?;
    PyErr::warn(py, &category, &CString::new(message.replace('\0', "?"))?, 1)
}

/// Issues a warning for each message; raises the first exception, after all of them.
pub fn warn_all(py: Python<'_>, messages: &[String]) -> PyResult<()> {
    let mut done = Ok(());
    for message in messages {
        done = done.and(warn(py, message));
    }
    done
}

/// Issues the warnings from a finaliser: a warning that is turned into an error is printed, not raised.
pub fn warn_in_finaliser(py: Python<'_>, messages: &[String]) {
    in_finaliser(py, || warn_all(py, messages));
}
