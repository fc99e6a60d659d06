//! The lines of calls.

use std::collections::HashMap;

use vkmem_engine::{Algorithm, PoolCreateInfo};

use super::super::lines::{Fields, pointer};
use crate::error::Position;
use crate::event::{Call, Data, Event, HostAndDeviceLimits, Object};
use crate::trace::TraceBuilder;
use crate::values::Numbers;

/// A live allocation.
#[derive(Clone, Copy)]
pub(super) struct Live {
    pub number: u32,
    /// Its user data are a text.
    pub has_text: bool,
}

/// What the calls so far have left.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) allocations: HashMap<u64, Live>,
    pools: HashMap<u64, u32>,
    runs: HashMap<u64, u32>,
    next_allocation: u32,
    next_pool: u32,
    next_run: u32,
    frame: u64,
    sequence: u64,
}

/// A line: what its events have in common.
pub(super) struct Head {
    line: u64,
    time: u64,
    thread: u32,
}

impl Calls {
    /// Takes a line.
    pub fn line(
        &mut self,
        trace: &mut TraceBuilder,
        number: u64,
        line: &str,
    ) -> Result<(), String> {
        let mut fields = Fields::new(line);
        let (thread, time) = (fields.thread()?, fields.seconds()?);
        let head = Head { line: number, time, thread };
        let frame = fields.number()?;
        let function = fields.text()?;
        if frame != self.frame {
            self.frame = frame;
            self.push(trace, &head, Call::BeginFrame {})?;
        }
        self.call(trace, &head, function, &mut fields)
    }

    pub(super) fn push(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        call: Call<'_>,
    ) -> Result<(), String> {
        let frame = self.frame;
        let event = Event::new(self.sequence, head.time, call);
        self.sequence += 1;
        Ok(trace.push(&Event { thread: head.thread, frame, ..event })?)
    }

    fn call(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        function: &str,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        let call = match function {
            "vmaCreateAllocator" => Call::CreateAllocator { options: None },
            "vmaDestroyAllocator" => Call::DestroyAllocator {},
            "vmaCreatePool" => return self.create_pool(trace, head, fields),
            "vmaDestroyPool" | "vmaMakePoolAllocationsLost" | "vmaSetPoolName" => {
                let address = fields.pointer()?;
                let Some(pool) = self.pool(trace, head, address) else { return Ok(()) };
                match function {
                    "vmaDestroyPool" => {
                        self.pools.remove(&address);
                        Call::DestroyPool { pool }
                    }
                    "vmaSetPoolName" => {
                        let name = Some(fields.rest()).filter(|it| !it.is_empty());
                        Call::Name { object: Object::Pool(pool), name }
                    }
                    _ => Call::MakeLost { pool: Some(pool), count: None },
                }
            }
            "vmaCreateBuffer" => return self.create_buffer(trace, head, fields),
            "vmaCreateImage" => return self.create_image(trace, head, fields),
            "vmaAllocateMemory"
            | "vmaAllocateMemoryPages"
            | "vmaAllocateMemoryForBuffer"
            | "vmaAllocateMemoryForImage" => {
                return self.allocate_memory(trace, head, function, fields);
            }
            "vmaCreateLostAllocation" => {
                let address = fields.pointer()?;
                let allocation = self.add(trace, head, address, false);
                Call::CreateLost { allocation }
            }
            "vmaFreeMemoryPages" => {
                let addresses = fields.pointers()?;
                return self.free_pages(trace, head, &addresses);
            }
            "vmaDefragmentationBegin" => return self.begin_defragmentation(trace, head, fields),
            "vmaDefragmentationEnd" => {
                let Some(run) = self.runs.remove(&fields.pointer()?) else { return Ok(()) };
                end_of_run(run)
            }
            _ => return self.call_for_allocation(trace, head, function, fields),
        };
        self.push(trace, head, call)
    }

    /// Takes a call whose first column is an allocation that exists.
    fn call_for_allocation(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        function: &str,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        if !FOR_ALLOCATION.contains(&function) {
            let short: String = function.chars().take(60).collect();
            return Err(format!("no version of VMA records a function {short:?}"));
        }
        let address = fields.pointer()?;
        let Some(live) = self.find(trace, head, address) else { return Ok(()) };
        let allocation = live.number;
        let touched = [allocation];
        let call = match function {
            "vmaMapMemory" => Call::Map { allocation },
            "vmaUnmapMemory" => Call::Unmap { allocation },
            "vmaTouchAllocation" => Call::Touch { allocations: Numbers::new(&touched) },
            "vmaGetAllocationInfo" => Call::Query { allocation },
            "vmaFlushAllocation" => {
                Call::Flush { allocation, offset: fields.number()?, size: fields.number()? }
            }
            "vmaInvalidateAllocation" => {
                Call::Invalidate { allocation, offset: fields.number()?, size: fields.number()? }
            }
            "vmaResizeAllocation" => Call::Resize { allocation, size: fields.number()? },
            "vmaSetAllocationUserData" => match user_data(fields.rest(), live.has_text) {
                (_, data @ Data::Number(_)) => Call::SetData { allocation, data },
                (None, data) if !live.has_text => Call::SetData { allocation, data },
                (name, _) => Call::Name { object: Object::Allocation(allocation), name },
            },
            // vmaDestroyBuffer, vmaDestroyImage, vmaFreeMemory.
            _ => {
                self.allocations.remove(&address);
                Call::Free { allocation }
            }
        };
        self.push(trace, head, call)
    }

    pub(super) fn pool(&self, trace: &mut TraceBuilder, head: &Head, address: u64) -> Option<u32> {
        let found = self.pools.get(&address).copied();
        if found.is_none() && address != 0 {
            head.warn(trace, format!("pool {address:#x} was not created"));
        }
        found
    }

    pub(super) fn find(&self, trace: &mut TraceBuilder, head: &Head, address: u64) -> Option<Live> {
        let found = self.allocations.get(&address).copied();
        if found.is_none() && address != 0 {
            head.warn(trace, format!("allocation {address:#x} was not created"));
        }
        found
    }

    /// Numbers a new allocation.
    pub(super) fn add(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        address: u64,
        has_text: bool,
    ) -> u32 {
        let number = self.next_allocation;
        self.next_allocation += 1;
        if address != 0 && self.allocations.insert(address, Live { number, has_text }).is_some() {
            head.warn(
                trace,
                format!("allocation {address:#x} is created again, but was not freed"),
            );
        }
        number
    }

    fn create_pool(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        let (memory_type_index, flags) = (fields.number()?, fields.number::<u32>()?);
        let block_size = Some(fields.number()?).filter(|size| *size != 0);
        let (min, max): (u64, u64) = (fields.number()?, fields.number()?);
        let frames_in_use = Some(fields.number()?);
        let info = PoolCreateInfo {
            memory_type_index,
            block_size,
            min_block_count: u32::try_from(min).unwrap_or(u32::MAX),
            // The largest number of size_t stands for no limit, too.
            max_block_count: u32::try_from(max).unwrap_or(0),
            algorithm: match flags & 0xC {
                0 => Algorithm::Tlsf,
                4 => Algorithm::Linear,
                _ => Algorithm::Buddy,
            },
            ignore_buffer_image_granularity: flags & 2 != 0,
            frames_in_use,
            ..PoolCreateInfo::default()
        };
        let address = fields.pointer()?;
        let (mut pool, mut failure) = (None, None);
        if address == 0 {
            failure = Some(Box::default());
        } else {
            pool = Some(self.next_pool);
            if self.pools.insert(address, self.next_pool).is_some() {
                head.warn(
                    trace,
                    format!("pool {address:#x} is created again, but was not destroyed"),
                );
            }
            self.next_pool += 1;
        }
        self.push(trace, head, Call::CreatePool { pool, info, has_next: false, failure })
    }

    fn begin_defragmentation(
        &mut self,
        trace: &mut TraceBuilder,
        head: &Head,
        fields: &mut Fields<'_>,
    ) -> Result<(), String> {
        let flags = fields.number()?;
        let (mut allocations, mut pools) = (Vec::new(), Vec::new());
        for address in fields.pointers()? {
            allocations.extend(self.find(trace, head, address).map(|it| it.number));
        }
        for address in fields.pointers()? {
            pools.extend(self.pool(trace, head, address));
        }
        let limits = HostAndDeviceLimits {
            flags,
            max_host_bytes: fields.number()?,
            max_host_moves: fields.number()?,
            max_device_bytes: fields.number()?,
            max_device_moves: fields.number()?,
            command_buffer: fields.pointer()?,
        };
        let context = fields.pointer()?;
        let run = self.next_run;
        self.next_run += 1;
        let call = Call::BeginDefragmentation {
            run,
            algorithm: None,
            pools: Numbers::new(&pools),
            allocations: Numbers::new(&allocations),
            max_bytes: 0,
            max_moves: 0,
            max_regions: 0,
            slides: false,
            limits: Some(limits),
        };
        self.push(trace, head, call)?;
        if context == 0 {
            // There was nothing to wait for.
            return self.push(trace, head, end_of_run(run));
        }
        self.runs.insert(context, run);
        Ok(())
    }
}

/// The functions whose first parameter is an allocation that exists.
const FOR_ALLOCATION: [&str; 11] = [
    "vmaDestroyBuffer",
    "vmaDestroyImage",
    "vmaFreeMemory",
    "vmaMapMemory",
    "vmaUnmapMemory",
    "vmaTouchAllocation",
    "vmaGetAllocationInfo",
    "vmaFlushAllocation",
    "vmaInvalidateAllocation",
    "vmaSetAllocationUserData",
    "vmaResizeAllocation",
];

impl Head {
    fn warn(&self, trace: &mut TraceBuilder, what: String) {
        trace.warn(Some(Position::Line(self.line)), what);
    }
}

/// User data as name and data: a text where the allocation copies texts, or where it is no pointer.
pub(super) fn user_data(text: &str, has_text: bool) -> (Option<&str>, Data<'_>) {
    let number = if has_text { None } else { pointer(text.trim()) };
    match number {
        _ if text.trim().is_empty() => (None, Data::None),
        Some(0) => (None, Data::None),
        Some(number) => (None, Data::Number(number)),
        None => (Some(text), Data::None),
    }
}

/// VMA records no figures of a defragmentation.
fn end_of_run(run: u32) -> Call<'static> {
    Call::EndDefragmentation {
        run,
        bytes_moved: 0,
        bytes_freed: 0,
        allocations_moved: 0,
        blocks_freed: 0,
    }
}
