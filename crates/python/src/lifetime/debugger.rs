//! [`Debugger`]: what looks for faults of the program in the memory of an allocator, and where the lives of
//! resources meet it.

use std::any::Any;
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, PoolId};
use vkmem_vulkan::ImageContents;

use super::location::Location;
use super::ownership::{AllocatorState, PendingRelease, ResourceRef};
use crate::errors::feature_not_present;
use crate::interpreter::detach;

/// A new resource with its Python object.
pub struct Created<'py> {
    /// The resource.
    pub resource: ResourceRef,
    /// Its `Buffer`, `Image` or `Allocation`.
    pub object: Bound<'py, PyAny>,
    /// What is known of an image.
    pub image: Option<ImageContents>,
}

/// Fills memory, and checks what nobody may write. What it finds is raised by the call in which it is found, or
/// reported where nothing can be raised.
pub trait Debugger: Any + Send + Sync {
    /// Fills new resources and their margins. Nothing else uses them yet.
    fn created(&self, py: Python<'_>, allocator: &AllocatorState, made: &[Created<'_>]);

    /// Notes that a call of the program ends some resources, which may be freed later.
    fn ends(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        ids: &mut dyn Iterator<Item = AllocationId>,
    );

    /// Checks the margins of what is about to move or to be lost. The GIL is not held.
    fn leaves(&self, allocator: &AllocatorState, ids: &[AllocationId]);

    /// Notes where resources are that have moved, and writes the margins there; with each is the memory that it had.
    /// The GIL is not held.
    fn moved(&self, allocator: &AllocatorState, moved: &[(AllocationId, Location)]);

    /// Checks and fills what resources have left when they moved, before it is freed. The GIL is not held.
    fn frees_left(&self, allocator: &AllocatorState, ids: &[AllocationId]);

    /// Checks what a frame that begins has to check, and raises what was found.
    fn begin_frame(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;

    /// Checks all at the beginning of a call, and raises what is found.
    fn enter(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;

    /// Checks memory types or a pool, and raises what is found; returns the number of ranges that were checked.
    fn check(
        &self,
        py: Python<'_>,
        allocator: &AllocatorState,
        memory_type_bits: u32,
        pool: Option<PoolId>,
    ) -> PyResult<u64>;

    /// Raises what calls of this thread have found.
    fn raise(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;

    /// Reports what was found in a place where nothing can be raised: to the callback, or as warnings. An exception
    /// where warnings are errors.
    fn report(&self, py: Python<'_>, allocator: &AllocatorState) -> PyResult<()>;
}

impl AllocatorState {
    /// What looks for faults in its memory; `None` if nothing does.
    pub fn debugger(&self) -> Option<&Arc<dyn Debugger>> {
        self.debugger.get()
    }

    /// Tells listeners that resources are about to be released, without the GIL if that may take long.
    #[cold]
    pub(super) fn tell_freed_by_call(&self, py: Python<'_>, pending: &[PendingRelease]) {
        match self.debugger() {
            None => self.events.tell_freed(pending),
            Some(debugger) => {
                note_ends(&**debugger, py, self, pending);
                detach(py, || self.events.tell_freed(pending));
            }
        }
    }

    /// Notes that a call of the program ends some resources.
    pub fn note_ends(&self, py: Python<'_>, pending: &[PendingRelease]) {
        if let Some(debugger) = self.debugger() {
            note_ends(&**debugger, py, self, pending);
        }
    }

    /// Checks memory types or a pool; returns the number of ranges that were checked.
    pub fn check_corruption(
        &self,
        py: Python<'_>,
        memory_type_bits: u32,
        pool: Option<PoolId>,
    ) -> PyResult<u64> {
        match self.debugger() {
            Some(debugger) => debugger.check(py, self, memory_type_bits, pool),
            None => Err(nothing_to_check(py)),
        }
    }

    /// Raises what was found wrong in the memory that this call has looked at.
    pub fn raise_found(&self, py: Python<'_>) -> PyResult<()> {
        self.debugger().map_or(Ok(()), |it| it.raise(py, self))
    }

    /// Reports what was found wrong, where nothing can be raised.
    pub fn report_found(&self, py: Python<'_>) -> PyResult<()> {
        self.debugger().map_or(Ok(()), |it| it.report(py, self))
    }
}

/// Returns the exception of a check where there is nothing to check.
pub fn nothing_to_check(py: Python<'_>) -> PyErr {
    feature_not_present(
        py,
        "nothing can be checked: no memory of these types has margins that are checked or a quarantine; create the \
         allocator, or the pool, with debug=vk_mem.Debug(detect_corruption=True)",
    )
}

fn note_ends(
    debugger: &dyn Debugger,
    py: Python<'_>,
    allocator: &AllocatorState,
    pending: &[PendingRelease],
) {
    let own = pending.iter().filter(|it| it.alias_of.is_none());
    debugger.ends(py, allocator, &mut own.map(|it| it.id));
}
