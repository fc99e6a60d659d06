//! [`FaultRecords`]: what is kept of resources to explain faults: the address of each, and of those that have ended
//! lately. Only allocators that watch memory, and those of devices that were opened with `fault_reports`, have it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use ash::vk;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{Allocation, AllocationId, KeyMap, MemoryHandle};
use vkmem_vulkan::{Driver, ResourceHandle};

use super::ownership::AllocatorState;
use crate::observe::call_site::Origin;
use crate::observe::event::{Event, EventKind, Observable, Placed, Relocated};
use crate::observe::events::Listener;

/// `VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT`
const SHADER_DEVICE_ADDRESS: u64 = 0x20000;

/// Maximum number of resources that have ended; the oldest are dropped.
const MOST_ENDED: usize = 16_384;

/// A resource and its place.
#[derive(Clone)]
pub struct Trace {
    /// The buffer or image.
    pub handle: ResourceHandle,
    /// The address of its first byte on the device, if it is known.
    pub address: Option<u64>,
    /// Size of the buffer, or of the memory of anything else, in bytes.
    pub size: u64,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`; 0 for memory only.
    pub usage: u64,
    /// The memory object.
    pub memory: MemoryHandle,
    /// Offset in the memory object, in bytes.
    pub offset: u64,
    /// Index of the memory type.
    pub memory_type_index: u32,
    /// The name.
    pub name: Option<String>,
    /// Where it was created, if that is tracked.
    pub origin: Option<Origin>,
}

/// How a resource has left its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was destroyed, and its memory freed.
    Freed,
    /// Its memory was taken away.
    Lost,
    /// It moved to another place.
    Moved,
}

/// A place that a resource has left.
#[derive(Clone)]
pub struct Ended {
    /// The resource as it was.
    pub trace: Trace,
    /// How it has left.
    pub end: End,
    /// The frame index at that time.
    pub frame: u64,
}

#[derive(Default)]
struct Tables {
    /// An alias shares the allocation of its base.
    live: KeyMap<(AllocationId, ResourceHandle), Trace>,
    ended: VecDeque<Ended>,
}

impl Tables {
    fn add(&mut self, id: AllocationId, trace: Trace) {
        if self.live.try_reserve(1).is_ok() {
            self.live.insert((id, trace.handle), trace);
        }
    }

    fn take(&mut self, id: AllocationId, handle: ResourceHandle) -> Option<Trace> {
        self.live.remove(&(id, handle))
    }

    fn note_end(&mut self, ended: Ended) {
        if self.ended.len() == MOST_ENDED {
            self.ended.pop_front();
        } else if self.ended.try_reserve(1).is_err() {
            return;
        }
        self.ended.push_back(ended);
    }
}

/// Returns the address of the first byte of a resource, as far as the device tells addresses: of buffers with
/// `SHADER_DEVICE_ADDRESS`, and of all that it reports bindings of.
///
/// # Safety
/// A buffer whose `usage` has `SHADER_DEVICE_ADDRESS` is live and bound.
pub unsafe fn address_of(
    driver: &dyn Driver,
    handle: ResourceHandle,
    usage: u64,
    place: (MemoryHandle, u64),
) -> Option<u64> {
    let of_object = |object_type, object| driver.binding_log()?.address_of(object_type, object);
    let own = match handle {
        ResourceHandle::Buffer(buffer) if usage & SHADER_DEVICE_ADDRESS != 0 => {
            // SAFETY: the caller guarantees a live, bound buffer with the usage.
            unsafe { driver.buffer_device_address(buffer) }
        }
        ResourceHandle::Buffer(_) => of_object(vk::ObjectType::BUFFER, handle.raw()),
        ResourceHandle::Image(_) => of_object(vk::ObjectType::IMAGE, handle.raw()),
        ResourceHandle::Memory => None,
    };
    own.or_else(|| of_object(vk::ObjectType::DEVICE_MEMORY, place.0.0).map(|it| it + place.1))
}

/// The places of resources, live and ended, of one allocator.
pub struct FaultRecords {
    /// Not counted: the allocator has this as a listener.
    state: Weak<AllocatorState>,
    tables: Mutex<Tables, rank::FaultRecords>,
}

impl FaultRecords {
    /// Begins to keep records of what an allocator creates.
    pub fn begin(state: &Arc<AllocatorState>) -> Arc<Self> {
        let records = Arc::new(Self { state: Arc::downgrade(state), tables: Mutex::default() });
        state.events.begin(records.clone());
        records
    }

    /// Returns the places that resources have left, the newest first.
    pub fn ended(&self) -> Vec<Ended> {
        self.tables.lock().ended.iter().rev().cloned().collect()
    }

    /// Returns the resource that lives or waits for its frame in an allocation.
    pub fn find(&self, id: AllocationId, handle: ResourceHandle) -> Option<Trace> {
        self.tables.lock().live.get(&(id, handle)).cloned()
    }

    fn created(
        &self,
        state: &AllocatorState,
        handle: ResourceHandle,
        placed: &Placed,
        (name, origin): (Option<&str>, Option<Origin>),
    ) {
        let Allocation { id, memory, offset, memory_type_index, .. } = placed.allocation;
        let driver = &**state.device.driver;
        let bound_usage = if placed.is_bound { placed.usage } else { 0 };
        // SAFETY: it has just been created, and bound if its usage is passed.
        let address = unsafe { address_of(driver, handle, bound_usage, (memory, offset)) };
        let trace = Trace {
            handle,
            address: address.filter(|_| placed.is_bound),
            size: placed.size,
            usage: placed.usage,
            memory,
            offset,
            memory_type_index,
            name: name.map(String::from),
            origin,
        };
        self.tables.lock().add(id, trace);
    }

    fn ended_now(&self, state: &AllocatorState, it: &dyn Observable, end: End) {
        let Some(mut trace) = self.tables.lock().take(it.id(), it.handle()) else { return };
        if trace.address.is_none() {
            let driver = &**state.device.driver;
            // SAFETY: without usage it is looked up in the log alone.
            let found =
                unsafe { address_of(driver, trace.handle, 0, (trace.memory, trace.offset)) };
            trace.address = found;
        }
        if trace.address.is_some() && !it.is_alias() {
            // It may have been renamed. A lost one has no allocation any more.
            trace.name = state.engine().name(it.id()).ok().flatten().or(trace.name);
        }
        self.note_end(state, trace, end);
    }

    fn moved(&self, state: &AllocatorState, it: &Relocated) {
        let Some(before) = self.tables.lock().take(it.before, it.handle_before) else { return };
        let Allocation { memory, offset, memory_type_index, .. } = it.place;
        let driver = &**state.device.driver;
        // SAFETY: what has moved is live and bound to its new memory.
        let address = unsafe { address_of(driver, it.handle, before.usage, (memory, offset)) };
        let after = Trace {
            handle: it.handle,
            address,
            memory,
            offset,
            memory_type_index,
            ..before.clone()
        };
        self.tables.lock().add(it.after, after);
        self.note_end(state, before, End::Moved);
    }

    fn note_end(&self, state: &AllocatorState, trace: Trace, end: End) {
        if trace.address.is_some() {
            let frame = state.current_frame();
            self.tables.lock().note_end(Ended { trace, end, frame });
        }
    }
}

impl Listener for FaultRecords {
    fn interest(&self) -> u32 {
        let ends = EventKind::Free.bit() | EventKind::Lose.bit();
        EventKind::Create.bit() | ends | EventKind::Move.bit()
    }

    fn receive(&self, event: &Event<'_>) {
        // The call that the event is of keeps the allocator alive, unless it is being dropped.
        let Some(state) = self.state.upgrade() else { return };
        match event {
            Event::Create { resources, name, .. } => {
                for (index, it) in resources.iter().enumerate() {
                    self.created(&state, it.handle(), &it.placed(), (name(index), it.origin()));
                }
            }
            Event::Free(resources) => {
                resources.iter().for_each(|it| self.ended_now(&state, it, End::Freed));
            }
            Event::Lose(resources) => {
                resources.iter().for_each(|it| self.ended_now(&state, it, End::Lost));
            }
            Event::Move(moved) => moved.iter().for_each(|it| self.moved(&state, it)),
            _ => {}
        }
    }
}
