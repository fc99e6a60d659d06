//! The lines of calls in VMA's format.

use std::collections::{HashMap, HashSet};
use std::fmt::{Result, Write};

use vkmem_engine::{Algorithm, AllocationCreateFlags as Flags, MemoryUsage, ResourceKind};

use super::vma_text::{allocation_pointer, line, list, one_line, pool_pointer, run_pointer};
use super::written::Written;
use crate::event::{Call, Data, Event, GroupKind, HostAndDeviceLimits, Object};
use crate::progress::{Progress, STEP};
use crate::read::{COPY_STRING, FIRST_FIT};
use crate::trace::Trace;
use crate::values::{Placed, Request, Resource};

/// Flags that VMA 2.3 knows, without strategies.
const KNOWN_FLAGS: u32 = 0x1FF;

/// How an allocation was made, which its end is written by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Buffer,
    Image,
    Memory,
}

/// What the lines so far have made.
pub(super) struct Calls<'t> {
    trace: &'t Trace,
    /// Allocations that have a name at any time.
    named: HashSet<u32>,
    live: HashMap<u32, Made>,
    pools: HashSet<u32>,
    runs: HashSet<u32>,
}

/// The columns of an allocation that is written.
struct Asked<'e> {
    request: Request,
    size: Option<u64>,
    buffer_size: Option<u64>,
    placed: Option<Placed>,
    /// Numbers of the allocations; none for one that failed.
    made: &'e [Option<u32>],
    name: Option<&'e str>,
    data: Data<'e>,
}

impl<'t> Calls<'t> {
    pub fn new(trace: &'t Trace) -> Self {
        let names = trace.events().filter_map(|event| match event.call {
            Call::Name { object: Object::Allocation(number), .. } => Some(number),
            Call::Allocate { allocation, name: Some(_), .. } => Some(allocation),
            _ => None,
        });
        let named = names.collect();
        Self { trace, named, live: HashMap::new(), pools: HashSet::new(), runs: HashSet::new() }
    }

    pub fn write(&mut self, out: &mut Written, progress: Progress<'_>) -> Result {
        let (mut index, mut told) = (0, 0);
        while index < self.trace.len() {
            if index >= told {
                progress(index as u64, self.trace.len() as u64);
                told = index + STEP;
            }
            let event = self.trace.event(index);
            index += 1;
            if let Call::Group { kind, count } = event.call {
                index += self.group(out, &event, kind, index, count as usize)?;
            } else {
                self.event(out, &event)?;
            }
        }
        progress(index as u64, self.trace.len() as u64);
        Ok(())
    }

    /// Writes the events of a group as one call if VMA can; returns how many were written.
    fn group(
        &mut self,
        out: &mut Written,
        head: &Event<'_>,
        kind: GroupKind,
        first: usize,
        count: usize,
    ) -> std::result::Result<usize, std::fmt::Error> {
        if count > self.trace.len() - first {
            return Ok(0);
        }
        let members = || (first..first + count).map(|index| self.trace.event(index));
        match kind {
            GroupKind::Allocate => {
                let mut all: Vec<Option<u32>> = Vec::new();
                let (mut common, mut usages, mut first_placed) = (None, None, None);
                for event in members() {
                    let (number, request, size, text) = match event.call {
                        Call::Allocate {
                            allocation, request, size, name, data, placed, ..
                        } => {
                            let usage = usage_of(&request, placed.as_ref());
                            // One line has one usage for all.
                            if *usages.get_or_insert(usage) != usage {
                                return Ok(0);
                            }
                            first_placed = first_placed.or(placed);
                            (Some(allocation), request, size, Some((name, data)))
                        }
                        Call::AllocateFailed { request, size, .. } => (None, request, size, None),
                        _ => return Ok(0),
                    };
                    let is_memory =
                        request.kind == ResourceKind::Unknown && made_by(&request) == Made::Memory;
                    let (first_request, first_size, first_text) =
                        *common.get_or_insert((request, size, text));
                    let same_text = text.is_none() || first_text.is_none() || text == first_text;
                    if !is_memory || size.is_none() || !same_text {
                        return Ok(0);
                    }
                    if (request, size) != (first_request, first_size) {
                        return Ok(0);
                    }
                    common = Some((request, size, first_text.or(text)));
                    all.push(number);
                }
                let Some((request, size, text)) = common else { return Ok(0) };
                let (name, data) = text.unwrap_or_default();
                let (buffer_size, placed, made) = (None, first_placed, &all[..]);
                let asked = Asked { request, size, buffer_size, placed, made, name, data };
                self.allocate(out, head, "vmaAllocateMemoryPages", &asked)?;
            }
            GroupKind::Free => {
                let mut all = Vec::new();
                for event in members() {
                    match event.call {
                        Call::Free { allocation }
                            if self.live.get(&allocation) == Some(&Made::Memory) =>
                        {
                            all.push(allocation);
                        }
                        _ => return Ok(0),
                    }
                }
                all.iter().for_each(|it| _ = self.live.remove(it));
                let pointers = list(all.iter().map(|it| allocation_pointer(*it)));
                line(out, head, format_args!("vmaFreeMemoryPages,{pointers}"))?;
            }
            _ => return Ok(0),
        }
        Ok(count)
    }

    fn event(&mut self, out: &mut Written, event: &Event<'_>) -> Result {
        let about = |name: &str, number: u32| format!("{name},{:016X}", allocation_pointer(number));
        let text = match &event.call {
            Call::CreateAllocator { .. } => "vmaCreateAllocator".into(),
            Call::DestroyAllocator {} => "vmaDestroyAllocator".into(),
            // The next line has the new frame.
            Call::BeginFrame {} => return Ok(()),
            Call::CreatePool { pool, info, .. } => {
                let algorithm = match info.algorithm {
                    Algorithm::Tlsf => 0,
                    Algorithm::Linear => 4,
                    Algorithm::Buddy => 8,
                };
                let flags = algorithm | u32::from(info.ignore_buffer_image_granularity) << 1;
                self.pools.extend(*pool);
                format!(
                    "vmaCreatePool,{},{flags},{},{},{},{},{:016X}",
                    info.memory_type_index,
                    info.block_size.unwrap_or(0),
                    info.min_block_count,
                    info.max_block_count,
                    info.frames_in_use.unwrap_or(0).min(u64::from(u32::MAX)),
                    pool.map_or(0, pool_pointer),
                )
            }
            Call::DestroyPool { pool } if self.pools.remove(pool) => {
                format!("vmaDestroyPool,{:016X}", pool_pointer(*pool))
            }
            Call::MakeLost { pool: Some(pool), .. } if self.pools.contains(pool) => {
                format!("vmaMakePoolAllocationsLost,{:016X}", pool_pointer(*pool))
            }
            Call::Name { object: Object::Pool(pool), name } if self.pools.contains(pool) => {
                let name = one_line(name.unwrap_or(""));
                format!("vmaSetPoolName,{:016X},{name}", pool_pointer(*pool))
            }
            Call::Allocate { allocation, request, size, buffer_size, placed, name, data } => {
                return self.allocate_one(
                    out,
                    event,
                    &Asked {
                        request: *request,
                        size: *size,
                        buffer_size: *buffer_size,
                        placed: *placed,
                        made: &[Some(*allocation)],
                        name: *name,
                        data: *data,
                    },
                );
            }
            Call::AllocateFailed { request, size, buffer_size, .. } => {
                return self.allocate_one(
                    out,
                    event,
                    &Asked {
                        request: *request,
                        size: *size,
                        buffer_size: *buffer_size,
                        placed: None,
                        made: &[None],
                        name: None,
                        data: Data::None,
                    },
                );
            }
            Call::CreateLost { allocation } => {
                self.live.insert(*allocation, Made::Memory);
                about("vmaCreateLostAllocation", *allocation)
            }
            Call::Touch { allocations } => {
                for it in allocations.iter().filter(|it| self.live.contains_key(it)) {
                    line(out, event, format_args!("{}", about("vmaTouchAllocation", it)))?;
                }
                return Ok(());
            }
            Call::BeginDefragmentation { .. } | Call::EndDefragmentation { .. } => {
                match self.defragmentation(&event.call) {
                    Some(text) => text,
                    None => return Self::leave_out(out, event),
                }
            }
            call => match self.for_allocation(call) {
                Some(text) => text,
                None => return Self::leave_out(out, event),
            },
        };
        line(out, event, format_args!("{text}"))
    }

    fn leave_out(out: &mut Written, event: &Event<'_>) -> Result {
        out.leave_out(event.call.kind());
        Ok(())
    }

    /// Returns the line of a call whose first column is an allocation.
    fn for_allocation(&mut self, call: &Call<'_>) -> Option<String> {
        let (function, allocation) = match call {
            Call::Free { allocation } => match self.live.remove(allocation)? {
                Made::Buffer => ("vmaDestroyBuffer", *allocation),
                Made::Image => ("vmaDestroyImage", *allocation),
                Made::Memory => ("vmaFreeMemory", *allocation),
            },
            Call::Map { allocation } => ("vmaMapMemory", *allocation),
            Call::Unmap { allocation } => ("vmaUnmapMemory", *allocation),
            Call::Query { allocation } => ("vmaGetAllocationInfo", *allocation),
            Call::Flush { allocation, .. } => ("vmaFlushAllocation", *allocation),
            Call::Invalidate { allocation, .. } => ("vmaInvalidateAllocation", *allocation),
            Call::Resize { allocation, .. } => ("vmaResizeAllocation", *allocation),
            Call::Name { object: Object::Allocation(allocation), .. } => {
                ("vmaSetAllocationUserData", *allocation)
            }
            Call::SetData { allocation, data: Data::None | Data::Number(_) }
                if !self.named.contains(allocation) =>
            {
                ("vmaSetAllocationUserData", *allocation)
            }
            _ => return None,
        };
        if !matches!(call, Call::Free { .. }) && !self.live.contains_key(&allocation) {
            return None;
        }
        let rest = match call {
            Call::Flush { offset, size, .. } | Call::Invalidate { offset, size, .. } => {
                format!(",{offset},{size}")
            }
            Call::Resize { size, .. } => format!(",{size}"),
            Call::Name { name, .. } => format!(",{}", one_line(name.unwrap_or(""))),
            Call::SetData { data: Data::Number(number), .. } => format!(",{number:016X}"),
            Call::SetData { .. } => format!(",{:016X}", 0),
            _ => String::new(),
        };
        Some(format!("{function},{:016X}{rest}", allocation_pointer(allocation)))
    }

    /// VMA defragments lists of allocations and pools, but not all default pools.
    fn defragmentation(&mut self, call: &Call<'_>) -> Option<String> {
        match call {
            Call::BeginDefragmentation {
                run,
                pools,
                allocations,
                limits,
                max_bytes,
                max_moves,
                ..
            } => {
                if pools.is_empty() && allocations.is_empty() && limits.is_none() {
                    return None;
                }
                let no_limit = |it: u64, most: u64| if it == 0 { most } else { it };
                let limits = limits.unwrap_or(HostAndDeviceLimits {
                    max_device_bytes: no_limit(*max_bytes, u64::MAX),
                    max_device_moves: no_limit(u64::from(*max_moves), u64::from(u32::MAX)) as u32,
                    ..HostAndDeviceLimits::default()
                });
                self.runs.insert(*run);
                Some(format!(
                    "vmaDefragmentationBegin,{},{},{},{},{},{},{},{:016X},{:016X}",
                    limits.flags,
                    list(allocations.iter().map(allocation_pointer)),
                    list(pools.iter().map(pool_pointer)),
                    limits.max_host_bytes,
                    limits.max_host_moves,
                    limits.max_device_bytes,
                    limits.max_device_moves,
                    limits.command_buffer,
                    run_pointer(*run),
                ))
            }
            Call::EndDefragmentation { run, .. } if self.runs.remove(run) => {
                Some(format!("vmaDefragmentationEnd,{:016X}", run_pointer(*run)))
            }
            _ => None,
        }
    }

    fn allocate_one(&mut self, out: &mut Written, event: &Event<'_>, asked: &Asked<'_>) -> Result {
        let kind = asked.request.kind;
        let (function, size) = match made_by(&asked.request) {
            Made::Buffer => ("vmaCreateBuffer", asked.buffer_size.or(asked.size)),
            Made::Image => ("vmaCreateImage", Some(0)),
            Made::Memory if kind == ResourceKind::Buffer => {
                ("vmaAllocateMemoryForBuffer", asked.size)
            }
            Made::Memory if kind != ResourceKind::Unknown => {
                ("vmaAllocateMemoryForImage", asked.size)
            }
            Made::Memory => ("vmaAllocateMemory", asked.size),
        };
        // Without a size it cannot be made again.
        if size.is_none() {
            Self::leave_out(out, event)
        } else {
            self.allocate(out, event, function, asked)
        }
    }

    fn allocate(
        &mut self,
        out: &mut Written,
        event: &Event<'_>,
        function: &str,
        asked: &Asked<'_>,
    ) -> Result {
        let Asked { request, size, buffer_size, made, .. } = asked;
        let mut text = format!("{function},");
        match &request.resource {
            Resource::Buffer(it) => {
                let size = buffer_size.or(*size).unwrap_or(0);
                let (flags, usage, sharing_mode) = (it.flags, it.usage, it.sharing_mode);
                write!(text, "{flags},{size},{usage},{sharing_mode}")?;
            }
            Resource::Image(it) => {
                let [width, height, depth] = it.extent;
                write!(
                    text,
                    "{},{},{},{width},{height},{depth}",
                    it.flags, it.image_type, it.format
                )?;
                write!(text, ",{},{},{}", it.mip_levels, it.array_layers, it.samples)?;
                write!(
                    text,
                    ",{},{},{},{}",
                    it.tiling, it.usage, it.sharing_mode, it.initial_layout
                )?;
            }
            Resource::Unknown | Resource::Stream(_) => {
                let bits = request.memory_type_bits.unwrap_or(u32::MAX);
                let alignment = request.alignment.unwrap_or(1);
                write!(text, "{},{alignment},{bits}", size.unwrap_or(0))?;
                if function.contains("For") {
                    let requires = u32::from(request.requires_dedicated);
                    write!(text, ",{requires},{}", u32::from(request.prefers_dedicated))?;
                }
            }
        }
        let is_named = made.iter().flatten().any(|it| self.named.contains(it));
        let pool = request.pool.filter(|it| self.pools.contains(it)).map_or(0, pool_pointer);
        let (usage, allowed_types) = usage_of(request, asked.placed.as_ref());
        write!(
            text,
            ",{},{usage},{},{},{allowed_types},{pool:016X},",
            flags_of(request.flags) | if is_named { COPY_STRING } else { 0 },
            request.required_flags.bits(),
            request.preferred_flags.bits(),
        )?;
        text += &list(made.iter().map(|it| it.map_or(0, allocation_pointer)));
        match (is_named, asked.data) {
            (true, _) => write!(text, ",{}", one_line(asked.name.unwrap_or("")))?,
            (false, Data::Number(number)) => write!(text, ",{number:016X}")?,
            _ => text.push(','),
        }
        let how = made_by(request);
        self.live.extend(made.iter().flatten().map(|it| (*it, how)));
        line(out, event, format_args!("{text}"))
    }
}

fn made_by(request: &Request) -> Made {
    match request.resource {
        Resource::Buffer(_) => Made::Buffer,
        Resource::Image(_) => Made::Image,
        Resource::Unknown | Resource::Stream(_) => Made::Memory,
    }
}

/// Returns the flags that VMA 2.3 has; first fit is its name for the fastest search.
fn flags_of(flags: Flags) -> u32 {
    let mut bits = flags.bits() & KNOWN_FLAGS | (flags & Flags::STRATEGY_MIN_MEMORY).bits();
    if flags.contains(Flags::STRATEGY_MIN_TIME) {
        bits |= FIRST_FIT;
    }
    bits
}

/// Returns usage and allowed memory types. What VMA 2.3 would choose for a usage of VMA 3 is told by the result.
fn usage_of(request: &Request, placed: Option<&Placed>) -> (u32, u32) {
    if !request.usage.is_auto() {
        return (request.usage as u32, request.allowed_types);
    }
    if let Some(memory_type) = placed.and_then(|it| it.memory_type).filter(|it| *it < 32) {
        return (MemoryUsage::Unknown as u32, 1 << memory_type);
    }
    let usage = if request.flags.contains(Flags::HOST_ACCESS_RANDOM) {
        MemoryUsage::GpuToCpu
    } else if request.flags.contains(Flags::HOST_ACCESS_SEQUENTIAL_WRITE) {
        MemoryUsage::CpuToGpu
    } else if request.usage == MemoryUsage::AutoPreferHost {
        MemoryUsage::CpuCopy
    } else {
        MemoryUsage::GpuOnly
    };
    (usage as u32, request.allowed_types)
}
