//! The allocator compared with a model of it, on every profile: random requests, and all invariants after
//! each.

mod common;
#[path = "shadow_allocator/requests.rs"]
mod requests;
#[path = "shadow_allocator/shadow.rs"]
mod shadow;

use std::sync::Arc;

use common::{KIB, MIB, Random, World};
use shadow::Shadow;
use vkmem_engine::{
    AllocationRequest, Allocator, AllocatorOptions, DebugOptions, DeviceInfo, EmptyBlockRetention,
    Error, SimulatedDevice, profile_info, profile_names,
};

/// Varies a profile: small blocks, heap limits, few memory objects, a heap used by other processes.
fn situation(info: &mut DeviceInfo, random: &mut Random) -> AllocatorOptions {
    if random.one_in(2) {
        info.limits.max_memory_allocation_count = 6 + random.below(20) as u32;
    }
    let preferred_block_size = match random.below(3) {
        0 => None,
        1 => Some((64 * KIB) << random.below(5)),
        _ => Some(1 + random.size(20)),
    };
    let heap_size_limits = match random.below(3) {
        0 => Vec::new(),
        _ => info
            .heaps
            .iter()
            .map(|_| random.pick(&[u64::MAX, 64 * MIB, 9 * MIB, 1_000_003]))
            .collect(),
    };
    let empty_block_retention = match random.below(4) {
        0 => EmptyBlockRetention { count: Some(random.below(4) as u32), bytes: None, share: None },
        1 => EmptyBlockRetention { count: None, bytes: Some(3 * MIB), share: None },
        2 => EmptyBlockRetention { count: Some(9), bytes: None, share: Some(0.3) },
        _ => EmptyBlockRetention::default(),
    };
    AllocatorOptions {
        preferred_block_size,
        heap_size_limits,
        preferred_small_heap_block_size: preferred_block_size.filter(|_| random.one_in(2)),
        empty_block_retention,
        prefetch: false,
        exceed_allocation_count: random.one_in(4),
        frames_in_use: random.below(3),
        debug: debug(random),
    }
}

/// Margins in half of the worlds, and limits that are stricter than the device's in some.
fn debug(random: &mut Random) -> DebugOptions {
    DebugOptions {
        margin: random.pick(&[0, 0, 0, 4, 16, 100, 5000, 64 * KIB]),
        min_granularity: random.one_in(6).then_some(64 * KIB),
        always_dedicated: random.one_in(10),
        ..DebugOptions::default()
    }
}

/// Returns the number of lost allocations.
fn run(profile: &str, seed: u64, steps: u64) -> u64 {
    let mut random = Random(seed);
    let mut info = profile_info(profile).unwrap();
    let options = situation(&mut info, &mut random);
    let heaps = info.heaps.clone();
    let (frames_in_use, debug) = (options.frames_in_use, options.debug);
    let mut shadow = Shadow::new(World::with(info, &options), frames_in_use, debug);
    for step in 0..steps {
        // Fills and empties in turns.
        let grows = step / 60 % 2 == 0;
        if random.one_in(3) {
            shadow.world.allocator.set_frame(step);
        }
        match random.below(20) {
            0 => {
                let heap = random.below(heaps.len() as u64) as u32;
                let left = random.pick(&[u64::MAX, 3 * MIB, 100 * KIB, 0]);
                let free = heaps[heap as usize].size.saturating_sub(left);
                shadow.occupy(heap, free);
            }
            1 if random.one_in(4) => shadow.lose_all(),
            1..=4 if !shadow.is_empty() => shadow.use_one(&mut random),
            it if it < if grows { 15 } else { 9 } => {
                let request = requests::random(&mut random, shadow.world.device.as_ref());
                shadow.allocate(&request, random.one_in(3));
            }
            _ if !shadow.is_empty() => shadow.free(random.below(shadow.len()) as usize),
            _ => {}
        }
        shadow.check();
    }
    for f in &shadow.failed {
        eprintln!("FAIL {f}");
    }
    shadow.free_all();
    shadow.world.assert_empty();
    shadow.lost
}

/// Threads run tests side by side, so the seeds are spread over some.
macro_rules! random_requests_agree_with_the_shadow {
    ($($name:ident: $seeds:expr),*) => {$(
        #[test]
        fn $name() {
            for profile in profile_names() {
                let lost = $seeds.map(|seed| {
                    println!("profile {profile}, seed {seed}");
                    run(profile, seed, 220)
                });
                let lost: u64 = lost.sum();
                assert!(lost >= 20, "{profile}: {lost} lost");
            }
        }
    )*};
}

random_requests_agree_with_the_shadow! {
    random_requests_agree_with_the_shadow_from_seed_0: 0..20,
    random_requests_agree_with_the_shadow_from_seed_20: 20..40,
    random_requests_agree_with_the_shadow_from_seed_40: 40..60,
    random_requests_agree_with_the_shadow_from_seed_60: 60..80
}

#[test]
fn random_batches_agree_with_the_shadow() {
    for profile in profile_names() {
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut info = profile_info(profile).unwrap();
            info.limits.max_memory_allocation_count = 40;
            let options = AllocatorOptions {
                preferred_block_size: Some((256 * KIB) << random.below(4)),
                heap_size_limits: Vec::new(),
                debug: debug(&mut random),
                ..AllocatorOptions::default()
            };
            let (frames_in_use, debug) = (options.frames_in_use, options.debug);
            let mut shadow = Shadow::new(World::with(info, &options), frames_in_use, debug);
            for _ in 0..30 {
                let count = random.below(40) as usize;
                // Most calls repeat one create info; some mix several.
                let one = requests::random(&mut random, shadow.world.device.as_ref());
                let mixed = random.one_in(4);
                let batch: Vec<AllocationRequest> = (0..count)
                    .map(|_| {
                        let other = requests::random(&mut random, shadow.world.device.as_ref());
                        let mut request = if mixed { other } else { one };
                        request.requirements.size = random.size(18);
                        request
                    })
                    .collect();
                shadow.allocate_many(&batch);
                shadow.world.allocator.set_frame(shadow.made);
                shadow.check();
                if random.one_in(2) {
                    let count = random.below(shadow.len() + 1) as usize;
                    shadow.free_many(count);
                    shadow.check();
                }
            }
            shadow.free_many(shadow.len() as usize);
            shadow.world.assert_empty();
        }
    }
}

#[test]
fn dropping_the_allocator_gives_everything_back() {
    for profile in profile_names() {
        let device = Arc::new(SimulatedDevice::profile(profile).unwrap());
        let allocator = Allocator::new(device.clone(), &AllocatorOptions::default()).unwrap();
        let mut random = Random(3);
        let mut live = 0;
        for _ in 0..60 {
            let request = requests::random(&mut random, device.as_ref());
            live += u64::from(allocator.allocate(&request).is_ok());
        }
        assert!(live > 10 && device.live_memory_objects() > 0);
        drop(allocator);
        device.assert_clean();
    }
}

#[test]
fn devices_and_options_that_cannot_be_are_refused() {
    let make = |change: fn(&mut DeviceInfo, &mut AllocatorOptions)| {
        let mut info = profile_info("lavapipe").unwrap();
        let mut options = AllocatorOptions::default();
        change(&mut info, &mut options);
        Allocator::new(Arc::new(SimulatedDevice::new(info)), &options).err()
    };
    assert_eq!(make(|_, _| {}), None);
    let refused = |error: Option<Error>, text: &str| match error {
        Some(Error::InvalidArgument(reason)) => assert_eq!(reason, text),
        other => panic!("{other:?}"),
    };
    refused(make(|_, it| it.preferred_block_size = Some(0)), "preferred_block_size is 0");
    refused(
        make(|_, it| it.heap_size_limits = vec![1, 2]),
        "heap_size_limits has 2 entries, the device 1 heap",
    );
}
