//! Margins and quarantine in random programs, over all algorithms and profiles: what a checker is told agrees with a
//! model after each step.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use common::{KIB, Random, World, buffer};
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationId, AllocatorOptions,
    DebugOptions, DeviceMemory, Error, Evictable, GuardedUse, PoolCreateInfo, PoolId, PoolKey,
    QuarantineLimit, QuarantineOwner, Quarantined, ResourceKind, profile_info, profile_names,
};

/// Notes what leaves the quarantine.
#[derive(Default)]
struct Left(Mutex<Vec<Quarantined>>);

impl QuarantineOwner for Left {
    fn leaving(&self, allocations: &[Quarantined]) {
        self.0.lock().unwrap().extend_from_slice(allocations);
    }
}

struct Live {
    allocation: Allocation,
    is_guarded: bool,
    is_filled: bool,
    evictable: Option<Evictable>,
}

struct Freed {
    allocation: Allocation,
    is_guarded: bool,
    is_filled: bool,
    frame: u64,
}

/// By memory object and the offset where the range meets what is between the margins, or begins.
type Ranges = BTreeMap<(u64, u64, bool), (GuardedUse, AllocationId)>;

/// Returns the last bytes of an allocation that are said to be no part of its buffer.
fn slack_of(it: &Allocation) -> u64 {
    (it.id.key.index() as u64 % 7).min(it.size - 1)
}

struct Model {
    world: World,
    debug: DebugOptions,
    pool: PoolId,
    left: Arc<Left>,
    live: Vec<Live>,
    /// In the order of the frees.
    freed: Vec<Freed>,
    stale: Vec<AllocationId>,
    frame: u64,
    lost: u64,
}

impl Model {
    fn new(profile: &str, algorithm: Algorithm, random: &mut Random) -> Option<Self> {
        let debug = DebugOptions {
            margin: random.pick(&[0, 4, 16, 60, 1000]),
            quarantine: random.pick(&[
                None,
                Some(QuarantineLimit::Bytes(1)),
                Some(QuarantineLimit::Bytes(20_000)),
                Some(QuarantineLimit::Frames(2)),
            ]),
            min_granularity: random.one_in(4).then_some(4 * KIB),
            ..DebugOptions::default()
        };
        let options = AllocatorOptions { debug, ..common::blocks_of(128 * KIB) };
        let world = World::with(profile_info(profile).unwrap(), &options);
        let types = world.device.info().types.len() as u64;
        let rules = PoolCreateInfo {
            memory_type_index: random.below(types) as u32,
            block_size: Some(64 * KIB),
            min_block_count: random.below(2) as u32,
            max_block_count: 3,
            algorithm,
            ..PoolCreateInfo::default()
        };
        // Some types are not for pools.
        let pool = world.allocator.create_pool(&rules).ok()?;
        let left = Arc::new(Left::default());
        world.allocator.set_quarantine_owner(Some(left.clone()));
        let (live, freed, stale) = (Vec::new(), Vec::new(), Vec::new());
        let (frame, lost) = (0, 0);
        Some(Self { world, debug, pool, left, live, freed, stale, frame, lost })
    }

    fn allocate(&mut self, random: &mut Random) {
        use ResourceKind::*;
        let mut request = buffer(random.size(13));
        request.requirements.alignment = 1 << random.below(10);
        request.requirements.requires_dedicated = random.one_in(40);
        request.kind = random.pick(&[Buffer, Buffer, ImageOptimal, ImageLinear, Unknown]);
        request.create_info.pool = (!random.one_in(4)).then_some(self.pool);
        let flags = &mut request.create_info.flags;
        match random.below(6) {
            0 => *flags = Create::MAPPED | Create::HOST_ACCESS_SEQUENTIAL_WRITE,
            1 => *flags = Create::CAN_BECOME_LOST | Create::CAN_MAKE_OTHER_LOST,
            2 if request.create_info.pool.is_none() => *flags = Create::DEDICATED_MEMORY,
            3 => *flags = Create::NEVER_ALLOCATE,
            _ => {}
        }
        let made = self.world.allocator.allocate(&request);
        self.take_left();
        let allocation = match made {
            Ok(allocation) => allocation,
            Err(error) => {
                let in_pool =
                    |it: &Freed| it.allocation.id.pool_key() == PoolKey::Custom(self.pool);
                let is_full = error.is_shortage() && request.create_info.pool.is_some();
                let quarantined = self.freed.iter().filter(|it| in_pool(it)).count();
                assert!(!is_full || quarantined == 0, "{error}: the quarantine is still there");
                return;
            }
        };
        assert!(allocation.offset.is_multiple_of(request.requirements.alignment));
        let is_exact = allocation.is_dedicated() && request.requirements.requires_dedicated;
        let is_filled = !random.one_in(4);
        if is_filled {
            self.world.allocator.note_filled(allocation.id, slack_of(&allocation)).unwrap();
        }
        let can_be_lost = request.create_info.flags.contains(Create::CAN_BECOME_LOST);
        let evictable =
            can_be_lost.then(|| self.world.allocator.make_evictable(&allocation, 0.5).unwrap());
        let is_guarded = self.debug.margin != 0 && !is_exact;
        self.live.push(Live { allocation, is_guarded, is_filled, evictable });
        self.take_lost();
    }

    /// Drops what was taken away; it leaves no quarantine.
    fn take_lost(&mut self) {
        let is_lost = |it: &mut Live| it.evictable.as_ref().is_some_and(Evictable::is_lost);
        for it in self.live.extract_if(.., is_lost) {
            self.stale.push(it.allocation.id);
            self.lost += 1;
        }
    }

    fn free(&mut self, at: usize) {
        let Live { allocation, is_guarded, is_filled, evictable } = self.live.swap_remove(at);
        drop(evictable);
        let release = self.world.allocator.free(allocation.id).unwrap();
        self.stale.push(allocation.id);
        if self.debug.quarantine.is_some() {
            let frame = self.frame;
            self.freed.push(Freed { allocation, is_guarded, is_filled, frame });
        }
        drop(release);
        self.take_left();
        self.check_limit(allocation.id);
    }

    /// Removes what has left the quarantine, which has to be the oldest of its pool.
    fn take_left(&mut self) {
        let left: Vec<_> = self.left.0.lock().unwrap().drain(..).collect();
        for it in left {
            let is_same = |freed: &Freed| {
                let id = freed.allocation.id;
                id.pool_key() == it.id.pool_key() && id.is_dedicated() == it.id.is_dedicated()
            };
            let at = self.freed.iter().position(is_same).expect("it was in quarantine");
            let Freed { allocation, .. } = self.freed.remove(at);
            assert_eq!(it.id, allocation.id);
            assert_eq!(it.memory.handle(), allocation.memory);
            assert_eq!((it.offset, it.size), (allocation.offset, allocation.size));
        }
    }

    /// Checks the limit of a quarantine in which something was put.
    fn check_limit(&self, id: AllocationId) {
        let same = self.freed.iter().filter(|it| {
            let other = it.allocation.id;
            other.pool_key() == id.pool_key() && other.is_dedicated() == id.is_dedicated()
        });
        match self.debug.quarantine {
            Some(QuarantineLimit::Bytes(most)) => {
                assert!(same.map(|it| it.allocation.size).sum::<u64>() <= most);
            }
            Some(QuarantineLimit::Frames(count)) => {
                assert!(same.map(|it| it.frame).all(|frame| self.frame - frame < count));
            }
            None => assert_eq!(same.count(), 0),
        }
    }

    fn margins(&self, ranges: &mut Ranges, it: &Allocation) {
        let end = it.offset + it.size - slack_of(it);
        for (at, is) in [(it.offset, GuardedUse::FrontMargin), (end, GuardedUse::BackMargin)] {
            let is_front = is == GuardedUse::FrontMargin;
            ranges.insert((it.memory.0, at, is_front), (is, it.id));
        }
    }

    fn check(&self) {
        let allocator = &self.world.allocator;
        self.world.device.assert_no_violations();
        allocator.validate().unwrap();
        let mut expected = Ranges::new();
        let mut taken: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        let margin = |is_guarded: bool| if is_guarded { self.debug.margin } else { 0 };
        // What nobody may write, and what somebody may, is all there once.
        let mut parts: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        for Live { allocation: it, is_guarded, is_filled, .. } in &self.live {
            assert_eq!(allocator.info(it.id), Ok(*it));
            let slack = if *is_guarded && *is_filled { slack_of(it) } else { 0 };
            let contents = (it.offset, it.offset + it.size - slack);
            parts.entry(it.memory.0).or_default().push(contents);
            if *is_guarded && *is_filled {
                self.margins(&mut expected, it);
            }
            let margin = margin(*is_guarded);
            let range = (it.offset - margin, it.offset + it.size + margin);
            taken.entry(it.memory.0).or_default().push(range);
        }
        for Freed { allocation: it, is_guarded, is_filled, .. } in &self.freed {
            if *is_guarded && *is_filled {
                self.margins(&mut expected, it);
            }
            let value = (GuardedUse::Quarantined, it.id);
            expected.insert((it.memory.0, it.offset, false), value);
            let margin = margin(*is_guarded);
            let range = (it.offset - margin, it.offset + it.size + margin);
            taken.entry(it.memory.0).or_default().push(range);
        }
        for (memory, ranges) in &mut taken {
            let size = self.world.device.memory(vkmem_engine::MemoryHandle(*memory)).unwrap().size;
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|two| two[0].1 <= two[1].0), "an overlap");
            assert!(ranges.last().is_none_or(|last| last.1 <= size));
        }
        let mut found = Ranges::new();
        for memory in allocator.guarded_ranges(!0, None, false).unwrap() {
            let ascend = memory.ranges.windows(2).all(|two| two[0].offset < two[1].offset);
            assert!(ascend, "{:?}", memory.ranges);
            for it in &memory.ranges {
                let (is_front, end) = (it.is == GuardedUse::FrontMargin, it.offset + it.size);
                let at = if is_front { end } else { it.offset };
                let key = (memory.memory.handle().0, at, is_front);
                assert!(found.insert(key, (it.is, it.id.unwrap())).is_none());
                assert!(allocator.is_guarded(it));
                let is_margin = it.is != GuardedUse::Quarantined;
                assert!(!is_margin || it.size >= self.debug.margin);
                parts.entry(key.0).or_default().push((it.offset, end));
            }
        }
        assert_eq!(found, expected);
        for parts in parts.values_mut() {
            parts.sort_unstable();
            assert!(parts.windows(2).all(|two| two[0].1 <= two[1].0), "{parts:?}");
        }
        self.check_statistics();
        for &id in self.stale.iter().rev().take(3) {
            assert_eq!(allocator.info(id), Err(Error::UseAfterFree));
            assert!(matches!(allocator.free(id), Err(Error::UseAfterFree)));
        }
    }

    fn check_statistics(&self) {
        let it = self.world.allocator.statistics();
        let live: u64 = self.live.iter().map(|it| it.allocation.size).sum();
        assert_eq!((it.allocation_count, it.allocation_bytes), (self.live.len() as u64, live));
        let freed: u64 = self.freed.iter().map(|it| it.allocation.size).sum();
        let count = self.freed.len() as u64;
        assert_eq!((it.quarantined_count, it.quarantined_bytes), (count, freed));
        let guarded = self.live.iter().map(|it| it.is_guarded);
        let guarded = guarded.chain(self.freed.iter().map(|it| it.is_guarded));
        assert_eq!(it.margin_count, 2 * guarded.filter(|it| *it).count() as u64);
        let counted =
            it.allocation_bytes + it.unused_range_bytes + it.margin_bytes + it.quarantined_bytes;
        assert_eq!(counted, it.block_bytes);
        let budgets = self.world.allocator.heap_budgets();
        let of_budgets = budgets.iter().map(|it| it.allocation_bytes).sum::<u64>();
        assert_eq!(of_budgets, live);
    }

    fn end(mut self) -> u64 {
        while let Some(last) = self.live.len().checked_sub(1) {
            self.free(last / 2);
        }
        self.check();
        self.world.allocator.destroy_pool(self.pool).unwrap();
        self.take_left();
        self.world.allocator.end_quarantines();
        self.take_left();
        assert!(self.freed.is_empty());
        self.world.assert_empty();
        self.lost
    }
}

#[test]
fn what_a_checker_is_told_agrees_with_a_model() {
    let mut lost = 0;
    for profile in profile_names() {
        for algorithm in Algorithm::ALL {
            for seed in 0..8 {
                eprintln!("{profile}, {algorithm:?}, seed {seed}");
                let mut random = Random(seed);
                let Some(mut model) = Model::new(profile, algorithm, &mut random) else { continue };
                for step in 0..150 {
                    let grows = step / 50 % 2 == 0;
                    match random.below(20) {
                        0 => {
                            model.frame += 1;
                            model.world.allocator.set_frame(model.frame);
                        }
                        it if it < if grows { 15 } else { 8 } => model.allocate(&mut random),
                        _ if !model.live.is_empty() => {
                            model.free(random.below(model.live.len() as u64) as usize);
                        }
                        _ => {}
                    }
                    model.check();
                }
                lost += model.end();
            }
        }
    }
    assert!(lost > 0, "eviction took part");
}
