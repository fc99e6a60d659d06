//! The model of the allocator: memory objects and the intervals in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vkmem_engine::{
    Allocation, AllocationCreateFlags as Create, AllocationId, AllocationRequest, Call,
    DebugOptions, DeviceError, DeviceMemory, Error, Evictable, MemoryPropertyFlags as Property,
    MemoryUsage, ResourceKind, Statistics,
};

use super::common::{Random, Told, World};

struct Live {
    allocation: Allocation,
    kind: ResourceKind,
    maps: u32,
    name: Option<String>,
    /// Whether it has margins.
    is_guarded: bool,
    /// For those that may be lost, with the frame of the last use.
    evictable: Option<(Evictable, u64)>,
}

pub struct Shadow {
    pub world: World,
    debug: DebugOptions,
    live: Vec<Live>,
    freed: Vec<AllocationId>,
    pub made: u64,
    pub failed: Vec<String>,
    pub lost: u64,
    frames_in_use: u64,
    /// What other processes hold of each heap.
    occupied: Vec<u64>,
    told: RefCell<Told>,
}

fn may_evict(request: &AllocationRequest) -> bool {
    request.create_info.flags.contains(Create::CAN_MAKE_OTHER_LOST)
}

fn may_share(a: ResourceKind, b: ResourceKind) -> bool {
    use ResourceKind::{Buffer, ImageLinear, ImageOptimal};
    let linear = |kind| matches!(kind, Buffer | ImageLinear);
    linear(a) && linear(b) || (a == ImageOptimal && b == ImageOptimal)
}

impl Shadow {
    pub fn new(world: World, frames_in_use: u64, debug: DebugOptions) -> Self {
        world.allocator.watch_memory(Some(Arc::new(|| ())));
        let occupied = vec![0; world.device.info().heaps.len()];
        let (live, freed, told) = (Vec::new(), Vec::new(), RefCell::default());
        Self {
            world,
            debug,
            live,
            freed,
            made: 0,
            failed: vec![],
            lost: 0,
            frames_in_use,
            occupied,
            told,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub fn allocate(&mut self, request: &AllocationRequest, try_first: bool) {
        let World { allocator, device } = &self.world;
        let before = allocator.statistics();
        if try_first {
            let calls = self.world.calls();
            let tried = allocator.try_allocate(request);
            assert_eq!(self.world.calls(), calls, "an attempt in place called the driver");
            if let Some(allocation) = tried {
                self.check_new(request, &allocation);
                return self.take(allocation, request);
            }
            assert_eq!(allocator.statistics(), before, "an attempt left something");
        }
        let calls = device.call_count(Call::Allocate);
        let made = allocator.allocate(request);
        let never = request.create_info.flags.contains(Create::NEVER_ALLOCATE);
        let asked = device.call_count(Call::Allocate) - calls;
        assert!(!never || asked == 0, "NEVER_ALLOCATE asked the driver {asked} times");
        match made {
            Ok(allocation) => {
                let grew = allocator.statistics().block_bytes > before.block_bytes;
                if grew && request.create_info.flags.contains(Create::WITHIN_BUDGET) {
                    let heap = device.info().heap_of(allocation.memory_type_index) as usize;
                    let budget = allocator.heap_budgets()[heap];
                    assert!(budget.usage <= budget.budget, "{budget:?}");
                }
                self.check_new(request, &allocation);
                assert!(self.remove_lost() == 0 || may_evict(request));
                self.take(allocation, request);
            }
            Err(error) => {
                let lost = self.remove_lost();
                if lost > 0 {
                    // The driver had no memory, and has not enough after one exchange either: others hold it.
                    assert!(may_evict(request) && asked > 0, "it failed and cost somebody");
                    assert!(self.is_some_heap_short(request.requirements.size), "{error:?}");
                }
                self.failed.push(format!("{:.60}", error.to_string()));
                self.check_error(request, &error, &before, lost)
            }
        }
    }

    fn check_error(
        &self,
        request: &AllocationRequest,
        error: &Error,
        before: &vkmem_engine::Statistics,
        lost: u64,
    ) {
        let after = self.world.allocator.statistics();
        assert_eq!(after.allocation_count, before.allocation_count - lost);
        assert!(lost > 0 || after.allocation_bytes == before.allocation_bytes);
        assert!(after.block_bytes <= before.block_bytes, "{request:?} failed and left a block");
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        match error {
            Error::OutOfDeviceMemory { figures, .. } | Error::TooManyObjects { figures, .. } => {
                assert_eq!(figures.size, request.requirements.size, "{text}");
                assert!(figures.memory_type_index.is_some(), "{text}");
            }
            // More objects than the device allows.
            Error::Refused { result: DeviceError::TooManyObjects, figures } => {
                assert_eq!(figures.size, request.requirements.size, "{text}");
            }
            Error::FeatureNotPresent(_) | Error::InvalidArgument(_) => {}
            // The test's host may not have memory for blocks of tens of gigabytes.
            other => panic!("{other:?}"),
        }
    }

    /// Allocates all requests or none, and compares.
    pub fn allocate_many(&mut self, requests: &[AllocationRequest]) {
        let before = self.world.allocator.statistics();
        match self.world.allocator.allocate_many(requests) {
            Ok(made) => {
                assert_eq!(made.len(), requests.len());
                assert!(self.remove_lost() == 0 || requests.iter().any(may_evict));
                for (it, request) in made.into_iter().zip(requests) {
                    self.check_new(request, &it);
                    self.take(it, request);
                }
            }
            Err(failed) => {
                // What requests before the failed one have cost stays lost; `check` compares the rest.
                let lost = self.remove_lost();
                assert!(lost == 0 || requests[..failed.index].iter().any(may_evict), "{failed:?}");
                let after = self.world.allocator.statistics();
                assert_eq!(after.allocation_count, before.allocation_count - lost, "{failed:?}");
                assert!(!failed.error.is_shortage() || after.block_bytes <= before.block_bytes);
                assert!(failed.index < requests.len());
            }
        }
    }

    /// Frees the last `count` allocations together with some stale ids.
    pub fn free_many(&mut self, count: usize) {
        let mut ids: Vec<_> = self.freed.iter().rev().take(3).copied().collect();
        let mut last = self.live.split_off(self.live.len() - count);
        for (evictable, _) in last.iter_mut().filter_map(|it| it.evictable.take()) {
            assert!(!evictable.end());
        }
        ids.extend(last.iter().map(|it| it.allocation.id));
        drop(self.world.allocator.free_many(&ids));
        self.freed.extend(last.iter().map(|it| it.allocation.id));
    }

    fn take(&mut self, allocation: Allocation, request: &AllocationRequest) {
        self.made += 1;
        let may_be_lost = request.create_info.flags.contains(Create::CAN_BECOME_LOST);
        let allocator = &self.world.allocator;
        let evictable = may_be_lost.then(|| {
            let priority = (self.made % 3) as f32 / 2.0;
            (allocator.make_evictable(&allocation, priority).unwrap(), allocator.frame())
        });
        let is_guarded = self.is_guarded(request, &allocation);
        let (kind, maps, name) = (request.kind, 0, None);
        self.live.push(Live { allocation, kind, maps, name, is_guarded, evictable });
    }

    /// Returns whether an allocation has margins: not where the resource needs the exact size.
    fn is_guarded(&self, request: &AllocationRequest, it: &Allocation) -> bool {
        let flags = self.world.device.info().flags_of(it.memory_type_index);
        let is_exact = request.requirements.requires_dedicated
            || request.create_info.memory_allocate_next != 0
            || flags.contains(Property::LAZILY_ALLOCATED);
        self.debug.margin != 0 && !(it.is_dedicated() && is_exact)
    }

    /// Removes what was lost, which has to be old enough and not in use; returns how many there were.
    fn remove_lost(&mut self) -> u64 {
        let frame = self.world.allocator.frame();
        let before = self.len();
        let (freed, in_use) = (&mut self.freed, self.frames_in_use);
        self.live.retain_mut(|it| {
            let Some((evictable, used)) = it.evictable.take_if(|it| it.0.is_lost()) else {
                return true;
            };
            assert!(used + in_use < frame, "used in {used}, lost in {frame}");
            assert!(it.maps == 0 && it.allocation.mapped.is_none(), "it was mapped");
            assert!(!evictable.touch() && evictable.end());
            freed.push(it.allocation.id);
            false
        });
        let lost = before - self.len();
        self.lost += lost;
        lost
    }

    /// Lets other processes hold bytes of a heap.
    pub fn occupy(&mut self, heap: u32, bytes: u64) {
        self.world.device.occupy(heap, bytes);
        self.occupied[heap as usize] = bytes;
    }

    fn is_some_heap_short(&self, bytes: u64) -> bool {
        let device = &self.world.device;
        let heaps = (0..).zip(device.info().heaps.iter().zip(&self.occupied));
        heaps.into_iter().any(|(index, (heap, occupied))| {
            device.live_bytes(index).saturating_add(*occupied).saturating_add(bytes) > heap.size
        })
    }

    /// Takes away all that is old enough.
    pub fn lose_all(&mut self) {
        let frame = self.world.allocator.frame();
        let may_go = |it: &Live| {
            let old = it.evictable.as_ref().is_some_and(|it| it.1 + self.frames_in_use < frame);
            old && it.maps == 0 && it.allocation.mapped.is_none()
        };
        let expected = self.live.iter().filter(|it| may_go(it)).count();
        assert_eq!(self.world.allocator.make_allocations_lost(None), Ok(expected));
        assert_eq!(self.remove_lost(), expected as u64);
    }

    /// Asserts everything that must hold for a new allocation.
    fn check_new(&self, request: &AllocationRequest, it: &Allocation) {
        let info = self.world.device.info();
        let (needs, wish) = (&request.requirements, &request.create_info);
        let memory = self.world.device.memory(it.memory).expect("its memory lives");
        assert_eq!((it.size, it.memory_type_index), (needs.size, memory.memory_type_index));
        assert!(it.offset.checked_add(it.size).is_some_and(|end| end <= memory.size));
        assert!(it.offset.is_multiple_of(needs.alignment.max(wish.min_alignment).max(1)));
        assert_eq!(self.world.allocator.info(it.id), Ok(*it));

        let flags = info.flags_of(it.memory_type_index);
        let bit = 1_u32 << it.memory_type_index;
        assert!(needs.memory_type_bits & bit != 0);
        assert!(wish.memory_type_bits == 0 || wish.memory_type_bits & bit != 0);
        assert!(flags.contains(wish.required_flags));
        assert!(info.amd_device_coherent || !flags.contains(Property::DEVICE_COHERENT_AMD));
        let host_access = wish.flags.intersects(Create::HOST_ACCESS_MASK);
        let transfer = wish.flags.contains(Create::HOST_ACCESS_ALLOW_TRANSFER_INSTEAD);
        if wish.usage.is_auto() && host_access && !transfer {
            assert!(flags.contains(Property::HOST_VISIBLE));
        }
        let lazy = flags.contains(Property::LAZILY_ALLOCATED);
        let asked_for_lazy = wish.usage == MemoryUsage::GpuLazilyAllocated
            || (wish.required_flags | wish.preferred_flags).contains(Property::LAZILY_ALLOCATED);
        assert!(!lazy || (asked_for_lazy && it.is_dedicated()));

        let mapped = wish.flags.contains(Create::MAPPED) && flags.contains(Property::HOST_VISIBLE);
        assert_eq!(it.mapped.is_some(), mapped);
        assert!(!mapped || memory.mapped);

        let is_in_block = wish.flags.contains(Create::NEVER_ALLOCATE);
        let must = wish.flags.contains(Create::DEDICATED_MEMORY)
            || needs.requires_dedicated
            || (self.debug.always_dedicated && !is_in_block);
        assert!(!must || it.is_dedicated());
        if it.is_dedicated() && self.is_guarded(request, it) {
            let margin = self.debug.margin;
            assert!(it.offset >= margin, "{it:?}");
            // Buffers for transfers can lie over all of it.
            assert_eq!(memory.size, (it.offset + it.size + margin).next_multiple_of(256));
            assert_eq!(memory.dedicated, None);
        } else if it.is_dedicated() {
            assert_eq!((it.offset, memory.size), (0, it.size));
            let aliases = wish.flags.contains(Create::CAN_ALIAS) && !needs.requires_dedicated;
            assert_eq!(memory.dedicated, request.dedicated.filter(|_| !aliases));
        } else {
            assert_eq!(memory.dedicated, None);
        }
    }

    pub fn free(&mut self, at: usize) {
        let Live { allocation, evictable, .. } = self.live.swap_remove(at);
        assert!(evictable.is_none_or(|(evictable, _)| !evictable.end()));
        drop(self.world.allocator.free(allocation.id).expect("it lives"));
        self.freed.push(allocation.id);
    }

    pub fn free_all(&mut self) {
        while let Some(last) = self.live.len().checked_sub(1) {
            self.free(last / 2);
            self.check();
        }
    }

    /// Maps, unmaps, flushes or names an allocation, or uses a stale handle.
    pub fn use_one(&mut self, random: &mut Random) {
        let at = random.below(self.len()) as usize;
        let allocator = &self.world.allocator;
        let device = &self.world.device;
        let one = &mut self.live[at];
        let it = one.allocation;
        let flags = device.info().flags_of(it.memory_type_index);
        if let Some((evictable, used)) = &mut one.evictable
            && random.one_in(2)
        {
            assert!(evictable.touch());
            *used = allocator.frame();
        }
        match random.below(5) {
            0 => match allocator.map(it.id) {
                Ok(address) => {
                    assert!(flags.contains(Property::HOST_VISIBLE));
                    assert!(it.mapped.is_none_or(|mapped| mapped == address));
                    assert!(device.memory(it.memory).unwrap().mapped);
                    one.maps += 1;
                }
                Err(Error::MemoryMap(_)) => assert!(!flags.contains(Property::HOST_VISIBLE)),
                Err(other) => panic!("{other}"),
            },
            1 => {
                let unmapped = allocator.unmap(it.id);
                assert_eq!(unmapped.is_ok(), one.maps > 0, "{unmapped:?}");
                one.maps = one.maps.saturating_sub(1);
            }
            2 => {
                let offset = random.below(it.size + 1);
                let size = random.pick(&[u64::MAX, 0, random.0 % (it.size - offset + 1)]);
                for done in [
                    allocator.flush(it.id, offset, size),
                    allocator.invalidate(it.id, offset, size),
                ] {
                    assert_eq!(done, Ok(()));
                }
            }
            3 => {
                one.name = random.one_in(2).then(|| format!("name {}", random.below(100)));
                allocator.set_name(it.id, one.name.as_deref()).unwrap();
            }
            _ => {
                let Some(&stale) =
                    self.freed.get(random.below(self.freed.len() as u64 + 1) as usize)
                else {
                    return;
                };
                assert_eq!(allocator.info(stale), Err(Error::UseAfterFree));
                assert_eq!(allocator.map(stale), Err(Error::UseAfterFree));
                assert_eq!(allocator.unmap(stale), Err(Error::UseAfterFree));
                assert_eq!(allocator.flush(stale, 0, 1), Err(Error::UseAfterFree));
                assert_eq!(allocator.name(stale), Err(Error::UseAfterFree));
                assert_eq!(allocator.set_name(stale, Some("stale")), Err(Error::UseAfterFree));
                assert!(matches!(allocator.free(stale), Err(Error::UseAfterFree)));
            }
        }
    }

    /// Compares the allocator with the model.
    pub fn check(&self) {
        let World { device, allocator } = &self.world;
        let info = device.info();
        device.assert_no_violations();
        allocator.validate().expect("valid");
        self.told.borrow_mut().hear(allocator);
        self.told.borrow().agree_with(device);
        self.check_neighbours();

        let mut by_heap = vec![(0, 0); info.heaps.len()];
        let mut by_type = vec![(0, 0); info.types.len()];
        let mut evictable = vec![(0, 0); info.types.len()];
        for Live { allocation: it, evictable: of, .. } in &self.live {
            let counts = &mut evictable[it.memory_type_index as usize];
            let one = u64::from(of.is_some());
            *counts = (counts.0 + one, counts.1 + one * it.size);
        }
        for (index, expected) in (0..).zip(evictable) {
            let found = allocator.eviction_statistics(index);
            assert_eq!((found.evictable_count, found.evictable_bytes), expected);
            assert_eq!((found.lost_count, found.lost_bytes), (0, 0), "all of them have ended");
        }
        for Live { allocation: it, name, .. } in &self.live {
            assert_eq!(allocator.info(it.id), Ok(*it));
            assert_eq!(allocator.name(it.id).as_ref(), Ok(name));
            let heap = info.heap_of(it.memory_type_index) as usize;
            for (count, bytes) in [&mut by_heap[heap], &mut by_type[it.memory_type_index as usize]]
            {
                *count += 1;
                *bytes += it.size;
            }
        }
        let total = allocator.statistics();
        let bytes: u64 = self.live.iter().map(|it| it.allocation.size).sum();
        assert_eq!((total.allocation_count, total.allocation_bytes), (self.len(), bytes));
        assert_eq!(total.block_count, device.live_memory_objects() as u64);
        let guarded = self.live.iter().filter(|it| it.is_guarded).count() as u64;
        assert_eq!(total.margin_count, 2 * guarded);
        assert!(total.margin_bytes >= 2 * guarded * self.debug.margin);
        assert!(guarded == 0 || total.held_size_min >= self.debug.margin);
        let smallest = self.live.iter().map(|it| it.allocation.size).min();
        let largest = self.live.iter().map(|it| it.allocation.size).max();
        assert_eq!(total.allocation_size_min, smallest.unwrap_or(u64::MAX));
        assert_eq!(total.allocation_size_max, largest.unwrap_or(0));
        let mut by_pool = vec![Statistics::default(); info.types.len()];
        for pool in allocator.statistics_of_pools().unwrap() {
            by_pool[pool.memory_type_index as usize].add(&pool.statistics);
        }
        let mut blocks = vec![(0, 0); info.heaps.len()];
        for (index, expected) in by_type.into_iter().enumerate() {
            let of_type = allocator.statistics_of_type(index as u32);
            assert_eq!((of_type.allocation_count, of_type.allocation_bytes), expected);
            assert_eq!(of_type, by_pool[index]);
            let counted =
                of_type.allocation_bytes + of_type.unused_range_bytes + of_type.margin_bytes;
            assert_eq!(counted, of_type.block_bytes, "{of_type:?}");
            assert!((0.0..1.0).contains(&of_type.fragmentation()), "{of_type:?}");
            let heap = &mut blocks[info.heap_of(index as u32) as usize];
            heap.0 += of_type.block_count;
            heap.1 += of_type.block_bytes;
        }
        for (heap, budget) in allocator.heap_budgets().into_iter().enumerate() {
            assert_eq!((budget.allocation_count, budget.allocation_bytes), by_heap[heap]);
            assert_eq!((u64::from(budget.block_count), budget.block_bytes), blocks[heap]);
            assert_eq!(budget.block_bytes, device.live_bytes(heap as u32));
            assert_eq!(budget.usage, budget.block_bytes);
        }
        assert!(device.live_memory_objects() <= info.limits.max_memory_allocation_count as usize);
    }

    /// Checks overlaps, pages and atoms in every memory object.
    fn check_neighbours(&self) {
        let info = self.world.device.info();
        let mut objects: HashMap<u64, BTreeMap<u64, (u64, ResourceKind)>> = HashMap::new();
        for Live { allocation: it, kind, is_guarded, .. } in &self.live {
            let margin = if *is_guarded { self.debug.margin } else { 0 };
            let (mut end, mut start) = (it.offset + it.size + margin, it.offset - margin);
            assert!(end <= self.world.device.memory(it.memory).unwrap().size, "{it:?}");
            if info.is_non_coherent(it.memory_type_index) {
                // A flush of one must not affect another.
                let atom = info.limits.non_coherent_atom_size;
                (start, end) = (start / atom * atom, end.next_multiple_of(atom));
            }
            let intervals = objects.entry(it.memory.0).or_default();
            let taken = intervals.insert(start, (end, *kind));
            assert!(taken.is_none(), "two allocations at {start}");
        }
        let least = self.debug.min_granularity.unwrap_or(1);
        let page = info.limits.buffer_image_granularity.max(least);
        for intervals in objects.values() {
            let all: Vec<_> =
                intervals.iter().map(|(&from, &(to, kind))| (from, to, kind)).collect();
            for (at, &(_, end, kind)) in all.iter().enumerate() {
                for &(from, _, other) in &all[at + 1..] {
                    assert!(end <= from, "overlap at {from}");
                    if (end - 1) / page != from / page {
                        break;
                    }
                    assert!(page == 1 || may_share(kind, other), "{kind:?}, {other:?} at {from}");
                }
            }
        }
    }
}
