//! Checks of memory that nobody may write, and what is called when something has written it.

use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::callback::{callable, exchange};
use crate::arguments::numbers::unsigned_32;
use crate::lifetime::ownership::Created;
use crate::objects::image::{self, Image};
use crate::objects::resource::ResourceObject;

impl Allocator {
    /// Fills the memory of new resources, if anything looks at it.
    #[cold]
    pub(super) fn debug_new<'py>(
        &self,
        py: Python<'py>,
        objects: impl Iterator<Item = Bound<'py, PyAny>>,
    ) {
        let Some(debugger) = self.state.debugger() else { return };
        let created = |object: Bound<'py, PyAny>| {
            let image = object.cast::<Image>().ok().map(|it| image::contents(it.get()));
            let resource = object.cast::<ResourceObject>().ok()?.get().resource.clone();
            Some(Created { resource, object, image })
        };
        let mut made = Vec::with_capacity(objects.size_hint().0);
        made.extend(objects.filter_map(created));
        debugger.created(py, &self.state, &made);
    }
}

#[pymethods]
impl Allocator {
    /// Checks that nobody has written where nobody may: margins and memory in quarantine, of the memory types whose bits
    /// are set (`vmaCheckCorruption`), in all pools. Returns the number of ranges that were checked.
    ///
    /// Memory that the host can map is read by it, all other memory by one submission to the device's queue for each
    /// block. What the device has not finished yet is not seen. A signal whose handler raises, as Ctrl-C, ends the wait for
    /// the device; the next check finds all.
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
    /// The callback runs without locks, in the call that has found it, and may use the allocator: a check inside of it
    /// raises without calling it again. An exception in it is printed (`sys.unraisablehook`), not raised, but for those
    /// that are no errors, as `KeyboardInterrupt`, which leave the call once all was told. There is one callback at a time; None removes it, and so does the end
    /// of the `Allocator` object. Returns the callback, so it can be used as a decorator.
    fn on_corruption<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = callback.py();
        self.state.change(py, || {
            let _inside = self.state.enter(py)?;
            exchange(&self.state.on_corruption, callable(&callback)?);
            Ok(callback)
        })
    }
}
