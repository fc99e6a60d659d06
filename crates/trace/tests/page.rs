//! The data of pages: a decoder of its own finds in them, at every moment, what the trace and its replay say.

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{allocate, buffer, random_program, recorded, trace_of};
use vkmem_engine::{Statistics, profile_info};
use vkmem_trace::{
    Call, End, Held, Kind, Mark, MoveResult, ReplaySettings, TimelineData, Trace, Usage, load,
    replay, timeline_data,
};

/// The columns of a page by their names, and its texts as JSON.
struct Decoded {
    header: String,
    columns: HashMap<String, Vec<u64>>,
    texts: String,
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a number is cut off");
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

fn decode(data: &TimelineData) -> Decoded {
    let start = data.header.find("\"columns\":[[").expect("columns") + 12;
    let end = start + data.header[start..].find("]]").expect("their end");
    let (mut columns, mut rest) = (HashMap::new(), data.body.as_slice());
    for column in data.header[start..end].split("],[") {
        let parts: Vec<&str> = column.split(',').collect();
        let [name, encoding, count, size] = parts[..] else { panic!("{column}") };
        let (mut bytes, behind) = rest.split_at(size.parse().expect("bytes"));
        rest = behind;
        let mut last = 0_u64;
        let values = (0..count.parse().expect("entries")).map(|_| {
            let number = varint(&mut bytes);
            let change = (number >> 1) as i64 ^ -((number & 1) as i64);
            last = match encoding {
                "\"delta\"" => last.wrapping_add(change as u64),
                _ => number,
            };
            last
        });
        columns.insert(name.trim_matches('"').to_string(), values.collect::<Vec<u64>>());
        assert!(bytes.is_empty(), "{name} has bytes left");
    }
    let texts = std::str::from_utf8(rest).expect("UTF-8").to_string();
    assert!(data.header.contains(&format!("\"texts\":{}", texts.len())));
    Decoded { header: data.header.clone(), columns, texts }
}

impl Decoded {
    fn of(&self, name: &str) -> &[u64] {
        self.columns.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn is_there(&self, table: &str, row: usize, moment: u64) -> bool {
        let begin = self.of(&format!("{table}.begin"))[row];
        let life = self.of(&format!("{table}.life"))[row];
        begin < moment && (life == 0 || moment <= begin + life)
    }

    /// Numbers of a key in the objects of a list of the header.
    fn list(&self, list: &str, key: &str) -> Vec<Option<u64>> {
        let start = self.header.find(&format!("\"{list}\":[")).expect(list) + list.len() + 4;
        let end = start + self.header[start..].find(']').expect("its end");
        let key = format!("\"{key}\":");
        let objects = self.header[start..end].split("},{").filter(|it| !it.is_empty());
        objects
            .map(|it| {
                let value = &it[it.find(&key).expect("the key") + key.len()..];
                value.split([',', '}']).next().and_then(|it| it.parse().ok())
            })
            .collect()
    }

    /// What is held and live by heap after so many events.
    fn held(&self, moment: u64) -> Vec<Held> {
        let types = self.list("types", "heap");
        let of_pools: Vec<usize> = self
            .list("pools", "type")
            .iter()
            .map(|it| types[it.expect("a type") as usize].expect("a heap") as usize)
            .collect();
        let mut heaps = vec![Held::default(); self.list("heaps", "size").len()];
        for row in 0..self.of("memory.begin").len() {
            if self.is_there("memory", row, moment) {
                let heap = &mut heaps[of_pools[self.of("memory.pool")[row] as usize]];
                heap.block_count += 1;
                heap.block_bytes += self.of("memory.size")[row];
            }
        }
        for row in 0..self.of("place.begin").len() {
            if self.of("place.base")[row] == 0 && self.is_there("place", row, moment) {
                let heap = &mut heaps[of_pools[self.of("place.pool")[row] as usize]];
                heap.allocation_count += 1;
                heap.allocation_bytes += self.of("place.size")[row];
            }
        }
        heaps
    }

    /// Nothing lies where something else lies, and a slot has one memory object at a time.
    fn check_places(&self, moment: u64) {
        let mut taken = Vec::new();
        for row in 0..self.of("place.begin").len() {
            let memory = self.of("place.memory")[row];
            let is_here = |row: usize| self.is_there("memory", row, moment);
            // The driver is told of the end of a memory object before that of its last allocation.
            if memory != 0
                && self.of("place.base")[row] == 0
                && self.is_there("place", row, moment)
                && is_here(memory as usize - 1)
            {
                let (offset, size) = (self.of("place.offset")[row], self.of("place.size")[row]);
                assert!(offset + size <= self.of("memory.size")[memory as usize - 1]);
                taken.push((memory, offset, size));
            }
        }
        taken.sort_unstable();
        for pair in taken.windows(2) {
            let [(memory, offset, size), (next, after, _)] = pair else { unreachable!() };
            assert!(memory != next || offset + size <= *after, "{pair:?} at {moment}");
        }
        let mut slots: Vec<(u64, u64)> = (0..self.of("memory.begin").len())
            .filter(|row| self.is_there("memory", *row, moment))
            .map(|row| (self.of("memory.pool")[row], self.of("memory.slot")[row]))
            .filter(|(_, slot)| *slot != 0)
            .collect();
        slots.sort_unstable();
        assert!(slots.windows(2).all(|it| it[0] != it[1]), "{slots:?} at {moment}");
    }
}

fn check(trace: &Arc<Trace>, every: usize) -> Decoded {
    let decoded = decode(&timeline_data(trace));
    assert_eq!(decoded.of("event.time"), trace.columns().times());
    let kinds: Vec<u64> = trace.columns().kinds().iter().map(|it| u64::from(*it)).collect();
    assert_eq!(decoded.of("event.kind"), kinds);
    let mut usage = Usage::new(trace);
    for (index, event) in trace.events().enumerate() {
        if index.is_multiple_of(every) {
            assert_eq!(decoded.held(index as u64), usage.heaps(), "after {index} events");
            decoded.check_places(index as u64);
        }
        usage.apply(&event);
    }
    assert_eq!(decoded.held(trace.len() as u64), usage.heaps(), "at the end");
    decoded
}

#[test]
fn every_moment_is_as_the_trace_says() {
    for (profile, seed) in [("discrete-8gib", 1), ("integrated", 2), ("discrete-8gib-bar", 3)] {
        let device = profile_info(profile).expect("a profile");
        let trace = recorded(random_program(&device, seed, 1500, 90), &ReplaySettings::default());
        let decoded = check(&trace, 7);
        assert!(decoded.header.contains("\"played\":false"));
        let moves = |result: MoveResult| {
            let is =
                |call: &Call<'_>| matches!(call, Call::EndMove { result: it, .. } if *it == result);
            trace.events().filter(|it| is(&it.call)).count()
        };
        assert!(moves(MoveResult::Moved) > 0, "the program moves");
        let lost =
            |end: End| decoded.of("place.ending").iter().filter(|it| **it == end as u64).count();
        assert!(lost(End::Lost) > 0 && lost(End::Freed) > 0 && lost(End::Moved) > 0);
        let marks = decoded.of("mark.kind");
        assert!(marks.contains(&(Mark::Loss as u64)) && marks.contains(&(Mark::Frame as u64)));
        assert!(!decoded.of("run.begin").is_empty());
        assert!(decoded.texts.contains("\"another\""));
    }
}

#[test]
fn moments_are_those_of_the_allocator_of_a_replay() {
    let device = profile_info("discrete-8gib").expect("a profile");
    let trace = recorded(random_program(&device, 5, 800, 60), &ReplaySettings::default());
    let decoded = decode(&timeline_data(&trace));
    let in_group: Vec<usize> = trace
        .events()
        .enumerate()
        .flat_map(|(index, event)| match event.call {
            Call::Group { count, .. } => index..index + 2 * count as usize + 8,
            _ => 0..0,
        })
        .collect();
    for until in (1..trace.len()).step_by(41) {
        // Between the events of a call its effect is not complete.
        let inside = |kind: Kind| {
            matches!(kind, Kind::AllocateMemory | Kind::FreeMemory | Kind::Group | Kind::Lose)
        };
        if in_group.contains(&until) || inside(trace.columns().kind(until - 1)) {
            continue;
        }
        let settings = ReplaySettings { until: Some(until), ..ReplaySettings::default() };
        let played = replay(&trace, &settings).expect("sound settings");
        let Some(allocator) = played.allocator(0) else { continue };
        for (heap, held) in (0..).zip(decoded.held(until as u64)) {
            let of_heap = (0..).zip(&device.types).filter(|(_, it)| it.heap_index == heap);
            let mut it = Statistics::default();
            of_heap.for_each(|(number, _)| it.add(&allocator.statistics_of_type(number)));
            assert_eq!(
                (held.allocation_count, held.allocation_bytes, held.block_count, held.block_bytes),
                (it.allocation_count, it.allocation_bytes, it.block_count, it.block_bytes),
                "after {until} events"
            );
        }
    }
}

#[test]
fn a_trace_without_places_is_played() {
    let trace = Arc::new(load(include_bytes!("data/vma-1.8-vega.csv")).expect("readable"));
    let decoded = decode(&timeline_data(&trace));
    assert!(decoded.header.contains("\"played\":true"));
    assert!(
        decoded.header.contains(&format!("\"format\":\"{}\"", trace.description().format.noun()))
    );
    assert!(!decoded.of("memory.begin").is_empty());
    assert!(decoded.of("place.memory").iter().all(|it| *it != 0));
    for moment in 0..=decoded.of("event.time").len() as u64 {
        decoded.check_places(moment);
    }
}

#[test]
fn segments_of_a_snapshot_are_memory_objects() {
    let bytes = include_bytes!("data/snapshot-whole.pickle");
    let trace = Arc::new(load(bytes).expect("readable"));
    let decoded = decode(&timeline_data(&trace));
    assert!(decoded.header.contains("\"played\":false"));
    let mut usage = Usage::new(&trace);
    for (index, event) in trace.events().enumerate() {
        let heaps = decoded.held(index as u64);
        let sum = |of: fn(&Held) -> u64| heaps.iter().map(of).sum::<u64>();
        assert_eq!(sum(|it| it.block_bytes), usage.total().block_bytes, "after {index} events");
        assert_eq!(sum(|it| it.allocation_bytes), usage.total().allocation_bytes);
        usage.apply(&event);
    }
    assert!(!decoded.of("site.line").is_empty());
}

#[test]
fn small_traces_have_all_columns() {
    let device = profile_info("discrete-8gib").expect("a profile");
    let empty = decode(&timeline_data(&Arc::new(trace_of(&device, []))));
    assert!(empty.header.contains("\"events\":0"));
    assert!(empty.columns.values().all(Vec::is_empty));
    assert_eq!(empty.texts, "[\"\"]");
    let one = trace_of(&device, [Call::Mark { text: "</script>\u{1F600}" }]);
    let one = decode(&timeline_data(&Arc::new(one)));
    assert_eq!(one.of("mark.text"), [1]);
    assert_eq!(one.texts, "[\"\",\"</script>\u{1F600}\"]");
    // An allocation that no device can have is no place, and is none of the end of the data.
    let calls = [allocate(0, buffer(0x80), 1 << 62), Call::Free { allocation: 0 }];
    let refused = decode(&timeline_data(&Arc::new(trace_of(&device, calls))));
    assert!(refused.of("place.begin").is_empty());
    assert_eq!(refused.of("mark.kind"), [Mark::Failure as u64]);
    assert!(refused.texts.contains("An allocation failed"));
}
