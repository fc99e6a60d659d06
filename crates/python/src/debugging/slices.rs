//! [`Slices`]: what is known of the slices of buffer heaps, whose margins and quarantine are watched.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::{AllocationId, GuardedUse, PoolId};
use vkmem_vulkan::{Divided, Part, PartRange};

use super::moment::{Fault, Moment, SliceKey};
use super::report::Party;
use crate::lifetime::location::Location;
use crate::lifetime::ownership::WeakResourceRef;

/// A slice of a buffer, live or in quarantine.
pub struct Slice {
    /// Its number among all slices of the allocator.
    pub number: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether its margins hold the pattern.
    pub has_margins: bool,
    /// Its name.
    pub name: Option<String>,
    /// When it was allocated.
    pub made: Moment,
    /// When it was freed; it is in quarantine then.
    pub freed: Option<Moment>,
    /// What its contents were filled with when it was freed; `None` if they were not.
    pub contents: Option<u8>,
    /// A weak reference to the Python object.
    pub object: Option<Arc<Py<PyAny>>>,
    /// Faults that were told: all but checks on demand tell each once.
    pub told: Vec<Fault>,
}

/// A buffer that a heap divides.
pub struct DividedBuffer {
    /// Number of its heap.
    pub heap: u64,
    /// Its memory.
    pub id: AllocationId,
    /// Its resource.
    pub resource: Arc<WeakResourceRef>,
    /// Bytes of the margins of its slices.
    pub margin: u64,
    /// By offset in the buffer.
    pub slices: BTreeMap<u64, Slice>,
}

/// Which slices are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those of all heaps.
    All,
    /// Those in buffers of a pool.
    Pool(PoolId),
    /// Those of one heap.
    Heap(u64),
    /// One slice, by the number of its buffer and its offset there, and the next margins of its neighbours.
    Slice(u64, u64),
}

/// All watched slices of an allocator.
#[derive(Default)]
pub struct Slices {
    /// Buffers by their numbers.
    pub buffers: HashMap<u64, DividedBuffer>,
    /// Watched heaps, by number; why there is memory of one that is not checked.
    pub heaps: HashMap<u64, Option<&'static str>>,
    next: u64,
}

/// What is compared of one buffer.
pub struct Wanted {
    pub of: Divided,
    pub resource: Arc<WeakResourceRef>,
    pub ranges: Vec<PartRange>,
    /// The slice of each range.
    pub owners: Vec<SliceKey>,
}

impl DividedBuffer {
    /// Returns the next live slices before and behind an offset.
    pub fn neighbours(&self, offset: u64) -> [Option<(u64, &Slice)>; 2] {
        let is_live = |it: &(&u64, &Slice)| it.1.freed.is_none();
        let before = self.slices.range(..offset).rev().find(is_live);
        let behind = self.slices.range(offset + 1..).find(is_live);
        [before, behind].map(|it| it.map(|(at, slice)| (*at, slice)))
    }

    /// Returns what of a slice nobody may write, by ascending offset.
    fn ranges(&self, offset: u64, slice: &Slice) -> Vec<PartRange> {
        let size = slice.size;
        let [front, back] = Part { offset, size, margin: self.margin }.margins();
        let mut ranges = Vec::new();
        ranges.extend(slice.has_margins.then_some(front));
        if let Some(contents) = slice.contents.filter(|_| slice.freed.is_some() && size > 0) {
            let is = GuardedUse::Quarantined;
            ranges.push(PartRange { offset, size, from_start: 0, is, contents: Some(contents) });
        }
        ranges.extend(slice.has_margins.then_some(back));
        ranges
    }

    /// Returns what is compared of one slice, or of all.
    fn wanted(&self, number: u64, only: Option<u64>) -> Wanted {
        let of = Divided { id: self.id, number };
        let resource = self.resource.clone();
        let mut wanted = Wanted { of, resource, ranges: Vec::new(), owners: Vec::new() };
        let mut add = |offset: u64, slice: &Slice, ranges: Vec<PartRange>| {
            let owner = SliceKey { buffer: number, offset, number: slice.number };
            wanted.owners.extend(ranges.iter().map(|_| owner));
            wanted.ranges.extend(ranges);
        };
        let Some(offset) = only else {
            self.slices.iter().for_each(|(at, it)| add(*at, it, self.ranges(*at, it)));
            return wanted;
        };
        let Some(slice) = self.slices.get(&offset) else { return wanted };
        let [before, behind] = self.neighbours(offset);
        if let Some((at, it)) = before {
            add(at, it, self.ranges(at, it).into_iter().next_back().into_iter().collect());
        }
        add(offset, slice, self.ranges(offset, slice));
        if let Some((at, it)) = behind {
            add(at, it, self.ranges(at, it).into_iter().take(1).collect());
        }
        wanted
    }
}

impl Slices {
    /// Returns a number that no heap, buffer or slice has had.
    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns what is compared of which slices; buffers without any are left out.
    pub fn wanted(&self, which: Which) -> Vec<Wanted> {
        let (only, offset) = match which {
            Which::Slice(buffer, offset) => (Some(buffer), Some(offset)),
            _ => (None, None),
        };
        let is_meant = |number: u64, it: &DividedBuffer| match which {
            Which::All => true,
            Which::Pool(id) => it.id.pool_key() == vkmem_engine::PoolKey::Custom(id),
            Which::Heap(heap) => it.heap == heap,
            Which::Slice(..) => only == Some(number),
        };
        let those = self.buffers.iter().filter(|(number, it)| is_meant(**number, it));
        let wanted = those.map(|(number, it)| it.wanted(*number, offset));
        let mut wanted: Vec<Wanted> = wanted.filter(|it| !it.ranges.is_empty()).collect();
        wanted.sort_by_key(|it| it.of.number);
        wanted
    }

    /// Returns a slice with its buffer, unless it has left.
    pub fn slice(&self, key: SliceKey) -> Option<(&DividedBuffer, &Slice)> {
        let buffer = self.buffers.get(&key.buffer)?;
        let slice = buffer.slices.get(&key.offset).filter(|it| it.number == key.number)?;
        Some((buffer, slice))
    }

    /// Notes that a fault of a slice is told; returns whether it was not told before.
    pub fn tell(&mut self, key: SliceKey, fault: Fault) -> bool {
        let buffer = self.buffers.get_mut(&key.buffer);
        let slice = buffer.and_then(|it| it.slices.get_mut(&key.offset));
        let Some(slice) = slice.filter(|it| it.number == key.number) else { return true };
        let is_new = !slice.told.contains(&fault);
        if is_new {
            slice.told.push(fault);
        }
        is_new
    }

    /// Notes that resources have moved.
    pub fn relocate(&mut self, moved: &[(AllocationId, Location)]) {
        if self.buffers.is_empty() {
            return;
        }
        let after: HashMap<AllocationId, AllocationId> =
            moved.iter().map(|(before, after)| (*before, after.allocation.id)).collect();
        for buffer in self.buffers.values_mut() {
            buffer.id = after.get(&buffer.id).copied().unwrap_or(buffer.id);
        }
    }
}

impl Slice {
    /// Returns what a report says of it; `within` describes its buffer.
    pub fn party(&self, id: AllocationId, offset: u64, within: &str) -> Party {
        Party {
            id,
            class: "BufferSlice",
            name: self.name.clone(),
            size: Some(self.size),
            buffer_size: None,
            offset: Some(offset),
            within: Some(format!("at {offset} of {within}")),
            made: Some(self.made),
            freed: self.freed,
            object: self.object.clone(),
        }
    }
}
