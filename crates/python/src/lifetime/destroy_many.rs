//! Destroys many resources of one allocator in one call.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use vkmem_vulkan::prefetching;

use super::ownership::{AllocatorState, Binding, PendingRelease, Resource, ResourceRef};
use super::pins::NotClosed;
use super::release::release_many;
use super::unflushed;
use crate::interpreter::detach;

/// Destroys all resources, or none and raises. Skips those that have ended, so a resource may occur twice.
/// The caller keeps the allocator open.
pub fn destroy_many(
    py: Python<'_>,
    state: &AllocatorState,
    resources: &[&ResourceRef],
) -> PyResult<()> {
    let mut ended = Vec::with_capacity(resources.len());
    let mut refused = None;
    for resource in prefetching(resources, |it| it.expect()) {
        match resource.pins.close(py) {
            Ok(()) => ended.push(*resource),
            Err(NotClosed::Already) => resource.forget_loss(py),
            Err(NotClosed::InUse) => match resource.close_after_transfers(py, "destroy") {
                Ok(()) => ended.push(*resource),
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            },
        }
    }
    // All are closed from here on, so nothing new is bound to them.
    if refused.is_none()
        && let Some(base) = still_bound(state, &ended)
    {
        refused = Some(base.still_bound("destroy"));
    }
    if let Some(refused) = refused {
        ended.iter().for_each(|it| it.pins.reopen(py));
        return Err(refused);
    }
    // Under the GIL: references to Python objects must not change while the cycle collector runs.
    let lost: Vec<String> = ended.iter().filter_map(|it| it.lost_writes()).collect();
    let pending: Vec<PendingRelease> = ended.iter().map(|it| it.pending_release()).collect();
    state.note_ends(py, &pending);
    detach(py, || {
        let mut live = state.live.lock();
        ended.iter().for_each(|it| it.unlist_from(&mut live));
        drop(live);
        for (index, name) in release_many(state, &pending) {
            ended[index].remember_name(name);
        }
        for it in &ended {
            // The engine has no names of aliases.
            if it.alias().is_some()
                && let Ok(Some(name)) = it.name()
            {
                it.remember_name(name);
            }
        }
    });
    state.tell_device_memory(py);
    unflushed::warn_all(py, &lost).and(state.raise_found(py))
}

/// Returns a resource with something bound to it that is not destroyed in the same call.
fn still_bound<'a>(state: &AllocatorState, ended: &[&'a ResourceRef]) -> Option<&'a Resource> {
    let bound = |it: &Resource| it.bound_here.load(Ordering::Acquire);
    if ended.iter().all(|it| bound(it) == 0) {
        return None;
    }
    let mut ending: HashMap<*const Resource, u32> = HashMap::new();
    let bindings = state.device.bindings.lock();
    for it in ended {
        let base = match (it.alias(), bindings.get(&it.handle())) {
            (Some(alias), _) => &alias.base,
            (None, Some(Binding::Foreign(memory))) => memory,
            _ => continue,
        };
        *ending.entry(base.as_ptr()).or_default() += 1;
    }
    drop(bindings);
    let together = |it: &ResourceRef| ending.get(&it.as_ptr()).copied().unwrap_or(0);
    ended.iter().find(|it| bound(it) > together(it)).map(|it| &***it)
}
