//! Defragmentation in random programs, on every profile: allocations, frees, maps and names between and
//! within passes, any outcome of each move, all invariants after each step. And many threads at once.

mod common;
#[path = "defragmentation/movers.rs"]
mod movers;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{KIB, MIB, Random, World, buffer, one_heap};
use movers::Movers;
use vkmem_engine::{
    Algorithm, Allocation, AllocationCreateFlags as Create, AllocationId, AllocationRequest,
    AllocatorOptions, Call, DebugOptions, DefragmentationAlgorithm as Way, DefragmentationInfo,
    DeviceError, EmptyBlockRetention, Move, MoveEnd, MoveKind, MoveOutcome, PoolCreateInfo, PoolId,
    QuarantineLimit, ResourceKind, profile_info, profile_names,
};

fn random_info(random: &mut Random, pools: &[PoolId]) -> DefragmentationInfo {
    DefragmentationInfo {
        pool: random.one_in(3).then(|| random.pick(pools)),
        algorithm: random.pick(&Way::ALL),
        max_bytes_per_pass: random.pick(&[0, 1, 5000, 100_000]),
        max_moves_per_pass: random.pick(&[0, 1, 3, 50]),
        max_regions_per_pass: random.pick(&[0, 0, 1, 500]),
        slides: random.one_in(2),
    }
}

fn random_request(random: &mut Random, pools: &[PoolId]) -> AllocationRequest {
    use ResourceKind::*;
    let mut request = buffer(random.size(15));
    request.requirements.alignment = 1 << random.below(12);
    request.requirements.prefers_dedicated = random.one_in(30);
    request.kind = random.pick(&[Buffer, Buffer, ImageOptimal, ImageLinear, Unknown]);
    request.create_info.pool = random.one_in(2).then(|| random.pick(pools));
    if random.one_in(4) {
        request.create_info.flags = Create::MAPPED | Create::HOST_ACCESS_SEQUENTIAL_WRITE;
    }
    request
}

/// Changes something that has nothing to do with the moves, or frees what moves.
fn disturb(
    movers: &mut Movers,
    random: &mut Random,
    pools: &[PoolId],
    mapped: &mut Vec<AllocationId>,
) {
    match random.below(6) {
        0 | 1 => {
            let _ = movers.try_allocate(&random_request(random, pools));
        }
        2 if !movers.live.is_empty() => {
            let ids = movers.ids();
            let id = random.pick(&ids);
            mapped.retain(|it| *it != id);
            movers.free(id);
        }
        3 if !movers.live.is_empty() => {
            let ids = movers.ids();
            let id = random.pick(&ids);
            if movers.allocator().map(id).is_ok() {
                mapped.push(id);
            }
        }
        4 => {
            if let Some(id) = mapped.pop() {
                movers.allocator().unmap(id).expect("it is mapped");
            }
        }
        _ => {}
    }
}

/// Returns the number of allocations that were moved, and how many of these slid.
fn run(profile: &str, seed: u64) -> [u64; 2] {
    let mut random = Random(seed);
    let info = profile_info(profile).unwrap();
    let types = info.types.len() as u64;
    let options = AllocatorOptions {
        empty_block_retention: random.pick(&[
            EmptyBlockRetention::default(),
            EmptyBlockRetention { count: Some(0), bytes: None, share: None },
            EmptyBlockRetention { count: Some(3), bytes: None, share: None },
        ]),
        debug: DebugOptions {
            margin: if seed.is_multiple_of(2) { 0 } else { random.pick(&[4, 16, 300]) },
            quarantine: (seed % 4 == 3).then_some(QuarantineLimit::Bytes(20_000)),
            ..DebugOptions::default()
        },
        ..common::blocks_of((64 * KIB) << random.below(3))
    };
    let world = World::with(info, &options);
    // Every other program has margins, some only in one pool.
    let margin = |random: &mut Random| DebugOptions {
        margin: random.pick(&[0, 4, 16, 300]),
        ..DebugOptions::default()
    };
    let pools = [Algorithm::Tlsf, Algorithm::Buddy].map(|algorithm| {
        loop {
            let rules = PoolCreateInfo {
                memory_type_index: random.below(types) as u32,
                block_size: Some(64 * KIB),
                min_block_count: random.below(2) as u32,
                algorithm,
                debug: random.one_in(2).then(|| margin(&mut random)),
                ..PoolCreateInfo::default()
            };
            // Some types are not for pools.
            if let Ok(id) = world.allocator.create_pool(&rules) {
                return id;
            }
        }
    });
    let (mut movers, mut mapped) = (Movers::new(world), Vec::new());
    let mut total = [0, 0];
    for _ in 0..3 {
        for _ in 0..60 {
            let _ = movers.try_allocate(&random_request(&mut random, &pools));
        }
        for (at, id) in movers.ids().into_iter().enumerate().filter(|it| it.0 % 5 == 0) {
            movers.allocator().set_name(id, Some(&format!("name {at}"))).unwrap();
        }
        let names: std::collections::HashMap<u64, Option<String>> = movers
            .live
            .values()
            .map(|it| (it.contents, movers.allocator().name(it.allocation.id).unwrap()))
            .collect();
        movers.free_if(|_| random.one_in(2));
        mapped.retain(|id| movers.live.contains_key(id));
        let moved = one_run(&mut movers, &mut random, &pools, &mut mapped);
        total = [total[0] + moved[0], total[1] + moved[1]];
        for live in movers.live.values() {
            if let Some(name) = names.get(&live.contents) {
                assert_eq!(&movers.allocator().name(live.allocation.id).unwrap(), name);
            }
        }
    }
    movers.free_if(|_| true);
    movers.allocator().end_quarantines();
    for id in pools {
        movers.allocator().destroy_pool(id).expect("it is empty");
    }
    movers.world.assert_empty();
    total
}

fn one_run(
    movers: &mut Movers,
    random: &mut Random,
    pools: &[PoolId],
    mapped: &mut Vec<AllocationId>,
) -> [u64; 2] {
    let mut slid = 0;
    let info = random_info(random, pools);
    let mut run = movers.allocator().begin_defragmentation(&info).unwrap();
    let disturbs = random.one_in(2);
    let salt = random.next();
    for pass in 0.. {
        assert!(pass < 20_000, "it ends: {info:?}");
        let may_move = |id: AllocationId| !(id.key.to_bits() ^ salt).is_multiple_of(7);
        let moves = movers.allocator().next_pass(&mut run, &may_move);
        movers.check_moves(&moves);
        slid += moves.iter().filter(|it| it.kind == MoveKind::Slide).count() as u64;
        if moves.is_empty() {
            if run.is_done() {
                break;
            }
            continue;
        }
        assert!(moves.iter().all(|it| may_move(it.source.id)));
        assert!(moves.iter().all(|it| !mapped.contains(&it.source.id)));
        assert!(info.max_moves_per_pass == 0 || moves.len() <= info.max_moves_per_pass as usize);
        let bytes: u64 = moves.iter().map(|it| it.source.size).sum();
        assert!(
            info.max_bytes_per_pass == 0 || moves.len() == 1 || bytes <= info.max_bytes_per_pass
        );
        // Places that are reserved are nobody else's.
        if disturbs && pass < 200 {
            (0..3).for_each(|_| disturb(movers, random, pools, mapped));
        }
        let outcome = |random: &mut Random| match random.below(10) {
            0 => MoveOutcome::Ignore,
            1 => MoveOutcome::Destroy,
            _ => MoveOutcome::Copy,
        };
        let outcomes: Vec<MoveOutcome> = moves.iter().map(|_| outcome(random)).collect();
        movers.copy(&moves, &outcomes);
        if random.one_in(20) {
            // The run ends in the middle: everything stays where it was.
            movers.restore();
            break;
        }
        end_in_some_way(movers, random, &mut run, &moves, &outcomes, mapped);
        movers.check();
    }
    let done = movers.world.allocator.end_defragmentation(run);
    movers.check();
    [done.allocations_moved, slid]
}

fn end_in_some_way(
    movers: &mut Movers,
    random: &mut Random,
    run: &mut vkmem_engine::Defragmentation,
    moves: &[Move],
    outcomes: &[MoveOutcome],
    mapped: &mut Vec<AllocationId>,
) {
    if random.one_in(2) {
        let end = movers.world.allocator.end_pass(run, moves, outcomes);
        for (it, &ended) in moves.iter().zip(&end.ends) {
            mapped.retain(|id| *id != it.source.id || ended == MoveEnd::Kept);
            movers.note(it, ended);
        }
        movers.restore();
        return;
    }
    // One by one, with the sources freed later.
    let mut sources = Vec::new();
    for (it, outcome) in moves.iter().zip(outcomes) {
        let committed = match outcome {
            MoveOutcome::Copy => movers.world.allocator.commit_move(run, it).ok(),
            _ => None,
        };
        match committed {
            Some(moved) => {
                movers.note(it, MoveEnd::Moved(moved));
                if it.kind == MoveKind::Apart {
                    sources.push(it.source.id);
                }
            }
            None => drop(movers.world.allocator.cancel_move(run, it).expect("it had not ended")),
        }
    }
    movers.restore();
    for id in sources {
        let release = movers.world.allocator.free(id).expect("it lives until now");
        run.count_release(&release);
    }
}

/// Threads run tests side by side, so the seeds are spread over some.
macro_rules! random_passes_lose_nothing {
    ($($name:ident: $seeds:expr),*) => {$(
        #[test]
        fn $name() {
            let mut slid = 0;
            for profile in profile_names() {
                let mut moved = 0;
                for seed in $seeds {
                    eprintln!("{profile}, seed {seed}");
                    let [all, slides] = run(profile, seed);
                    (moved, slid) = (moved + all, slid + slides);
                }
                assert!(moved > 0, "{profile}");
            }
            assert!(slid > 0);
        }
    )*};
}

random_passes_lose_nothing! {
    random_passes_lose_nothing_1: 0..4,
    random_passes_lose_nothing_2: 4..8
}

#[test]
fn memory_that_cannot_be_mapped_makes_no_move() {
    let world = World::with(one_heap(64 * MIB), &common::blocks_of(64 * KIB));
    let mut movers = Movers::new(world);
    for _ in 0..32 {
        movers.allocate(&common::mapped(8 * KIB));
    }
    movers.free_if(|at| at % 2 == 0 || at < 16);
    assert_eq!(movers.live.len(), 8);
    movers.world.device.fail_next(Call::Map, 1, DeviceError::OutOfHostMemory);
    let info = DefragmentationInfo { algorithm: Way::Full, ..DefragmentationInfo::default() };
    movers.run(&info);
    movers.run(&info);
    movers.end();
}

#[test]
fn eight_threads_allocate_and_free_what_moves() {
    for (profile, way) in [("nvidia-h200", Way::Full), ("non-coherent", Way::Balanced)] {
        let world = World::with(profile_info(profile).unwrap(), &common::blocks_of(256 * KIB));
        let world = Arc::new(world);
        let done = AtomicBool::new(false);
        // Each thread's allocations, where whoever moves them finds them.
        let owned: Vec<Mutex<Vec<Allocation>>> = (0..8).map(|_| Mutex::default()).collect();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..8u64)
                .map(|seed| {
                    let (world, owned) = (world.clone(), &owned[seed as usize]);
                    scope.spawn(move || work(&world, seed, owned))
                })
                .collect();
            let mover = scope.spawn(|| {
                let mut moved = 0;
                // Once more after the others have ended, as they may before this thread begins.
                loop {
                    let last = done.load(SeqCst);
                    moved += move_all(&world, way, &owned);
                    if last {
                        return moved;
                    }
                }
            });
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            done.store(true, SeqCst);
            assert!(mover.join().unwrap() > 0);
        });
        world.device.assert_no_violations();
        world.allocator.validate().unwrap();
        let mut live = 0;
        for owned in &owned {
            for it in owned.lock().unwrap().drain(..) {
                assert_eq!(world.allocator.info(it.id), Ok(it));
                drop(world.allocator.free(it.id).unwrap());
                live += 1;
            }
        }
        assert!(live > 0);
        world.assert_empty();
    }
}

fn work(world: &World, seed: u64, owned: &Mutex<Vec<Allocation>>) {
    let mut random = Random(seed);
    for _ in 0..400 {
        let mut mine = owned.lock().unwrap();
        if mine.len() < 40 && random.one_in(2) {
            let mut request = buffer(random.size(15));
            request.requirements.alignment = 1 << random.below(9);
            mine.push(world.allocator.allocate(&request).expect("there is room"));
        } else if !mine.is_empty() {
            let at = random.below(mine.len() as u64) as usize;
            let it = mine.swap_remove(at);
            assert_eq!(world.allocator.info(it.id), Ok(it));
            drop(world.allocator.free(it.id).expect("it is mine"));
        }
    }
}

/// One run; what was freed meanwhile is passed over.
fn move_all(world: &World, way: Way, owned: &[Mutex<Vec<Allocation>>]) -> u64 {
    let info = DefragmentationInfo {
        algorithm: way,
        max_moves_per_pass: 16,
        slides: true,
        ..DefragmentationInfo::default()
    };
    let allocator = &world.allocator;
    let mut run = allocator.begin_defragmentation(&info).unwrap();
    loop {
        let moves = allocator.next_pass(&mut run, &|_| true);
        if moves.is_empty() {
            return allocator.end_defragmentation(run).allocations_moved;
        }
        for it in &moves {
            let find = |it: &Move| {
                owned.iter().find_map(|owned| {
                    let mine = owned.lock().unwrap();
                    let at = mine.iter().position(|mine| mine.id == it.source.id)?;
                    Some((mine, at))
                })
            };
            // Its owner sees the move at once, and frees it before or after.
            let Some((mut mine, at)) = find(it) else {
                drop(allocator.cancel_move(&mut run, it).unwrap());
                continue;
            };
            match allocator.commit_move(&mut run, it) {
                Ok(moved) => {
                    mine[at] = moved;
                    if it.kind == MoveKind::Apart {
                        drop(allocator.free(it.source.id).unwrap());
                    }
                }
                Err(_) => drop(allocator.cancel_move(&mut run, it).unwrap()),
            }
        }
    }
}
