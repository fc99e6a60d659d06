//! Host writes that no flush made visible to the device: what only a simulated device can find.
//!
//! Looked for where they begin to do harm: before a copy that meets them, and where their memory ends.
//! Other devices answer that there are none.

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
    /// What to warn of at its end, before its memory is given back. Those writes are forgotten, so that
    /// nobody takes them for those of what comes to this place.
    #[inline]
    pub fn lost_writes(&self) -> Option<String> {
        // Who writes to memory that is not coherent has them.
        self.extras.get()?;
        self.look_for_lost_writes()
    }

    #[cold]
    fn look_for_lost_writes(&self) -> Option<String> {
        // What is not mapped for ever was flushed with its last view; an alias leaves its memory there.
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

    /// An exception where warnings are errors and the host has written to what a copy is about to use.
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

/// Issues an `UnflushedWriteWarning`; an exception if warnings are turned into errors.
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

/// Issues the warnings from a finaliser: a warning that was turned into an error is shown, not raised.
pub fn warn_in_finaliser(py: Python<'_>, messages: &[String]) {
    in_finaliser(py, || warn_all(py, messages));
}
