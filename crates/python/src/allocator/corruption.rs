//! Checks of memory that nobody may write, and what is called when something has written it.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::callback::{callable, exchange};
use crate::arguments::numbers::unsigned_32;
use crate::debugging::raising::warn;
use crate::debugging::settings::DebugSettings;
use crate::lifetime::ownership::{Created, DeviceCore};
use crate::objects::device::poison_unmapped;
use crate::objects::image::{self, Image};
use crate::objects::resource::ResourceObject;

/// Whether this process was told that `VK_MEM_DEBUG` cannot have what only simulated devices do.
static IS_REFUSAL_TOLD: AtomicBool = AtomicBool::new(false);

/// Has a device show a pattern in memory that is not mapped, if that is asked for. On a real device that raises, if
/// `debug=` asks for it; for a program that nobody changes a warning says once that it is left out.
pub(super) fn poison(
    py: Python<'_>,
    core: &DeviceCore,
    debug: &mut DebugSettings,
    is_given: bool,
) -> PyResult<()> {
    if !debug.poison_unmapped {
        return Ok(());
    }
    let Err(refused) = poison_unmapped(py, core, true) else { return Ok(()) };
    if is_given {
        return Err(refused);
    }
    debug.poison_unmapped = false;
    if IS_REFUSAL_TOLD.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    warn(py, &format!("VK_MEM_DEBUG: {}; it is left out", refused.value(py)), 1)
}

impl Allocator {
    /// Fills the memory of new resources, if anything looks at it.
    #[cold]
    pub(super) fn debug_new<'py>(
        &self,
        py: Python<'py>,
        objects: impl Iterator<Item = Bound<'py, PyAny>>,
    ) {
        let Some(debugger) = self.state.debugger() else { return };
        let objects: Vec<Bound<'py, PyAny>> = objects.collect();
        let created = |object: &Bound<'py, PyAny>| {
            let image = object.cast::<Image>().ok().map(|it| image::contents(it.get()));
            let resource = object.cast::<ResourceObject>().ok()?.get().resource.clone();
            Some(Created { resource, object: object.clone(), image })
        };
        let made: Vec<Created<'_>> = objects.iter().filter_map(created).collect();
        debugger.created(py, &self.state, &made);
    }
}

#[pymethods]
impl Allocator {
    /// Checks that nobody has written where nobody may: margins and memory in quarantine, of the memory types whose bits
    /// are set (`vmaCheckCorruption`), in all pools. Returns the number of ranges that were checked.
    ///
    /// Memory that the host can map is read by it, all other memory by one submission to the device's queue for each
    /// block. What the device has not finished yet is not seen.
    ///
    /// Raises `CorruptionError` with what was found, and `FeatureNotPresentError` if nothing of these types can be
    /// checked: without `debug=vk_mem.Debug(detect_corruption=True)` or a quarantine. O(allocations).
    #[pyo3(signature = (memory_type_bits = None))]
    fn check_corruption(
        &self,
        py: Python<'_>,
        memory_type_bits: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u64> {
        let _inside = self.state.enter(py)?;
        let bits =
            memory_type_bits.map_or(Ok(u32::MAX), |it| unsigned_32(it, "memory_type_bits"))?;
        self.state.check_corruption(py, bits, None)
    }

    /// Calls `callback(error)` with each `CorruptionError` before it is raised, and in place of the
    /// `CorruptionWarning` where nothing can be raised.
    ///
    /// The callback runs without locks, in the call that has found it, and may use the allocator. An exception in it is
    /// printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes it, and so does the end
    /// of the `Allocator` object. Returns the callback, so it can be used as a decorator.
    fn on_corruption<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(callback.py())?;
        exchange(&self.state.on_corruption, callable(&callback)?);
        Ok(callback)
    }
}
