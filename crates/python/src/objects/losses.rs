//! What a resource tells about its loss, and which of those that are created may be lost.

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use vkmem_engine::AllocationCreateFlags;
use vkmem_engine::words::with_article;

use super::allocation_create_info::Keywords;
use super::resource::{Others, ResourceObject};
use crate::arguments::callback::{callable, current, exchange};
use crate::errors::invalid;
use crate::lifetime::describe::quoted;
use crate::lifetime::ownership::Resource;

/// The priority of what was created without one, as in `VK_EXT_memory_priority`.
const PRIORITY: f32 = 0.5;

impl Keywords {
    /// Whether what is created may be lost.
    pub fn may_be_lost(&self) -> bool {
        self.create.flags.contains(AllocationCreateFlags::CAN_BECOME_LOST)
    }

    /// An exception where keywords of losses contradict others.
    pub fn check_losses(&self, py: Python<'_>) -> PyResult<()> {
        use AllocationCreateFlags as Create;
        let flags = self.create.flags;
        if self.has_evict && !flags.contains(Create::CAN_MAKE_OTHER_LOST) {
            let why = "evict= says how far CAN_MAKE_OTHER_LOST goes: set that flag as well";
            return Err(invalid(py, why));
        }
        if !self.may_be_lost() {
            return Ok(());
        }
        let why = if flags.contains(Create::MAPPED) {
            "MAPPED memory is in use as long as it lives"
        } else if flags.contains(Create::DONT_BIND) {
            "DONT_BIND leaves it to the caller where it is bound"
        } else if self.create.export_handle_types != 0 {
            "its memory is exported (export_handle_types): others may use it"
        } else if self.create.memory_allocate_next != 0 {
            "its memory is allocated as memory_allocate_next says: others may use it"
        } else {
            return Ok(());
        };
        Err(cannot_be_lost(py, why))
    }

    /// An exception if `CAN_BECOME_LOST` was given to a call that creates nothing that could be lost.
    pub fn refuse_losable(&self, py: Python<'_>, why: &str) -> PyResult<()> {
        if self.may_be_lost() { Err(cannot_be_lost(py, why)) } else { Ok(()) }
    }

    /// The priority among what may be lost.
    pub fn loss_priority(&self) -> f32 {
        self.create.priority.unwrap_or(PRIORITY)
    }
}

fn cannot_be_lost(py: Python<'_>, why: &str) -> PyErr {
    invalid(py, format!("CAN_BECOME_LOST: it cannot be lost: {why}"))
}

impl ResourceObject {
    /// Lets a new resource be lost; destroys it if that fails.
    pub fn set_losable(object: &Bound<'_, Self>, priority: f32) -> PyResult<()> {
        let (py, this) = (object.py(), object.get());
        let set = || {
            let weak = PyWeakrefReference::new(object.as_any())?;
            this.resource.set_losable(py, priority, weak.into_any().unbind())
        };
        set().inspect_err(|_| {
            // Why it cannot be lost is the one to tell.
            let _ = this.destroy(py);
        })
    }

    /// The `Buffer`, the `Image` or the `Allocation` of a resource that was lost; `None` after its end.
    pub fn of_lost<'py>(py: Python<'py>, resource: &Resource) -> Option<Bound<'py, Self>> {
        let weak = resource.losable()?.object.get()?.bind(py);
        let weak = weak.cast::<PyWeakrefReference>().ok()?;
        weak.upgrade()?.cast_into::<Self>().ok()
    }

    /// What is called when it was lost: for the program, and for the cache that has it.
    pub fn loss_callbacks<'py>(&self, py: Python<'py>) -> [Option<Bound<'py, PyAny>>; 2] {
        self.others
            .get()
            .map_or([None, None], |it| [current(py, &it.on_lost), current(py, &it.cache_on_lost)])
    }

    /// Returns the optional objects, to set a callback of losses.
    fn others_for_losses<'a>(slf: &'a Bound<'_, Self>) -> &'a Others {
        Self::track(slf);
        slf.get().others.get_or_init(Box::default)
    }

    fn check_no_owner(&self, py: Python<'_>, instead: &str) -> PyResult<()> {
        if !self.has_owner() {
            return Ok(());
        }
        let class = with_article(self.resource.handle().class());
        Err(invalid(py, format!("this memory belongs to {class}: {instead}")))
    }

    /// Returns class and name of what was lost.
    pub(super) fn lost_title(&self) -> String {
        let name = self.resource.last_name().map_or(String::new(), quoted);
        format!("{}{name}", self.class())
    }
}

#[pymethods]
impl ResourceObject {
    /// Notes that it is used in this frame (`vmaTouchAllocation` of VMA 2.3), so that it is not lost in this one and
    /// the `frames_in_use` following ones. Returns whether it is there: False if it was lost. Always True for what
    /// was created without `CAN_BECOME_LOST`.
    ///
    /// Maps, transfers and the getters of handle and memory do the same.
    ///
    /// Raises `UseAfterFreeError` if it was destroyed.
    fn touch(&self, py: Python<'_>) -> PyResult<bool> {
        self.resource.try_touch(py)
    }

    /// Whether its memory was taken away. It was created with `CAN_BECOME_LOST` then; its buffer or image is
    /// destroyed, and each use raises `LostError`. Name and user data stay, and `destroy()` does nothing more.
    #[getter]
    fn is_lost(&self) -> bool {
        self.resource.is_lost()
    }

    /// The index of the frame of its last use that the library knows of (`set_current_frame_index`); None for what was
    /// created without `CAN_BECOME_LOST`, and after its loss or end.
    #[getter]
    fn last_use(&self, py: Python<'_>) -> Option<u64> {
        let used = self.resource.losable()?.last_use(py)?;
        let state = &self.resource.allocator;
        let age = state.frames_begun().saturating_sub(used);
        // An index has 32 bits, and wraps around.
        Some(state.current_frame().wrapping_sub(age) & u64::from(u32::MAX))
    }

    /// Calls `callback(resources)` when it was lost, with the list of all resources with this callback that one call
    /// has taken memory from. Views and descriptors of these are to be thrown away then.
    ///
    /// The callback runs without locks, before the call returns that took the memory, and may use the allocator. An
    /// exception in it is printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes
    /// it. Returns the callback, so it can be used as a decorator.
    ///
    /// Raises `InvalidArgumentError` for what was created without `CAN_BECOME_LOST`.
    fn on_lost<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        this.resource.check_live(py)?;
        this.check_no_owner(py, "call on_lost() on that")?;
        if this.resource.losable().is_none() {
            let what = this.face().describe();
            let why = format!("{what} cannot be lost: create it with CAN_BECOME_LOST");
            return Err(invalid(py, why));
        }
        exchange(&Self::others_for_losses(slf).on_lost, callable(&callback)?);
        Ok(callback)
    }

    /// Sets what is called after a loss, beside `on_lost`, where there can be one: a `ResourceCache` has it from now
    /// on; None ends that.
    ///
    /// Raises `InvalidArgumentError` for memory that belongs to a buffer or an image.
    fn _enter_cache(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        this.resource.check_live(py)?;
        this.check_no_owner(py, "put that into the cache")?;
        if this.resource.losable().is_some() {
            exchange(&Self::others_for_losses(slf).cache_on_lost, callable(callback)?);
        }
        Ok(())
    }
}
