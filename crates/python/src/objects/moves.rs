//! What a resource tells about its moves.

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::resource::ResourceObject;
use crate::arguments::callback::{callable, current, exchange};
use crate::errors::invalid;
use crate::lifetime::movable::Movable;
use crate::lifetime::ownership::Resource;

impl ResourceObject {
    /// Lets a new resource move; destroys it if that fails.
    pub fn set_movable(object: &Bound<'_, Self>, movable: Movable) -> PyResult<()> {
        let this = object.get();
        let weak = PyWeakrefReference::new(object.as_any()).inspect_err(|_| {
            // Why there is no reference is the one to tell.
            let _ = this.destroy(object.py());
        })?;
        movable.object.get_or_init(|| weak.into_any().unbind());
        this.resource.set_movable(movable);
        Ok(())
    }

    /// The `Buffer` or the `Image` of a movable resource; `None` after its end.
    pub fn of_movable<'py>(py: Python<'py>, resource: &Resource) -> Option<Bound<'py, Self>> {
        let weak = resource.movable()?.object.get()?.bind(py);
        let weak = weak.cast::<PyWeakrefReference>().ok()?;
        weak.upgrade()?.cast_into::<Self>().ok()
    }

    /// What is called when it has moved.
    pub fn move_callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        current(py, &self.others.get()?.on_move)
    }
}

#[pymethods]
impl ResourceObject {
    /// How often it has moved: 0 until a defragmentation moves it, then one more each time.
    /// With each move it has another handle, so views, descriptors and recorded commands of an older generation
    /// are out of date.
    #[getter]
    fn generation(&self, py: Python<'_>) -> PyResult<u64> {
        self.resource.check_live(py)?;
        Ok(self.resource.generation())
    }

    /// Whether it was created with `movable`.
    #[getter]
    fn movable(&self, py: Python<'_>) -> PyResult<bool> {
        self.resource.check_live(py)?;
        Ok(self.resource.movable().is_some())
    }

    /// Calls `callback(moves)` when it has moved, with a list of `Move`, once for each step of a
    /// defragmentation in which resources with this callback moved: after the copies were submitted, and before
    /// the old handles are retired. Views, descriptors and recorded commands are to be made anew then.
    ///
    /// The callback runs without locks in the call that moves, and may use the allocator. An exception in it is
    /// printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes it. Returns the
    /// callback, so it can be used as a decorator.
    ///
    /// Raises `InvalidArgumentError` for what was created without `movable`.
    fn on_move<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.resource.check_live(py)?;
        if this.resource.movable().is_none() || this.has_owner() {
            let what = this.face().describe();
            return Err(invalid(py, format!("{what} does not move: create it with movable=True")));
        }
        let callback_or_none = callable(&callback)?;
        Self::track(slf);
        exchange(&this.others.get_or_init(Box::default).on_move, callback_or_none);
        Ok(callback)
    }
}
