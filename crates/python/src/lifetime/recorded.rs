//! Recording an allocator: its begin, also in the middle of its life, and its end.

use std::sync::{Arc, Weak};

use pyo3::prelude::*;
use vkmem_engine::recording::{Subject, Told, ToldObject, is_active};
use vkmem_engine::{
    AllocationCreateInfo, AllocationRequest, MemoryRequirements, PoolKey, ResourceUse,
};
use vkmem_trace::{AllocatorHead, Source};
use vkmem_vulkan::ResourceHandle;

use super::ownership::{AllocatorState, Resource, ResourceRef};
use crate::interpreter::detach;
use crate::observe::events::Listener;
use crate::recording::attached::Attached;
use crate::recording::options::RecordedOptions;
use crate::recording::session::Session;
use crate::recording::space::RecordedSpace;

impl AllocatorState {
    /// Records the allocator from now on; what exists is told first. Ends what recorded it until now.
    pub fn attach(&self, py: Python<'_>, session: &Arc<Session>, is_own: bool) -> PyResult<()> {
        session.check_process(py)?;
        self.end_recording(py);
        let driver = self.device_allocator.driver();
        let enabled = driver.extensions().iter().map(|name| (name.clone(), true));
        let head = AllocatorHead {
            driver_version: driver.driver_version(),
            extensions: enabled.collect(),
            settings: self.recorded_options.get().map(RecordedOptions::texts).unwrap_or_default(),
        };
        let source = detach(py, || session.recording().attach(self.engine(), &self.options, head));
        self.tell_what_exists(py, &source);
        for space in self.live_spaces() {
            detach(py, || space.begin(session.recording(), source.number(), false));
        }
        *self.attached.lock() = Some(Attached::new(session.clone(), source, is_own));
        self.events.begin(session.clone());
        Ok(())
    }

    /// Ends the recording of the allocator, and the recording itself if it has no other use.
    pub fn end_recording(&self, py: Python<'_>) {
        let Some(attached) = self.attached.lock().take() else { return };
        let spaces = self.live_spaces();
        detach(py, || {
            spaces.iter().for_each(|space| space.end());
            drop(self.engine().set_recorder(None));
        });
        let listener: Arc<dyn Listener> = attached.session.clone();
        self.events.end(&listener);
        if attached.is_own {
            attached.session.end(py);
        }
    }

    /// Ends the recording of the allocator if it is this one.
    pub fn end_recording_in(&self, py: Python<'_>, session: &Arc<Session>) {
        let is_this =
            self.attached.lock().as_ref().is_some_and(|it| Arc::ptr_eq(&it.session, session));
        if is_this {
            self.end_recording(py);
        }
    }

    /// Records what divides its memory with it, now and whenever it is recorded.
    pub fn record_space(&self, py: Python<'_>, space: &Arc<dyn RecordedSpace>) {
        {
            let mut spaces = self.spaces.lock();
            spaces.retain(|it| it.strong_count() > 0);
            spaces.push(Arc::downgrade(space));
        }
        if let Some(attached) = self.attached() {
            let (recording, number) = (attached.session.recording(), attached.source.number());
            detach(py, || space.begin(recording, number, true));
        }
    }

    fn live_spaces(&self) -> Vec<Arc<dyn RecordedSpace>> {
        self.spaces.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns what it has while it is recorded.
    pub fn attached(&self) -> Option<Arc<Attached>> {
        if is_active() { self.attached.lock().clone() } else { None }
    }

    /// Notes where the call is made that creates something next on this thread, if it is recorded and tracked.
    #[inline(always)]
    pub fn note_call_site(&self, py: Python<'_>) {
        if is_active() && self.sites.is_tracking() {
            self.note_recorded_site(py);
        }
    }

    #[cold]
    fn note_recorded_site(&self, py: Python<'_>) {
        if let Some(attached) = self.attached() {
            attached.note_call_site(py, &self.sites);
        }
    }

    /// Tells pools, memory objects and resources that existed when the recording began.
    fn tell_what_exists(&self, py: Python<'_>, source: &Source) {
        let engine = self.engine();
        for id in engine.custom_pools() {
            if let Ok(info) = engine.pool_info(id) {
                source.tell_state(&Told::CreatePool(&info, Ok(id)));
                let name = self.pool_names.lock().get(&id).cloned();
                if let Some(name) = name {
                    source.tell_state(&Told::NamePool(id, Some(&name)));
                }
            }
        }
        for (handle, info) in engine.memory_objects() {
            source.tell_state(&Told::AllocateMemory(&info, Ok(handle)));
        }
        // Unlocked before the references are dropped.
        let live = self.live.lock().all();
        // What was created first is told first, so that an alias comes after what it lies in.
        let mut ordered: Vec<&ResourceRef> = live.iter().collect();
        ordered.sort_by_key(|it| it.serial());
        for resource in ordered {
            tell_resource(py, source, resource);
        }
    }
}

impl Resource {
    /// Returns the resource as those who record its allocator are told of it.
    pub(super) fn as_told(&self) -> ToldObject {
        match self.alias() {
            None => ToldObject::Allocation(self.allocation().id),
            Some(_) => {
                let (handle, is_image) = self.handle().as_told();
                ToldObject::Alias(handle, is_image)
            }
        }
    }
}

fn tell_resource(_: Python<'_>, source: &Source, resource: &ResourceRef) {
    let made = resource.allocation();
    let subject = match resource.handle() {
        ResourceHandle::Memory => Subject::None,
        ResourceHandle::Buffer(_) => Subject::Buffer {
            size: resource.host_size,
            flags: 0,
            usage: resource.usage,
            sharing_mode: u32::from(resource.families != 0),
        },
        ResourceHandle::Image(_) => Subject::Image {
            flags: 0,
            image_type: 0,
            format: 0,
            extent: [0; 3],
            mip_levels: 0,
            array_layers: 0,
            samples: 0,
            tiling: 0,
            usage: resource.usage,
            sharing_mode: u32::from(resource.families != 0),
            initial_layout: 0,
        },
    };
    let requirements = MemoryRequirements {
        size: made.size,
        // What it was asked for is not known any more: this fits.
        alignment: 1 << made.offset.trailing_zeros().min(16),
        memory_type_bits: 1 << made.memory_type_index,
        prefers_dedicated: false,
        requires_dedicated: made.is_dedicated(),
    };
    let kind = resource.kind;
    if let Some(alias) = resource.alias() {
        let base = alias.base.allocation();
        let handle = resource.handle().as_told();
        let (base, subject, made) = (&base, &subject, &made);
        let requirements = &requirements;
        source.tell_state(&Told::Alias { base, requirements, kind, subject, made, handle });
        return;
    }
    let pool = match made.id.pool_key() {
        PoolKey::Custom(id) => Some(id),
        PoolKey::Default(_) => None,
    };
    let create_info = AllocationCreateInfo { pool, ..AllocationCreateInfo::default() };
    let resource_use = ResourceUse::Unknown;
    let dedicated = None;
    let request = AllocationRequest { requirements, create_info, kind, resource_use, dedicated };
    source.tell_state(&Told::Allocate(&request, &subject, Ok(&made)));
    if let Ok(Some(name)) = resource.name() {
        source.tell_state(&Told::Name(resource.as_told(), Some(&name)));
    }
    if let Some(data) = resource.custom_data() {
        source.tell_state(&Told::Data(resource.as_told(), Some(&data)));
    }
}
