//! Which way a transfer takes, and why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ash::vk;
use pyo3::prelude::*;
use vkmem_engine::MemoryPropertyFlags;
use vkmem_engine::lock::Mutex;
use vkmem_engine::words::bytes;
use vkmem_vulkan::{BufferPart, Job, ResourceHandle, Sharing, TransferDirection, TransferEngine};

use super::copies::{Part, TRANSFER_DST, TRANSFER_SRC, check_bound, check_device, check_queue};
use super::state::{Registration, Transfer, TransfersState, Way};
use crate::arguments::text::Text;
use crate::errors::invalid;
use crate::lifetime::ownership::{AllocatorState, HostAccess, Resource, ResourceRef};

/// The part of a buffer that a transfer is about.
pub struct Place {
    pub resource: ResourceRef,
    pub handle: vk::Buffer,
    /// In bytes from the start of the buffer.
    pub offset: u64,
    pub size: u64,
}

impl Place {
    /// Checks that it is of the allocator, and that the bytes lie in it; none are fine.
    pub fn of(
        py: Python<'_>,
        allocator: &Arc<AllocatorState>,
        part: &Part<'_>,
        offset: u64,
        size: u64,
    ) -> PyResult<Self> {
        let resource = part.resource();
        check_device(py, &allocator.device, resource)?;
        if !Arc::ptr_eq(&resource.allocator, allocator) {
            return Err(invalid(py, format!("{} is of another allocator", resource.describe())));
        }
        check_bound(py, resource)?;
        let ResourceHandle::Buffer(handle) = resource.handle() else {
            return Err(invalid(py, "not a buffer"));
        };
        if size == 0 {
            let whole = part.size();
            if offset > whole {
                let what = resource.describe();
                return Err(invalid(py, format!("offset {offset} is outside of {what}")));
            }
        } else {
            part.check_range(py, offset, size)?;
        }
        let offset = part.start + offset;
        // A slice may reach past what is left of its buffer.
        resource.check_range(py, offset, size)?;
        Ok(Self { resource: resource.clone(), handle, offset, size })
    }

    /// For the engine.
    pub fn buffer_part(&self) -> BufferPart {
        let (is_shared, sharing) = (is_shared(&self.resource), sharing(&self.resource));
        // A move may have ended since the place was read: once it is pinned, the handle stays.
        let buffer = match self.resource.handle() {
            ResourceHandle::Buffer(buffer) => buffer,
            ResourceHandle::Image(_) | ResourceHandle::Memory => self.handle,
        };
        BufferPart { buffer, offset: self.offset, is_shared, sharing }
    }
}

/// Which queues may use a resource. Of several ones in one memory each has an owner of its own.
pub(super) fn sharing(resource: &Resource) -> Sharing {
    let queue = resource.allocator.device.driver.transfer_queue();
    match queue.filter(|_| !is_shared(resource)) {
        Some(queue) => Sharing::of_families(resource.families, &queue),
        None => Sharing::MainQueueOnly,
    }
}

/// Whether other buffers may lie in the same memory.
pub(super) fn is_shared(resource: &Resource) -> bool {
    resource.dont_bind
        || resource.alias().is_some()
        || resource.bound_here.load(Ordering::Acquire) > 0
}

/// A way, and why it is taken.
pub struct Chosen {
    pub way: Way,
    pub registration: Option<Arc<Registration>>,
    /// Earlier transfers of the buffer have to end first.
    pub waits: bool,
    pub why: &'static str,
}

/// Reads the keyword `way`.
pub fn way(py: Python<'_>, given: Option<Text>) -> PyResult<Option<Way>> {
    let Some(text) = given else { return Ok(None) };
    let all = [Way::Direct, Way::Ring, Way::Import, Way::Host];
    let found = all.into_iter().find(|it| it.name() == text.0);
    found.map(Some).ok_or_else(|| {
        let name = text.0.escape_debug().to_string();
        invalid(py, format!("way is '{name}'; it must be 'direct', 'ring', 'import' or 'host'"))
    })
}

/// What memory of the resource is like for the host.
pub(super) fn properties(resource: &Resource) -> MemoryPropertyFlags {
    let types = &resource.allocator.engine().device().info().types;
    let index = resource.allocation().memory_type_index as usize;
    types.get(index).map_or(MemoryPropertyFlags::empty(), |it| it.flags)
}

/// Why the host stays away from memory that it could see.
const STRICT: &str =
    "its allocator has strict_host_access, and it was created without a flag of HOST_ACCESS";

/// Why the host does not read memory that it may write.
const WRITE_ONLY: &str =
    "its allocator has strict_host_access, and it was created with HOST_ACCESS_SEQUENTIAL_WRITE";

/// Whether the host sees its memory, and strict mode keeps it out.
fn is_kept_out(resource: &Resource) -> bool {
    properties(resource).contains(MemoryPropertyFlags::HOST_VISIBLE)
        && resource.allocator.strict_host_access
        && resource.host_access == HostAccess::None
}

/// Whether strict mode keeps the host from reading memory that it may write.
fn is_write_only(resource: &Resource) -> bool {
    resource.allocator.strict_host_access && resource.host_access == HostAccess::Write
}

/// Why the host does not read or write the memory itself; `None` if it may.
pub(super) fn why_unseen(resource: &Resource) -> Option<&'static str> {
    if !properties(resource).contains(MemoryPropertyFlags::HOST_VISIBLE) {
        return Some("its memory is not HOST_VISIBLE");
    }
    if resource.dont_bind {
        return Some("it was created with DONT_BIND");
    }
    is_kept_out(resource).then_some(STRICT)
}

/// Chooses, or says why there is no way. `host` is where the array lies, if in one piece.
pub fn choose(
    py: Python<'_>,
    state: &TransfersState,
    place: &Place,
    direction: TransferDirection,
    host: Option<(usize, usize)>,
    wanted: Option<Way>,
) -> PyResult<Chosen> {
    let resource = &*place.resource;
    let (usage, flag) = match direction {
        TransferDirection::Upload => (TRANSFER_DST, "TRANSFER_DST"),
        TransferDirection::Download => (TRANSFER_SRC, "TRANSFER_SRC"),
    };
    let has_usage = resource.usage & usage != 0;
    let queue = check_queue(py, &resource.allocator.device);
    let can_copy = has_usage && queue.is_ok();
    let memory = properties(resource);
    let unseen = why_unseen(resource);
    let is_visible = unseen.is_none();
    let can_direct = match direction {
        TransferDirection::Upload => is_visible,
        TransferDirection::Download => {
            is_visible
                && memory.contains(MemoryPropertyFlags::HOST_CACHED)
                && !is_write_only(resource)
        }
    };
    let registration = host.and_then(|host| state.registration(host));
    let chosen = |way, why| Chosen { way, registration: None, waits: false, why };
    let no_copy = |otherwise: &str| {
        if has_usage {
            return queue.err().unwrap_or_else(|| invalid(py, "there is no queue"));
        }
        let what = resource.describe();
        let how = format!("pass buffer_usage=... | BufferUsage.{flag} at its creation");
        invalid(py, format!("{what} was created without BufferUsage.{flag}{otherwise}: {how}"))
    };
    match wanted {
        Some(Way::Import) => {
            return match registration {
                Some(_) if can_copy => {
                    Ok(Chosen { registration, ..chosen(Way::Import, "the call wants it") })
                }
                Some(_) => Err(no_copy("")),
                None => Err(invalid(
                    py,
                    "the array is not registered: Transfers.register() lets the device use its pages",
                )),
            };
        }
        Some(Way::Host) => {
            return Err(invalid(py, "way is 'host', which is one of images and not of buffers"));
        }
        Some(Way::Ring) if can_copy => return Ok(chosen(Way::Ring, "the call wants it")),
        Some(Way::Ring) => return Err(no_copy("")),
        Some(Way::Direct) if !can_direct => {
            let what = resource.describe();
            let why = if is_visible && is_write_only(resource) {
                WRITE_ONLY
            } else if is_visible {
                "its memory is not HOST_CACHED, where the host reads slowly"
            } else {
                unseen.unwrap_or("the host does not see its memory")
            };
            return Err(invalid(py, format!("{what} has no direct way: {why}")));
        }
        Some(Way::Direct | Way::Blit) | None => {}
    }
    if wanted.is_none() && registration.is_some() && can_copy {
        let why = "the array is registered: the device uses its own pages";
        return Ok(Chosen { registration, ..chosen(Way::Import, why) });
    }
    if can_direct {
        let why = match direction {
            TransferDirection::Upload => "the host can write to the buffer's own memory",
            TransferDirection::Download => {
                "the host can read the buffer's own memory, which is cached"
            }
        };
        if !is_busy(py, resource) {
            return Ok(chosen(Way::Direct, why));
        }
        if wanted.is_none() && can_copy {
            return Ok(chosen(Way::Ring, "an earlier transfer of the buffer is in flight"));
        }
        return Ok(Chosen { waits: true, ..chosen(Way::Direct, why) });
    }
    if !can_copy {
        let slow =
            if is_write_only(resource) { WRITE_ONLY } else { "its memory is not HOST_CACHED" };
        let otherwise = unseen.unwrap_or(slow);
        return Err(no_copy(&format!(", and {otherwise}")));
    }
    let why = match direction {
        _ if is_kept_out(resource) => STRICT,
        TransferDirection::Download if is_write_only(resource) => WRITE_ONLY,
        TransferDirection::Upload => "the host cannot write to the buffer's memory",
        TransferDirection::Download if is_visible => {
            "the host reads the buffer's memory slowly: it is not cached"
        }
        TransferDirection::Download => "the host cannot read the buffer's memory",
    };
    Ok(chosen(Way::Ring, why))
}

/// Whether a transfer that has not ended uses its memory.
pub(super) fn is_busy(py: Python<'_>, resource: &Resource) -> bool {
    let is_shared = is_shared(resource);
    if !resource.pins.is_in_use() && !is_shared {
        return false;
    }
    let allocator = &resource.allocator;
    allocator.retire_background(py);
    if is_shared {
        return allocator.background().iter().any(|it| it.is_busy());
    }
    allocator.is_used_in_background(resource)
}

/// `explain()`
pub fn explain(
    chosen: &Chosen,
    resource: &Resource,
    size: u64,
    engine: &TransferEngine,
    direction: TransferDirection,
) -> String {
    let ring = engine.ring_size();
    let memory = properties(resource);
    let names = vkmem_engine::memory_property_names(memory);
    let (verb, towards) = match direction {
        TransferDirection::Upload => ("upload", "to"),
        TransferDirection::Download => ("download", "from"),
    };
    let what = resource.describe();
    let mut text = format!(
        "{}: {verb} of {} {towards} {what} ({names}); {}",
        chosen.way.name(),
        bytes(size),
        chosen.why
    );
    if chosen.way == Way::Ring {
        text += &format!("; through a ring of {}", bytes(ring));
    }
    let driver = &**resource.allocator.device_allocator.driver();
    if !chosen.way.is_by_host() && engine.queue().is_transfer(driver, size, sharing(resource)) {
        text += "; on the transfer queue";
    }
    if chosen.waits {
        text += "; earlier transfers of it end first";
    }
    text
}

impl Chosen {
    /// Makes the transfer, which pins its resource and uses its registration until it has ended, unless the host
    /// alone carries it out.
    pub fn transfer(
        &self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        resource: &ResourceRef,
        size: u64,
        direction: TransferDirection,
    ) -> PyResult<Transfer> {
        self.transfer_of(py, state, (resource, size), direction, Arc::new(Job::new(size)))
    }

    /// Makes one whose job may be that of others, too.
    pub fn transfer_of(
        &self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        (resource, size): (&ResourceRef, u64),
        direction: TransferDirection,
        job: Arc<Job>,
    ) -> PyResult<Transfer> {
        let is_pinned = self.way == Way::Blit || !self.way.is_by_host() && size > 0;
        if is_pinned {
            // Counted out when it has ended.
            std::mem::forget(resource.enter(py)?);
            if let Some(registration) = &self.registration {
                registration.uses.fetch_add(1, Ordering::AcqRel);
            }
        }
        Ok(Transfer {
            state: state.clone(),
            job,
            size,
            resource: resource.clone(),
            is_pinned: AtomicBool::new(is_pinned),
            way: self.way,
            direction,
            result: Mutex::new(None),
            kept: Mutex::new(None),
            registration: self.registration.clone(),
        })
    }
}
