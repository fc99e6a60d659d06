//! [`Recording`]: a replay as a trace of its own.

use std::collections::HashMap;

use vkmem_engine::{Allocation, DeviceError, MemoryHandle};

use super::driver::DriverEvent;
use crate::description::Description;
use crate::event::{Call, Event, Kind, NONE};
use crate::numbering::makes_allocation;
use crate::trace::{TooLarge, Trace, TraceBuilder};
use crate::values::Placed;

/// Writes the events of a replay, with what went where in it.
pub(super) struct Recording {
    builder: TraceBuilder,
    memories: HashMap<u64, u32>,
    next_memory: u32,
    next_pool: u32,
    next_allocation: u32,
    next_virtual: u32,
    too_large: bool,
}

impl Recording {
    /// Begins. What the recorded program did not have is numbered from the largest numbers of the trace on.
    pub fn new(trace: &Trace, description: Description) -> Self {
        let next = |is_made: fn(Kind) -> bool| {
            let columns = trace.columns();
            let made = (0..columns.len()).filter(|index| is_made(columns.kind(*index)));
            let numbers = made.map(|index| columns.objects()[index]);
            numbers.filter(|number| *number != NONE).map(|number| number + 1).max().unwrap_or(0)
        };
        let mut builder = TraceBuilder::new(description);
        *builder.dictionary_mut() = trace.dictionary().clone();
        Self {
            builder,
            memories: HashMap::new(),
            next_memory: 0,
            next_pool: next(|kind| kind == Kind::CreatePool),
            next_allocation: next(makes_allocation),
            next_virtual: next(|kind| kind == Kind::VirtualAllocate),
            too_large: false,
        }
    }

    /// Appends a call with time, thread and place in the program of an event.
    pub fn push(&mut self, event: &Event<'_>, call: Call<'_>) {
        let head = Event::new(self.builder.len() as u64, event.time, call);
        let Event { thread, frame, allocator, site, .. } = *event;
        let pushed = self.builder.push(&Event { thread, frame, allocator, site, ..head });
        self.too_large |= pushed == Err(TooLarge);
    }

    /// Appends what the driver was asked for during the call of an event.
    pub fn push_driver(&mut self, event: &Event<'_>, events: Vec<DriverEvent>) {
        for it in events {
            let call = match it {
                DriverEvent::Allocated { info, result } => Call::AllocateMemory {
                    memory: result.ok().map(|handle| self.number(handle)),
                    memory_type: Some(info.memory_type_index),
                    size: info.size,
                    priority: info.priority,
                    export_handle_types: info.export_handle_types,
                    names_resource: info.dedicated.is_some(),
                    is_imported: info.import.is_some(),
                    result: result.err().map_or(0, DeviceError::vk_result),
                },
                DriverEvent::Freed(handle) => match self.memories.remove(&handle.0) {
                    Some(memory) => Call::FreeMemory { memory },
                    None => continue,
                },
            };
            self.push(event, call);
        }
    }

    fn number(&mut self, handle: MemoryHandle) -> u32 {
        let number = self.next_memory;
        self.next_memory += 1;
        self.memories.insert(handle.0, number);
        number
    }

    /// Returns the number of a new pool of the replay's own.
    pub fn number_pool(&mut self) -> u32 {
        self.next_pool = self.next_pool.wrapping_add(1);
        self.next_pool.wrapping_sub(1)
    }

    /// Returns the number of a new allocation of the replay's own.
    pub fn number_allocation(&mut self) -> u32 {
        self.next_allocation = self.next_allocation.wrapping_add(1);
        self.next_allocation.wrapping_sub(1)
    }

    /// Returns the number of a new virtual allocation of the replay's own.
    pub fn number_virtual(&mut self) -> u32 {
        self.next_virtual = self.next_virtual.wrapping_add(1);
        self.next_virtual.wrapping_sub(1)
    }

    /// Returns where an allocation is.
    pub fn placed(&self, it: &Allocation) -> Placed {
        Placed {
            memory_type: Some(it.memory_type_index),
            memory: self.memories.get(&it.memory.0).copied(),
            offset: it.offset,
            is_dedicated: it.is_dedicated(),
        }
    }

    /// Returns the trace; `None` if it was too large.
    pub fn finish(self) -> Option<Trace> {
        (!self.too_large).then(|| self.builder.finish())
    }
}
