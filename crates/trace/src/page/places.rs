//! [`Places`]: the heaps, memory types and pools of a trace, numbered as pages list them.

use std::collections::HashMap;

use vkmem_engine::DeviceInfo;

use crate::event::NO_TYPE;

/// A heap of the device; or one that the trace does not describe.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeapPlace {
    pub size: Option<u64>,
    pub flags: Option<u32>,
    /// The device of a trace with several.
    pub device: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TypePlace {
    pub heap: u32,
    pub number: Option<u32>,
    pub flags: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PoolPlace {
    pub of_type: u32,
    pub allocator: u16,
    pub number: Option<u32>,
}

/// A pool: index of its type, number of its allocator, its own number.
type Key = (u32, u16, Option<u32>);

/// Heaps, types and pools.
#[derive(Debug)]
pub(super) struct Places {
    pub heaps: Vec<HeapPlace>,
    pub types: Vec<TypePlace>,
    pub pools: Vec<PoolPlace>,
    has_device: bool,
    described: u32,
    /// Types that the trace does not say, by allocator.
    unknown: HashMap<u16, u32>,
    numbers: HashMap<Key, u32>,
    /// The pool that was asked for last, and its index.
    last: Option<(Key, u32)>,
}

impl Places {
    pub fn new(device: Option<&DeviceInfo>) -> Self {
        let heaps = device.map_or(&[][..], |it| &it.heaps);
        let types = device.map_or(&[][..], |it| &it.types);
        Self {
            heaps: heaps
                .iter()
                .map(|it| HeapPlace {
                    size: Some(it.size),
                    flags: Some(it.flags.bits()),
                    device: None,
                })
                .collect(),
            types: (0..)
                .zip(types)
                .map(|(number, it)| TypePlace {
                    heap: it.heap_index,
                    number: Some(number),
                    flags: it.flags.bits(),
                })
                .collect(),
            pools: Vec::new(),
            has_device: device.is_some(),
            described: types.len() as u32,
            unknown: HashMap::new(),
            numbers: HashMap::new(),
            last: None,
        }
    }

    /// Returns the index of a memory type. What the trace does not say is in a heap of its own for each device.
    pub fn of_type(&mut self, memory_type: Option<u32>, allocator: u16) -> u32 {
        match memory_type {
            Some(it) if it < self.described && it != u32::from(NO_TYPE) => it,
            _ => {
                let device = if self.has_device { 0 } else { allocator };
                let Self { unknown, heaps, types, has_device, .. } = self;
                *unknown.entry(device).or_insert_with(|| {
                    let device = (!*has_device).then_some(device);
                    heaps.push(HeapPlace { size: None, flags: None, device });
                    let heap = heaps.len() as u32 - 1;
                    types.push(TypePlace { heap, number: None, flags: 0 });
                    types.len() as u32 - 1
                })
            }
        }
    }

    /// Returns the index of a pool; its default pool for `None`.
    pub fn pool(&mut self, of_type: u32, allocator: u16, number: Option<u32>) -> u32 {
        let key = (of_type, allocator, number);
        if let Some((known, index)) = self.last
            && known == key
        {
            return index;
        }
        let pools = &mut self.pools;
        let index = *self.numbers.entry(key).or_insert_with(|| {
            pools.push(PoolPlace { of_type, allocator, number });
            pools.len() as u32 - 1
        });
        self.last = Some((key, index));
        index
    }
}
