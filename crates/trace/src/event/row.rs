//! [`Row`]: an event as numbers of fixed size, between the typed form, the columns of a trace and files.

use vkmem_engine::{AllocationCreateFlags, Strategy};

use super::call::{Call, Kind};
use super::parts::{Data, Object};
use super::timed::Event;
use crate::bytes::Input;
use crate::dictionary::{Dictionary, SiteId};
use crate::error::Damage;
use crate::field::{Field, Output};
use crate::values::{Placed, Request};

/// No object, request, site or block.
pub(crate) const NONE: u32 = u32::MAX;
/// The memory type that the trace does not say.
pub(crate) const NO_TYPE: u8 = u8::MAX;

/// Bit of [`Row::flags`]: [`Event::is_state`].
pub(crate) const STATE: u8 = 1;
/// Bit of [`Row::flags`]: it is known where the allocation is.
pub(crate) const PLACED: u8 = 2;
/// Bit of [`Row::flags`]: the allocation has a memory object of its own.
pub(crate) const DEDICATED: u8 = 4;
/// Bit of [`Row::flags`]: what does not fit in a row is in a payload.
pub(crate) const PAYLOAD: u8 = 8;

/// An event as numbers. Kinds below 64 are completely in here, but for name and data of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub kind: Kind,
    pub flags: u8,
    pub memory_type: u8,
    pub allocator: u16,
    pub thread: u32,
    pub sequence: u64,
    pub time: u64,
    pub frame: u64,
    pub site: u32,
    /// The allocation or virtual allocation; for other kinds the object that they are about.
    pub object: u32,
    pub request: u32,
    /// Size in bytes; 0 if it is not known.
    pub size: u64,
    /// Size of the buffer in bytes, 0 if it is not known; of a virtual allocation the block in its set.
    pub buffer_size: u64,
    pub offset: u64,
    /// The memory object; of a virtual allocation its block or set.
    pub memory: u32,
}

/// A virtual request as the request that is stored in its place.
fn virtual_request(alignment: u64, upper: bool, strategy: Strategy) -> Request {
    let mut flags = match strategy {
        Strategy::Balanced => AllocationCreateFlags::empty(),
        Strategy::MinMemory => AllocationCreateFlags::STRATEGY_MIN_MEMORY,
        Strategy::MinTime => AllocationCreateFlags::STRATEGY_MIN_TIME,
        Strategy::MinOffset => AllocationCreateFlags::STRATEGY_MIN_OFFSET,
    };
    flags.set(AllocationCreateFlags::UPPER_ADDRESS, upper);
    Request { alignment: Some(alignment), flags, ..Request::default() }
}

impl Row {
    /// Returns a row of a kind with the head of an event and nothing else.
    #[inline]
    pub fn of_head(event: &Event<'_>) -> Self {
        Self {
            kind: event.call.kind(),
            flags: if event.is_state { STATE } else { 0 },
            memory_type: NO_TYPE,
            allocator: event.allocator,
            thread: event.thread,
            sequence: event.sequence,
            time: event.time,
            frame: event.frame,
            site: event.site.map_or(NONE, |it| it.0),
            object: NONE,
            request: NONE,
            size: 0,
            buffer_size: 0,
            offset: 0,
            memory: NONE,
        }
    }

    /// Turns an event into a row; what does not fit is appended to the output.
    #[inline]
    pub fn of(event: &Event<'_>, out: &mut Output<'_>) -> Self {
        let mut row = Self::of_head(event);
        match &event.call {
            Call::Allocate { allocation, request, size, buffer_size, placed, name, data } => {
                row.object = *allocation;
                row.set_request(out.dictionary.request(request), request, *size, *buffer_size);
                row.set_placed(placed.as_ref());
                if name.is_some() || *data != Data::None {
                    row.flags |= PAYLOAD;
                    name.put(out);
                    data.put(out);
                }
            }
            Call::Free { allocation } | Call::Map { allocation } | Call::Unmap { allocation } => {
                row.object = *allocation;
            }
            Call::Flush { allocation, offset, size }
            | Call::Invalidate { allocation, offset, size } => {
                (row.object, row.offset, row.size) = (*allocation, *offset, *size);
            }
            Call::BeginFrame {} => {}
            Call::VirtualAllocate {
                space,
                allocation,
                size,
                alignment,
                upper,
                strategy,
                block,
                offset,
            } => {
                (row.object, row.memory) = (*allocation, *space);
                (row.size, row.offset) = (*size, *offset);
                row.buffer_size = u64::from(block.unwrap_or(NONE));
                let request = virtual_request(*alignment, *upper, *strategy);
                row.request = out.dictionary.request(&request);
            }
            Call::VirtualFree { space, allocation } => {
                (row.object, row.memory) = (*allocation, *space);
            }
            call => {
                row.flags |= PAYLOAD;
                call.put(out);
                row.take_figures(call, out.dictionary);
            }
        }
        row
    }

    /// A size of 0 means that it is not known; only a buffer has a size of its own.
    fn set_request(
        &mut self,
        number: u32,
        request: &Request,
        size: Option<u64>,
        buffer_size: Option<u64>,
    ) {
        self.request = number;
        self.size = size.unwrap_or(0);
        if matches!(request.resource, crate::values::Resource::Buffer(_)) {
            self.buffer_size = buffer_size.unwrap_or(0);
        }
    }

    fn set_placed(&mut self, placed: Option<&Placed>) {
        let Some(placed) = placed else { return };
        self.flags |= PLACED | if placed.is_dedicated { DEDICATED } else { 0 };
        let memory_type = placed.memory_type.and_then(|it| u8::try_from(it).ok());
        self.memory_type = memory_type.unwrap_or(NO_TYPE);
        (self.memory, self.offset) = (placed.memory.unwrap_or(NONE), placed.offset);
    }

    /// Fills columns with figures of a call that is stored as a payload, for those who only look at columns.
    pub fn take_figures(&mut self, call: &Call<'_>, dictionary: &Dictionary) {
        match call {
            Call::AllocateFailed { request, size, buffer_size, .. } => {
                self.set_request(dictionary.number_of(request), request, *size, *buffer_size);
            }
            Call::Alias { allocation, request, size, offset, .. } => {
                self.object = *allocation;
                self.set_request(dictionary.number_of(request), request, *size, None);
                self.offset = *offset;
            }
            Call::Import { allocation, request, size, placed, .. } => {
                self.object = *allocation;
                self.set_request(dictionary.number_of(request), request, Some(*size), None);
                self.set_placed(placed.as_ref());
            }
            Call::ProposeMove { allocation, placed, .. } => {
                self.object = *allocation;
                self.set_placed(Some(placed));
            }
            Call::EndMove { allocation, placed, .. } => {
                self.object = *allocation;
                self.set_placed(placed.as_ref());
            }
            Call::CreateLost { allocation }
            | Call::KeepSource { allocation, .. }
            | Call::MakeEvictable { allocation, .. }
            | Call::Query { allocation }
            | Call::RequestFree { allocation }
            | Call::SetData { allocation, .. }
            | Call::Name { object: Object::Allocation(allocation), .. } => {
                self.object = *allocation;
            }
            Call::Resize { allocation, size } => {
                (self.object, self.size) = (*allocation, *size);
            }
            Call::CreatePool { pool, .. } => self.object = pool.unwrap_or(NONE),
            Call::DestroyPool { pool } | Call::Name { object: Object::Pool(pool), .. } => {
                self.object = *pool;
            }
            Call::AllocateMemory { memory, memory_type, size, .. } => {
                (self.memory, self.size) = (memory.unwrap_or(NONE), *size);
                let memory_type = memory_type.and_then(|it| u8::try_from(it).ok());
                self.memory_type = memory_type.unwrap_or(NO_TYPE);
            }
            Call::FreeMemory { memory } => self.memory = *memory,
            Call::VirtualAllocateFailed { space, size, .. } => {
                (self.memory, self.size) = (*space, *size);
            }
            Call::VirtualMove { space, allocation, offset } => {
                (self.memory, self.object, self.offset) = (*space, *allocation, *offset);
            }
            Call::SetVirtualData { space, allocation, .. } => {
                (self.memory, self.object) = (*space, *allocation);
            }
            Call::CreateSpace { space, size, .. } => {
                (self.memory, self.size) = (*space, size.unwrap_or(0));
            }
            _ => {}
        }
    }

    fn placed(&self) -> Option<Placed> {
        (self.flags & PLACED != 0).then(|| Placed {
            memory_type: (self.memory_type != NO_TYPE).then_some(u32::from(self.memory_type)),
            memory: (self.memory != NONE).then_some(self.memory),
            offset: self.offset,
            is_dedicated: self.flags & DEDICATED != 0,
        })
    }

    /// Turns the row back into an event; `payload` is what was appended to the output, if anything was.
    pub fn event<'a>(
        &self,
        payload: &mut Input<'a>,
        dictionary: &'a Dictionary,
    ) -> Result<Event<'a>, Damage> {
        let allocation = self.object;
        let call = match self.kind {
            Kind::Allocate => {
                let (name, data) = if self.flags & PAYLOAD != 0 {
                    (Field::get(payload, dictionary)?, Field::get(payload, dictionary)?)
                } else {
                    (None, Data::None)
                };
                Call::Allocate {
                    allocation,
                    request: self.request(payload, dictionary)?,
                    size: (self.size != 0).then_some(self.size),
                    buffer_size: (self.buffer_size != 0).then_some(self.buffer_size),
                    placed: self.placed(),
                    name,
                    data,
                }
            }
            Kind::Free => Call::Free { allocation },
            Kind::Map => Call::Map { allocation },
            Kind::Unmap => Call::Unmap { allocation },
            Kind::Flush => Call::Flush { allocation, offset: self.offset, size: self.size },
            Kind::Invalidate => {
                Call::Invalidate { allocation, offset: self.offset, size: self.size }
            }
            Kind::BeginFrame => Call::BeginFrame {},
            Kind::VirtualAllocate => {
                let request = self.request(payload, dictionary)?;
                let block = u32::try_from(self.buffer_size).unwrap_or(NONE);
                Call::VirtualAllocate {
                    space: self.memory,
                    allocation,
                    size: self.size,
                    alignment: request.alignment.unwrap_or(1),
                    upper: request.flags.contains(AllocationCreateFlags::UPPER_ADDRESS),
                    strategy: request.strategy(),
                    block: (block != NONE).then_some(block),
                    offset: self.offset,
                }
            }
            Kind::VirtualFree => Call::VirtualFree { space: self.memory, allocation },
            kind => Call::get(kind, payload, dictionary)?,
        };
        if self.site != NONE && self.site as usize >= dictionary.site_count() {
            return payload.wrong(format!("call site {} is not defined", self.site));
        }
        Ok(Event {
            sequence: self.sequence,
            time: self.time,
            thread: self.thread,
            frame: self.frame,
            allocator: self.allocator,
            site: (self.site != NONE).then_some(SiteId(self.site)),
            is_state: self.flags & STATE != 0,
            call,
        })
    }

    fn request(&self, payload: &Input<'_>, dictionary: &Dictionary) -> Result<Request, Damage> {
        match dictionary.requests().get(self.request as usize) {
            Some(request) => Ok(*request),
            None => payload.wrong(format!("request {} is not defined", self.request)),
        }
    }
}
