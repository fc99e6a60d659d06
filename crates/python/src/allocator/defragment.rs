//! Defragmentation: moves of resources to places that leave less unused memory.

use pyo3::prelude::*;
use vkmem_engine::{AllocationCreateFlags, AllocationCreateInfo, Error, PoolKey};
use vkmem_vulkan::ResourceHandle;

use super::Allocator;
use crate::errors::to_py;
use crate::interpreter::detach;
use crate::lifetime::ownership::{Resource, ResourceRef};
use crate::moving::callbacks;
use crate::moving::obstacle::Obstacle;
use crate::moving::step::{self, Planned};

/// The request for other memory like that which a movable resource has.
fn request_like(resource: &Resource) -> Option<vkmem_engine::AllocationRequest> {
    let now = resource.allocation();
    let mut create = AllocationCreateInfo::default();
    if now.mapped.is_some() {
        create.flags |= AllocationCreateFlags::MAPPED;
    }
    if let PoolKey::Custom(pool) = now.id.pool_key() {
        create.pool = Some(pool);
    }
    let allocator = &resource.allocator.device_allocator;
    // SAFETY: live handles of this device.
    let mut request = unsafe {
        match resource.handle() {
            ResourceHandle::Memory => return None,
            ResourceHandle::Buffer(buffer) => allocator.request_for_buffer(buffer, &create),
            ResourceHandle::Image(image) => allocator.request_for_image(image, None, &create),
        }
    };
    request.kind = resource.kind;
    request.requirements.memory_type_bits = 1 << now.memory_type_index;
    request.requirements.size = now.size;
    request.dedicated = None;
    Some(request)
}

#[pymethods]
impl Allocator {
    /// Moves resources to wherever there is room, and returns how many have moved; for tests.
    fn _relocate(&self, py: Python<'_>, objects: Vec<Bound<'_, PyAny>>) -> PyResult<usize> {
        let _inside = self.state.enter(py)?;
        let mut planned: Vec<Planned> = Vec::new();
        let made = objects.iter().try_for_each(|object| {
            let resource: ResourceRef = self.check_here(object, "Buffer or Image")?.resource.clone();
            if Obstacle::of(&resource).is_some() {
                return Ok(());
            }
            let Some(request) = request_like(&resource) else { return Ok(()) };
            let made = detach(py, || self.state.engine().allocate(&request));
            let destination = made.map_err(|error: Error| to_py(py, &error))?;
            planned.push(Planned { resource, destination });
            Ok(())
        });
        if let Err(error) = made {
            step::cancel(py, &self.state, &planned);
            return Err(error);
        }
        let step = step::run(py, &self.state, planned)?;
        callbacks::tell(&self.state, &step.moved);
        callbacks::call(py, &self.handlers.moved, &step.moved);
        self.handlers.call_pending(py, &self.state);
        Ok(step.moved.len())
    }

    /// Calls `callback(moves)` with a list of `Move`, once for each step of a defragmentation in which resources
    /// moved: after the copies were submitted, and before the old handles are retired. Views, descriptors and
    /// recorded commands of these are to be made anew then. `Resource.on_move` is for single resources.
    ///
    /// The callback runs without locks in the call that moves, and may use the allocator. An exception in it is
    /// printed (`sys.unraisablehook`), not raised. There is one callback at a time; None removes it. Returns the
    /// callback, so it can be used as a decorator.
    fn on_move<'py>(&self, callback: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let _inside = self.state.enter(callback.py())?;
        self.handlers.set_moved(&callback)?;
        Ok(callback)
    }
}
