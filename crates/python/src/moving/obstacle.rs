//! Why a resource stays where it is.

use std::sync::atomic::Ordering;

use ash::vk::QueueFlags;
use vkmem_vulkan::ResourceHandle;
use vkmem_vulkan::kept_info::KeptInfo;

use super::by_host;
use crate::lifetime::ownership::Resource;

/// Why a resource does not move, for the counts of a defragmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obstacle {
    /// It was created without `movable`.
    NotMovable,
    /// It was freed, and is not given out again yet.
    Quarantine,
    /// A view of its memory is open.
    Mapped,
    /// A transfer, or a call of another thread, uses it.
    InUse,
    /// A buffer or an image of another resource lies in its memory.
    Aliased,
    /// Somebody has its device address.
    DeviceAddress,
    /// The device's queue cannot copy it: it has no `GRAPHICS`; or there is none, and the host cannot copy it
    /// either.
    Queue,
    /// It slides through other memory, for which there is no room.
    NoRoom,
    /// It has ended.
    Ended,
}

/// Whether the device's own queue, or the host, copies what is in a resource.
fn can_copy(resource: &Resource, kept: &KeptInfo) -> bool {
    let Some(flags) = by_host::queue_flags(&resource.allocator) else {
        return by_host::is_moved_by_host(resource);
    };
    match kept {
        KeptInfo::Image(image) if image.needs_graphics() => flags.contains(QueueFlags::GRAPHICS),
        _ => true,
    }
}

impl Obstacle {
    /// As Python names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotMovable => "not movable",
            Self::Quarantine => "quarantine",
            Self::Mapped => "mapped",
            Self::InUse => "in use",
            Self::Aliased => "aliased",
            Self::DeviceAddress => "device address",
            Self::Queue => "queue",
            Self::NoRoom => "no room",
            Self::Ended => "ended",
        }
    }

    /// What keeps a resource where it is at the moment; `None` if it can move. The caller holds the GIL.
    pub fn of(resource: &Resource) -> Option<Self> {
        let Some(movable) = resource.movable() else { return Some(Self::NotMovable) };
        if let Some(why) = Self::of_use(resource) {
            Some(why)
        } else if movable.is_held_by_address() {
            Some(Self::DeviceAddress)
        } else if resource.handle() == ResourceHandle::Memory {
            Some(Self::NotMovable)
        } else if !can_copy(resource, &movable.kept) {
            Some(Self::Queue)
        } else {
            None
        }
    }

    /// What uses a resource at the moment; `None` if nothing does. The caller holds the GIL.
    pub fn of_use(resource: &Resource) -> Option<Self> {
        if resource.pins.is_closed() {
            Some(Self::Ended)
        } else if resource.open_mappings.load(Ordering::Acquire) > 0 {
            Some(Self::Mapped)
        } else if resource.bound_here.load(Ordering::Acquire) > 0 {
            Some(Self::Aliased)
        } else if resource.pins.is_in_use() {
            Some(Self::InUse)
        } else {
            None
        }
    }
}
