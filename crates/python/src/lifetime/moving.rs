//! Resources that move: their use waits meanwhile, and their location is replaced as a whole.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::AllocationId;
use vkmem_vulkan::TrackedLayout;
use vkmem_vulkan::kept_info::KeptInfo;

use super::location::Location;
use super::movable::Movable;
use super::ownership::{AllocatorState, Live, Moves, Resource, ResourceRef};
use super::pins::Pinned;

impl Resource {
    /// What it needs to move; `None` if it stays where it was created.
    pub fn movable(&self) -> Option<&Movable> {
        self.extras.get()?.movable.get().map(|it| &**it)
    }

    /// The layout of a movable image; `None` for a buffer.
    pub fn movable_layout(&self) -> Option<&Arc<TrackedLayout>> {
        match &self.movable()?.kept {
            KeptInfo::Image(image) => Some(self.layout(image.initial_layout())),
            KeptInfo::Buffer(_) => None,
        }
    }

    /// How often it has moved.
    pub fn generation(&self) -> u64 {
        self.movable().map_or(0, Movable::generation)
    }

    /// Waits while it moves, and pins it; `None` if it has ended.
    #[cold]
    pub(super) fn enter_after_move<'a>(&'a self, py: Python<'a>) -> PyResult<Option<Pinned<'a>>> {
        self.wait_while_moving(py)?;
        Ok(self.pins.pin(py))
    }

    /// Waits while it moves.
    #[cold]
    pub(super) fn wait_while_moving(&self, py: Python<'_>) -> PyResult<()> {
        while self.pins.is_moving() {
            self.allocator.moving.wait(py)?;
        }
        Ok(())
    }

    /// Replaces its location while it moves, counts the move, and returns the location before.
    pub fn relocate(&self, py: Python<'_>, _: &mut Live, location: Location) -> Location {
        assert!(self.pins.is_moving(), "only what nothing uses is moved");
        if let Some(movable) = self.movable() {
            movable.count();
        }
        self.move_losable(py, &location.allocation);
        // SAFETY: the GIL and the list of live resources are here, and what moves is not pinned.
        unsafe { self.location.replace(location) }
    }
}

impl ResourceRef {
    /// Makes a new resource movable.
    pub fn set_movable(&self, movable: Movable) {
        self.extras().movable.get_or_init(|| Box::new(movable));
        self.enter_as_movable(None);
    }

    /// Notes which memory it has after a move; `before` is what it had until now. The caller has the GIL.
    pub fn enter_after_move_from(&self, before: AllocationId) {
        if self.movable().is_some() {
            self.enter_as_movable(Some(before));
        }
        if self.losable().is_some() {
            self.enter_as_losable(Some(before));
        }
    }

    fn enter_as_movable(&self, before: Option<AllocationId>) {
        let id = self.allocation().id;
        self.allocator.movables.enter(id, self, before, |it| it.pins.is_closed());
    }
}

impl AllocatorState {
    /// The movable resource that has some memory. The caller has the turn to move, or the GIL.
    pub fn movable_at(&self, id: AllocationId) -> Option<ResourceRef> {
        self.movables.find(id).filter(|it| it.allocation().id == id)
    }

    /// What has moved resources; `None` before the first move.
    pub fn moves(&self) -> Option<&Arc<dyn Moves>> {
        self.moves.get()
    }
}
