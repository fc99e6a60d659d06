//! Moves of single resources to wherever there is room, so that tests need no plan for one.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::{Allocation, AllocationId, Error};

use super::Allocator;
use crate::errors::to_py;
use crate::interpreter::detach;
use crate::lifetime::ownership::ResourceRef;
use crate::moving::callbacks;
use crate::moving::mover::{FreedCounts, Mover};
use crate::moving::obstacle::Obstacle;
use crate::moving::slide::request_like;
use crate::moving::step::{self, Planned};

impl Allocator {
    fn free_destinations(&self, py: Python<'_>, destinations: &[AllocationId]) {
        if !destinations.is_empty() {
            detach(py, || drop(self.state.engine().free_many(destinations)));
        }
    }
}

#[pymethods]
impl Allocator {
    /// Moves resources to wherever there is room; returns how many have moved. For tests: `defragment` knows
    /// where they are better off.
    fn _relocate(&self, py: Python<'_>, objects: Vec<Bound<'_, PyAny>>) -> PyResult<usize> {
        let _inside = self.state.enter(py)?;
        let engine = self.state.engine();
        Mover::of(&self.state).settle_all(py, &self.state)?;
        let turn = self.state.moving.enter(py)?;
        let mut planned: Vec<Planned> = Vec::new();
        let made = objects.iter().try_for_each(|object| {
            let resource: ResourceRef =
                self.check_here(object, "Buffer or Image")?.resource.clone();
            if Obstacle::of(&resource).is_some() {
                return Ok(());
            }
            let Some(request) = request_like(&resource) else { return Ok(()) };
            let made = detach(py, || engine.allocate(&request));
            let destination = made.map_err(|error| to_py(py, &error))?;
            planned.push(Planned { resource, destination });
            Ok(())
        });
        let ids: Vec<AllocationId> = planned.iter().map(|it| it.destination.id).collect();
        let mut commit = |it: &Planned| -> Result<Allocation, Error> {
            let (before, after) = (it.resource.allocation().id, it.destination.id);
            engine.set_name(after, engine.name(before)?.as_deref())?;
            Ok(it.destination)
        };
        let counts = Arc::new(FreedCounts::default());
        let done =
            made.and_then(|()| step::run(py, &self.state, &turn, planned, &counts, &mut commit));
        drop(turn);
        let mut step = done.inspect_err(|_| self.free_destinations(py, &ids))?;
        let unused: Vec<_> = step.stayed.iter().map(|(it, _)| it.destination.id).collect();
        self.free_destinations(py, &unused);
        callbacks::tell(&self.state, &step.moved);
        callbacks::call(py, &self.handlers.moved, &step.moved);
        self.handlers.call_pending(py, &self.state);
        step.failure.take().map_or(Ok(step.moved.len()), Err)
    }
}
