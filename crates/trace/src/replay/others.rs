//! Aliases, imports, and allocations that were created lost.

use vkmem_engine::{
    AliasRequest, Allocation, AllocationId, CacheHint, ImportRequest, MemoryHandle, MemoryImport,
    MemoryRequirements, PoolKey, SlotKey,
};

use super::objects::{Live, LiveKind};
use super::tally::reason;
use super::worker::{NO_OBJECT, NOT_POSSIBLE, Worker};
use super::world::Instance;
use crate::event::{Call, Event, Kind};
use crate::values::Request;

impl Worker<'_> {
    /// Plays an alias, an import, or an allocation that was created lost.
    pub fn other_allocation(&mut self, index: usize, event: &Event<'_>) {
        let Some(instance) = self.instance(event) else { return };
        match &event.call {
            Call::Alias { allocation, base, request, size, offset } => {
                self.alias(index, event, instance, (*allocation, *base), request, *size, *offset);
            }
            Call::Import { .. } => self.import(index, event, instance),
            Call::CreateLost { allocation } => {
                self.put_nothing(index, event, *allocation, 0);
                self.record(event, event.call.clone());
            }
            _ => self.tally.skip(NOT_POSSIBLE),
        }
    }

    /// Puts something that has no memory.
    pub fn put_nothing(&mut self, index: usize, event: &Event<'_>, number: u32, size: u64) {
        let nothing = Allocation {
            id: AllocationId::new(PoolKey::Default(0), false, SlotKey::NONE),
            hint: CacheHint::default(),
            size: 0,
            memory: MemoryHandle(0),
            offset: 0,
            memory_type_index: 0,
            mapped: None,
        };
        self.put(index, event, number, nothing, LiveKind::Lost, size);
    }

    fn put(
        &mut self,
        index: usize,
        event: &Event<'_>,
        number: u32,
        allocation: Allocation,
        kind: LiveKind,
        size: u64,
    ) {
        let live = Live {
            allocation,
            kind,
            allocator: event.allocator,
            event: index as u32,
            size,
            data_event: index as u32,
            name_event: None,
            is_retired: false,
            place: 0,
        };
        self.world.allocations.put(number, live);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one event")]
    fn alias(
        &mut self,
        index: usize,
        event: &Event<'_>,
        instance: &Instance,
        (number, base): (u32, u32),
        request: &Request,
        size: Option<u64>,
        offset: u64,
    ) {
        let Some(of) = self.world.allocations.with(base, |it| it.allocation) else {
            return self.tally.skip(NO_OBJECT);
        };
        let mut request = *request;
        // It goes where the base is.
        request.pool = None;
        let asked = match self.asked(event, instance, &request, size, None) {
            Ok(asked) => asked,
            Err(why) => return self.tally.skip(why),
        };
        let alias = AliasRequest {
            requirements: MemoryRequirements { size: asked.size, ..asked.engine.requirements },
            kind: asked.engine.kind,
            local_offset: offset,
        };
        match self.timed(Kind::Alias, || instance.allocator.alias(&of, &alias)) {
            Ok(it) => {
                self.put(index, event, number, it, LiveKind::Alias, asked.size);
                self.record(event, event.call.clone());
            }
            Err(error) => self.tally.failed_now.add(index, asked.size, || reason(&error)),
        }
    }

    fn import(&mut self, index: usize, event: &Event<'_>, instance: &Instance) {
        let Call::Import {
            allocation,
            request,
            whole_size,
            offset,
            size,
            handle_type,
            memory_type_index,
            is_opaque,
            placed,
        } = &event.call
        else {
            return;
        };
        let mut asked = match self.asked(event, instance, request, Some(*whole_size), None) {
            Ok(asked) => asked,
            Err(why) => return self.tally.skip(why),
        };
        let mapping = self.world.mapping.as_ref();
        asked.engine.create_info.pool = None;
        let import = ImportRequest {
            whole: asked.engine,
            offset: *offset,
            size: *size,
            import: MemoryImport { handle_type: *handle_type, handle: 0 },
            memory_type_index: memory_type_index.map(|it| match mapping {
                Some(mapping) => mapping.memory_type(it),
                None => it,
            }),
            is_opaque: *is_opaque,
        };
        let made = self.timed(Kind::Import, || instance.allocator.import(&import));
        self.after(index, event, instance);
        match made {
            Ok(it) => {
                self.check(index, &it, placed.as_ref());
                asked.size = *size;
                if self.recording.is_some() {
                    let placed = self.placed(&it);
                    let mut call = event.call.clone();
                    if let Call::Import { placed: place, .. } = &mut call {
                        *place = placed;
                    }
                    self.record(event, call);
                }
                self.add(index, event, instance, *allocation, &asked, it);
            }
            Err(error) => self.tally.failed_now.add(index, *size, || reason(&error)),
        }
    }
}
