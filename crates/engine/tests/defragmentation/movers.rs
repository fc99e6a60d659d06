//! Callers that copy: a set of live allocations with their contents, and passes over them.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use vkmem_engine::{
    Allocation, AllocationId, AllocationRequest, Allocator, Defragmentation,
    DefragmentationAlgorithm, DefragmentationInfo, DefragmentationStatistics, Error, Move, MoveEnd,
    MoveKind, MoveOutcome, PoolCreateInfo, PoolId,
};

use crate::common::{Random, World, buffer};

/// A live allocation and what was written to it.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    pub allocation: Allocation,
    pub alignment: u64,
    pub contents: u64,
}

/// Live allocations over an allocator, and the bytes of each memory object as the copies leave them.
pub struct Movers {
    pub world: World,
    pub live: HashMap<AllocationId, Live>,
    /// What lies where: contents by memory object and offset, with the size of each.
    pub bytes: RefCell<BTreeMap<(u64, u64), (u64, u64)>>,
    next: u64,
    pub passes: u64,
}

pub type Choose<'a> = &'a mut dyn FnMut(&Move) -> MoveOutcome;

/// Copies everything.
pub fn copy(_: &Move) -> MoveOutcome {
    MoveOutcome::Copy
}

impl Movers {
    pub fn new(world: World) -> Self {
        let (live, bytes) = (HashMap::new(), RefCell::default());
        Self { world, live, bytes, next: 1, passes: 0 }
    }

    pub fn allocator(&self) -> &Allocator {
        &self.world.allocator
    }

    /// Allocates and writes; returns the id.
    #[track_caller]
    pub fn allocate(&mut self, request: &AllocationRequest) -> AllocationId {
        self.try_allocate(request).expect("there is room")
    }

    pub fn try_allocate(&mut self, request: &AllocationRequest) -> Result<AllocationId, Error> {
        let allocation = self.world.allocator.allocate(request)?;
        let contents = self.next;
        self.next += 1;
        self.write(&allocation, contents);
        let alignment = request.requirements.alignment.max(request.create_info.min_alignment);
        self.live.insert(allocation.id, Live { allocation, alignment, contents });
        Ok(allocation.id)
    }

    /// Replaces whatever lay in the place of an allocation.
    fn write(&self, at: &Allocation, contents: u64) {
        let mut bytes = self.bytes.borrow_mut();
        let end = at.offset + at.size;
        let object = bytes.range((at.memory.0, 0)..(at.memory.0, end));
        let gone: Vec<_> = object
            .filter(|&(&(_, offset), &(size, _))| offset + size > at.offset)
            .map(|(&place, _)| place)
            .collect();
        for place in gone {
            bytes.remove(&place);
        }
        bytes.insert((at.memory.0, at.offset), (at.size, contents));
    }

    #[track_caller]
    pub fn free(&mut self, id: AllocationId) {
        self.live.remove(&id).expect("it lives");
        drop(self.world.allocator.free(id).expect("it lives"));
    }

    /// Returns the ids in the order of allocation.
    pub fn ids(&self) -> Vec<AllocationId> {
        let mut all: Vec<&Live> = self.live.values().collect();
        all.sort_by_key(|it| it.contents);
        all.iter().map(|it| it.allocation.id).collect()
    }

    /// Frees each allocation for which `which` says so.
    pub fn free_if(&mut self, mut which: impl FnMut(usize) -> bool) {
        for (at, id) in self.ids().into_iter().enumerate() {
            if which(at) {
                self.free(id);
            }
        }
    }

    /// Copies the contents of moves, in their order, as a caller of the passes does.
    pub fn copy(&self, moves: &[Move], outcomes: &[MoveOutcome]) {
        for (it, _) in moves.iter().zip(outcomes).filter(|it| *it.1 == MoveOutcome::Copy) {
            if let Some(live) = self.live.get(&it.source.id) {
                assert_eq!(it.source, live.allocation);
                self.assert_contents(live);
                self.write(&it.destination, live.contents);
            }
        }
    }

    /// Takes over what a pass ended with.
    pub fn note(&mut self, it: &Move, end: MoveEnd) {
        match end {
            MoveEnd::Moved(moved) => {
                let mut live = self.live.remove(&it.source.id).expect("it lives");
                assert_eq!(
                    (moved.memory, moved.offset),
                    (it.destination.memory, it.destination.offset)
                );
                assert_eq!(moved.size, live.allocation.size);
                live.allocation = moved;
                self.live.insert(moved.id, live);
            }
            MoveEnd::Kept => {}
            MoveEnd::Gone => drop(self.live.remove(&it.source.id)),
        }
    }

    /// Writes everything where it lives now: after copies to places that were given up, or with allocations
    /// made over such places.
    pub fn restore(&self) {
        for live in self.live.values() {
            self.write(&live.allocation, live.contents);
        }
    }

    fn assert_contents(&self, live: &Live) {
        let it = live.allocation;
        let there = self.bytes.borrow().get(&(it.memory.0, it.offset)).copied();
        assert_eq!(there, Some((it.size, live.contents)), "contents of {it:?}");
    }

    /// Checks moves that were just proposed.
    pub fn check_moves(&self, moves: &[Move]) {
        for it in moves {
            let Some(live) = self.live.get(&it.source.id) else { continue };
            assert_eq!(it.source, live.allocation, "the source is as it was");
            let (source, destination) = (it.source, it.destination);
            assert_eq!(source.size, destination.size);
            assert_eq!(source.memory_type_index, destination.memory_type_index);
            assert_eq!(source.id.pool_key(), destination.id.pool_key());
            assert!(destination.offset.is_multiple_of(live.alignment), "{it:?}");
            assert_eq!(source.mapped.is_some(), destination.mapped.is_some());
            let overlaps = source.memory == destination.memory
                && source.offset < destination.offset + destination.size
                && destination.offset < source.offset + source.size;
            assert!(it.kind == MoveKind::Slide || !overlaps, "{it:?}");
            if it.kind == MoveKind::Slide {
                assert!(source.memory == destination.memory && destination.offset < source.offset);
            }
        }
    }

    /// Runs one pass; returns false if there was nothing to do.
    pub fn pass(
        &mut self,
        run: &mut Defragmentation,
        may_move: &dyn Fn(AllocationId) -> bool,
        choose: Choose<'_>,
    ) -> bool {
        let moves = self.world.allocator.next_pass(run, may_move);
        self.check_moves(&moves);
        if moves.is_empty() {
            return false;
        }
        self.passes += 1;
        let outcomes: Vec<MoveOutcome> = moves.iter().map(&mut *choose).collect();
        self.copy(&moves, &outcomes);
        let end = self.world.allocator.end_pass(run, &moves, &outcomes);
        for (it, &ended) in moves.iter().zip(&end.ends) {
            self.note(it, ended);
        }
        drop(end.releases);
        true
    }

    /// Runs to the end.
    pub fn run_with(
        &mut self,
        info: &DefragmentationInfo,
        choose: Choose<'_>,
    ) -> DefragmentationStatistics {
        let mut run = self.world.allocator.begin_defragmentation(info).expect("it can be");
        let mut passes = 0;
        while self.pass(&mut run, &|_| true, choose) {
            passes += 1;
            assert!(passes < 100_000, "it ends");
        }
        self.world.allocator.end_defragmentation(run)
    }

    /// Runs to the end and copies everything.
    pub fn run(&mut self, info: &DefragmentationInfo) -> DefragmentationStatistics {
        let done = self.run_with(info, &mut copy);
        self.check();
        done
    }

    /// Compares the allocator with what lives, contents included.
    #[track_caller]
    pub fn check(&self) {
        let World { device, allocator } = &self.world;
        device.assert_no_violations();
        allocator.validate().expect("valid");
        let mut places: Vec<(u64, u64, u64)> = Vec::new();
        for live in self.live.values() {
            let it = live.allocation;
            assert_eq!(allocator.info(it.id), Ok(it));
            assert!(it.offset.is_multiple_of(live.alignment));
            self.assert_contents(live);
            places.push((it.memory.0, it.offset, it.offset + it.size));
        }
        places.sort_unstable();
        let apart = |pair: &[(u64, u64, u64)]| pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1;
        assert!(places.windows(2).all(apart), "two allocations in one place");
        let total = allocator.statistics();
        let bytes: u64 = self.live.values().map(|it| it.allocation.size).sum();
        assert_eq!(
            (total.allocation_count, total.allocation_bytes),
            (self.live.len() as u64, bytes)
        );
        assert_eq!(total.block_count, device.live_memory_objects() as u64);
    }

    /// Frees everything and asserts that nothing is held.
    pub fn end(mut self) {
        self.free_if(|_| true);
        self.world.assert_empty();
    }
}

/// Creates a custom pool of the device's first type.
pub fn pool(world: &World, rules: &PoolCreateInfo) -> PoolId {
    world.allocator.create_pool(rules).expect("a pool")
}

/// Returns a request for a buffer in a pool.
pub fn in_pool(size: u64, pool: PoolId) -> AllocationRequest {
    let mut request = buffer(size);
    request.create_info.pool = Some(pool);
    request
}

/// Returns the parameters of a run over a pool, without limits and slides.
pub fn over(pool: PoolId, algorithm: DefragmentationAlgorithm) -> DefragmentationInfo {
    DefragmentationInfo { pool: Some(pool), algorithm, ..DefragmentationInfo::default() }
}

/// Returns whether a random number is below a share in percent.
pub fn percent(random: &mut Random, share: u64) -> bool {
    random.below(100) < share
}
