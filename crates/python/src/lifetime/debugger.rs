//! Where the lives of resources meet what looks for faults of the program in their memory.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::PoolId;

use super::ownership::{AllocatorState, Debugger, PendingRelease};
use crate::errors::feature_not_present;
use crate::interpreter::detach;

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
        let types = self.engine().device().info().types.len();
        if pool.is_none() && u64::from(memory_type_bits) & ((1 << types) - 1) == 0 {
            let why = format!(
                "nothing can be checked: memory_type_bits is {memory_type_bits:#x}, and the device has the {types} \
                 memory types from bit 0 on"
            );
            return Err(feature_not_present(py, &why));
        }
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
