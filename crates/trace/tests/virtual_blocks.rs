//! Recordings of virtual blocks and of sets of them: a replay puts everything where it was.

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{Bytes, Random};
use vkmem_engine::{
    Algorithm, DefragmentationAlgorithm as Way, SlotKey, Strategy, VirtualBlock, VirtualRequest,
};
use vkmem_trace::{
    Kind, RecordedBlock, RecordedBlocks, Recording, ReplaySettings, Replayed, SpaceInfo, Trace,
    replay,
};

fn begin() -> (Bytes, Recording) {
    let bytes = Bytes::default();
    let recording = bytes.begin();
    (bytes, recording)
}

fn end(bytes: &Bytes, recording: &Recording) -> Arc<Trace> {
    assert!(recording.finish().error.is_none());
    Arc::new(bytes.load())
}

fn play(trace: &Arc<Trace>) -> Replayed {
    let played = replay(trace, &ReplaySettings::default()).expect("sound settings");
    let report = played.report();
    assert!(report.skipped.is_empty(), "{report}");
    assert_eq!((report.placements.differing, &report.placements.first), (0, &None), "{report}");
    assert_eq!(report.failed_now.count + report.succeeded_now.count, 0, "{report}");
    played
}

fn count(trace: &Trace, kind: Kind) -> usize {
    trace.columns().kinds().iter().filter(|it| **it == kind as u8).count()
}

fn request(random: &mut Random, algorithm: Algorithm) -> VirtualRequest {
    VirtualRequest {
        // 0 is refused.
        size: random.below(400),
        alignment: [0, 1, 8, 12, 64, 100][random.below(6) as usize],
        upper: algorithm == Algorithm::Linear && random.below(3) == 0,
        strategy: [Strategy::Balanced, Strategy::MinTime, Strategy::MinOffset]
            [random.below(3) as usize],
    }
}

/// Runs a random program on a block until `calls` are made.
fn use_block(
    block: &mut RecordedBlock,
    random: &mut Random,
    calls: usize,
    texts: &mut HashMap<SlotKey, String>,
) {
    let algorithm = block.algorithm();
    let mut live: Vec<SlotKey> = Vec::new();
    for call in 0..calls {
        match random.below(40) {
            0 => {
                let requests: Vec<_> = (0..50).map(|_| request(random, algorithm)).collect();
                let _ = block.allocate_many(requests.into_iter(), |it| live.push(it.key));
            }
            1 => {
                let from = live.len() / 2;
                let some: Vec<SlotKey> = live.split_off(from);
                block.free_many(some.iter().copied()).expect("they are live");
                some.iter().for_each(|key| _ = texts.remove(key));
            }
            2 => {
                let way = [Way::Fast, Way::Balanced, Way::Full][random.below(3) as usize];
                let _ = block.defragment(way);
            }
            3 => _ = block.statistics(),
            4 if call % 5 == 0 => block.grow(block.size() + 100).expect("it is not large"),
            5 if call % 10 == 0 => {
                block.clear();
                live.clear();
                texts.clear();
            }
            6 => {
                if let Some(&key) = live.first() {
                    block.note_data(key, || Some("named"));
                    texts.insert(key, "named".into());
                }
            }
            7..=24 if !live.is_empty() => {
                let key = live.swap_remove(random.below(live.len() as u64) as usize);
                block.free(key).expect("it is live");
                texts.remove(&key);
                assert!(block.free(key).is_err());
            }
            _ => {
                if let Ok(made) = block.allocate(&request(random, algorithm)) {
                    live.push(made.key);
                }
            }
        }
    }
}

#[test]
fn blocks_come_out_as_recorded() {
    for (seed, algorithm) in Algorithm::ALL.into_iter().cycle().take(12).enumerate() {
        let (bytes, recording) = begin();
        let mut random = Random(seed as u64 + 1);
        let mut blocks = Vec::new();
        for margin in [0, 16] {
            let engine = VirtualBlock::with_margin(8192, algorithm, margin).expect("a sound size");
            let mut block = RecordedBlock::new(engine);
            block.begin(&recording, true, &|_| None);
            blocks.push((block, HashMap::new()));
        }
        for _ in 0..6 {
            for (block, texts) in &mut blocks {
                use_block(block, &mut random, 200, texts);
            }
        }
        let trace = end(&bytes, &recording);
        let played = play(&trace);
        assert!(played.report().placements.checked > 800, "{}", played.report());
        assert_eq!(played.virtual_blocks(), [0, 1]);
        assert!(played.allocators().is_empty());
        for (number, (block, texts)) in (0..).zip(&blocks) {
            let text_of = |key: SlotKey| texts.get(&key).map(String::as_str);
            for detailed in [false, true] {
                let ours = block.build_stats_string(detailed, &text_of).expect("there is memory");
                assert_eq!(played.dump_virtual_block(number, detailed), Some(Ok(ours)));
            }
        }
        assert!(count(&trace, Kind::VirtualAllocateFailed) > 0);
        assert!(algorithm == Algorithm::Linear || count(&trace, Kind::VirtualMove) > 0);
    }
}

#[test]
fn large_tables_merge_when_they_are_counted() {
    let (bytes, recording) = begin();
    let mut block = RecordedBlock::new(VirtualBlock::new(1 << 30, Algorithm::Tlsf).expect("sound"));
    block.begin(&recording, true, &|_| None);
    let mut random = Random(9);
    let mut live = Vec::new();
    for _ in 0..30_000 {
        if random.below(3) > 0 || live.is_empty() {
            let (size, strategy) = (1 + random.below(5000), Strategy::Balanced);
            let request = VirtualRequest { size, alignment: 1, upper: false, strategy };
            live.push(block.allocate(&request).expect("there is room").key);
        } else {
            let key = live.swap_remove(random.below(live.len() as u64) as usize);
            block.free(key).expect("it is live");
            if random.below(10) == 0 {
                let _ = block.statistics();
            }
        }
    }
    let trace = end(&bytes, &recording);
    assert!(count(&trace, Kind::MergeSpace) > 100);
    let ours = block.build_stats_string(true, &|_| None).expect("there is memory");
    assert_eq!(play(&trace).dump_virtual_block(0, true), Some(Ok(ours)));
}

#[test]
fn sets_come_out_as_recorded() {
    for (seed, algorithm) in Algorithm::ALL.into_iter().cycle().take(6).enumerate() {
        let (bytes, recording) = begin();
        let mut random = Random(seed as u64 + 50);
        let margin = if seed < 3 { 0 } else { 8 };
        let info = SpaceInfo { size: None, algorithm, alignment: 4, margin };
        let mut set = RecordedBlocks::new(info);
        set.begin(&recording, 0, true);
        let (mut blocks, mut live) = (Vec::new(), Vec::new());
        for _ in 0..3000 {
            match random.below(60) {
                0 => blocks.push(set.add(1024 + random.below(3000)).expect("sound")),
                1 if blocks.len() > 3 => {
                    let block = blocks.swap_remove(random.below(blocks.len() as u64) as usize);
                    set.remove(block).expect("it is there");
                    live.retain(|it: &(u32, SlotKey)| it.0 != block);
                }
                2..=28 if !live.is_empty() => {
                    let at = random.below(live.len() as u64) as usize;
                    let (block, key) = live.swap_remove(at);
                    set.free(block, key).expect("it is live");
                }
                _ => {
                    let alignment = [1, 4, 12, 64][random.below(4) as usize];
                    if let Some((block, it)) =
                        set.allocate(1 + random.below(300), alignment).expect("sound")
                    {
                        live.push((block, it.key));
                    }
                }
            }
        }
        let trace = end(&bytes, &recording);
        assert!(count(&trace, Kind::VirtualAllocateFailed) > 0);
        assert!(count(&trace, Kind::RemoveBlock) > 0);
        let played = play(&trace);
        assert!(played.report().placements.checked > 500);
        assert_eq!(played.report().leftovers.virtual_allocations, live.len() as u64);
        assert!(played.virtual_blocks().is_empty());
    }
}

#[test]
fn what_existed_is_told() {
    let (bytes, recording) = begin();
    let mut block = RecordedBlock::new(VirtualBlock::new(1000, Algorithm::Tlsf).expect("sound"));
    let request =
        VirtualRequest { size: 100, alignment: 1, upper: false, strategy: Strategy::Balanced };
    let old = block.allocate(&request).expect("there is room");
    block.begin(&recording, false, &|_| Some("old"));
    let new = block.allocate(&request).expect("there is room");
    block.free(old.key).expect("it is live");
    block.end();
    block.free(new.key).expect("it is live");
    let trace = end(&bytes, &recording);
    let kinds: Vec<&str> = trace.events().map(|it| it.call.kind().name()).collect();
    let expected = [
        "create_space",
        "virtual_allocate",
        "set_virtual_data",
        "virtual_allocate",
        "virtual_free",
        "destroy_space",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(trace.events().filter(|it| it.is_state).count(), 3);
    assert!(!block.is_recorded());
    let until = Some(5);
    let played = replay(&trace, &ReplaySettings { until, ..ReplaySettings::default() });
    let played = played.expect("sound settings");
    assert_eq!(played.report().leftovers.virtual_allocations, 1);
}
