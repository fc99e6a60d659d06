//! Resources that may be lost: their uses, moves and ends.

use pyo3::prelude::*;
use vkmem_engine::Allocation;

use super::losable::Losable;
use super::ownership::{Resource, ResourceRef};
use crate::errors::IntoPyResult;

impl Resource {
    /// What it has if it may be lost.
    #[inline]
    pub fn losable(&self) -> Option<&Losable> {
        self.extras.get()?.losable.get()
    }

    /// Whether its memory was taken away.
    pub fn is_lost(&self) -> bool {
        self.losable().is_some_and(Losable::is_lost)
    }

    /// Notes a use in this frame; false if it is lost. Whatever cannot be lost is there.
    #[inline]
    pub fn touch(&self, py: Python<'_>) -> bool {
        self.losable().is_none_or(|it| it.touch(py))
    }

    /// Notes a use in this frame; false if it is lost. Raises if it was ended.
    #[inline]
    pub fn try_touch(&self, py: Python<'_>) -> PyResult<bool> {
        let is_there = self.touch(py);
        if is_there {
            self.check_live(py)?;
        }
        Ok(is_there)
    }

    /// Frees the engine's entry of what was lost; does nothing for any other resource that has ended.
    #[cold]
    pub(super) fn forget_loss(&self, _: Python<'_>) {
        if let Some(losable) = self.losable() {
            // SAFETY: the GIL is here.
            unsafe { losable.end() };
        }
    }

    /// Tells the engine where it is after a move. If the engine cannot follow, it begins anew with a use now.
    pub(super) fn move_losable(&self, py: Python<'_>, place: &Allocation) {
        let Some(losable) = self.losable() else { return };
        if losable.entry(py).is_some_and(|entry| entry.relocated(place).is_err()) {
            let anew = self.allocator.engine().make_evictable(place, losable.priority());
            losable.set_entry(py, anew.ok());
        }
    }

    /// Raises if it has ended, and notes a use in this frame: what is returned then is for commands that are
    /// recorded now.
    pub fn check_used(&self, py: Python<'_>) -> PyResult<()> {
        self.check_live(py)?;
        self.touch(py);
        Ok(())
    }
}

impl ResourceRef {
    /// Lets a new resource be lost from now on.
    pub fn set_losable(&self, py: Python<'_>, priority: f32, object: Py<PyAny>) -> PyResult<()> {
        self.enter_as_losable(None);
        let made = self.extras().losable.get_or_init(|| Losable::new(priority));
        made.object.get_or_init(|| object);
        let engine = self.allocator.engine();
        made.set_entry(py, Some(engine.make_evictable(&self.allocation(), priority).or_raise(py)?));
        Ok(())
    }
}
