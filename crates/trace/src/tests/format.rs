//! Events survive as bytes; a file is read up to its cut; damage is an error.

use super::decode;
use super::random::{self, Random};
use crate::bytes::put;
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::error::{Format, Position};
use crate::event::{Event, Kind};
use crate::format::{Encoder, VERSION, block};

use crate::trace::{Trace, TraceBuilder};
use crate::write::write_vkmem;
use vkmem_engine::{AllocatorOptions, profile_info, profile_names};

fn description() -> Description {
    Description {
        device: profile_info(profile_names()[0]),
        driver_version: Some(7),
        options: Some(AllocatorOptions {
            heap_size_limits: vec![1, u64::MAX],
            ..Default::default()
        }),
        extensions: vec![("VK_EXT_memory_budget".into(), true), ("VK_X".into(), false)],
        settings: vec![("one".into(), "1, 2".into())],
        program: Some("programme.py --größer".into()),
        process: Some(4321),
        library: Some("vk-mem 0.1.0".into()),
        start: Some(1_790_000_000_000_000_000),
        resolution: 1,
        ..Description::new(Format::VkMem, VERSION)
    }
}

/// A trace of random events: in the order in which they were told.
fn random_trace(seed: u64, count: usize) -> Trace {
    let mut random = Random(seed);
    let dictionary = random::dictionary(&mut random);
    let mut trace = TraceBuilder::new(description());
    *trace.dictionary_mut() = dictionary.clone();
    random::events(&mut random, count, &dictionary, &mut |event| {
        trace.push(event).expect("small");
        if count < 200 {
            let (at, trace) = (trace.len() - 1, trace.clone());
            assert_eq!(&trace.finish().event(at), event);
        }
    });
    trace.finish()
}

fn same(one: &Trace, other: &Trace) {
    assert_eq!(one.description(), other.description());
    assert_eq!(one.len(), other.len());
    for (one_event, other_event) in one.events().zip(other.events()) {
        let stack = |of: &Trace, event: &Event<'_>| -> Vec<_> {
            let frames = event.site.into_iter().flat_map(|it| of.stack(it));
            frames.map(|it| (it.file.to_string(), it.line, it.function.to_string())).collect()
        };
        assert_eq!(stack(one, &one_event), stack(other, &other_event));
        assert_eq!(Event { site: None, ..one_event }, Event { site: None, ..other_event });
    }
    assert_eq!(one.columns().sizes(), other.columns().sizes());
    assert_eq!(one.columns().objects(), other.columns().objects());
    assert_eq!(one.columns().memories(), other.columns().memories());
}

#[test]
fn random_events_survive() {
    for seed in 1..20 {
        let trace = random_trace(seed * 0x1234_5677, 150);
        let bytes = write_vkmem(&trace);
        let again = decode(&bytes).expect("what was written can be read");
        assert_eq!((again.cut(), again.unknown_events()), (None, 0));
        same(&trace, &again);
        assert_eq!(write_vkmem(&again), bytes, "the form is the only one");
    }
}

#[test]
fn many_events_take_several_blocks() {
    let mut random = Random(99);
    let dictionary = random::dictionary(&mut random);
    let (mut encoder, mut events) = (Encoder::new(), TraceBuilder::new(description()));
    *encoder.dictionary_mut() = dictionary.clone();
    *events.dictionary_mut() = dictionary.clone();
    let (mut bytes, mut blocks) = (Encoder::head(&description()), 0);
    random::events(&mut random, 40_000, &dictionary, &mut |event| {
        encoder.push(event);
        events.push(event).expect("small");
        if encoder.complete() > 0 {
            blocks += 1;
            encoder.take(&mut bytes);
        }
    });
    assert!(blocks > 3);
    encoder.end_block();
    encoder.take(&mut bytes);
    same(&events.finish(), &decode(&bytes).expect("sound"));
}

/// Threads hand over their events late: the sequence numbers tell the order.
#[test]
fn events_are_read_in_the_order_of_their_numbers() {
    let mut random = Random(1234);
    let dictionary = random::dictionary(&mut random);
    let (mut encoder, mut expected) = (Encoder::new(), Vec::new());
    *encoder.dictionary_mut() = dictionary.clone();
    random::events(&mut random, 500, &dictionary, &mut |event| {
        // Each third event comes late by up to 40 numbers.
        let late = if event.sequence.is_multiple_of(3) { 40 } else { 0 };
        let event = Event { sequence: event.sequence.wrapping_sub(late), ..event.clone() };
        expected.push((event.sequence, format!("{event:?}")));
        encoder.push(&event);
    });
    assert!(!expected.is_sorted_by_key(|it| it.0));
    expected.sort_by_key(|it| it.0);
    let mut file = Encoder::head(&description());
    encoder.end_block();
    encoder.take(&mut file);
    let trace = decode(&file).expect("sound");
    let read: Vec<String> = trace.events().map(|event| format!("{event:?}")).collect();
    assert_eq!(read, expected.into_iter().map(|it| it.1).collect::<Vec<_>>());
}

#[test]
fn a_ring_is_readable_without_its_first_blocks() {
    let mut random = Random(5);
    let dictionary = random::dictionary(&mut random);
    let (mut encoder, mut blocks, mut all) = (Encoder::new(), Vec::new(), Vec::new());
    *encoder.dictionary_mut() = dictionary.clone();
    random::events(&mut random, 3000, &dictionary, &mut |event| {
        encoder.push(event);
        all.push(event.sequence);
        if all.len().is_multiple_of(100) {
            encoder.end_block();
            let mut block = Vec::new();
            encoder.take(&mut block);
            blocks.push(block);
        }
    });
    let definitions = encoder.definitions();
    for kept in [30, 29, 3, 1, 0] {
        let last = blocks[blocks.len() - kept..].concat();
        let file = [Encoder::head(&description()), definitions.clone(), last].concat();
        let trace = decode(&file).expect("sound");
        assert_eq!(trace.columns().sequences(), &all[all.len() - kept * 100..]);
    }
}

#[test]
fn a_file_is_read_up_to_its_cut() {
    let trace = random_trace(77, 12_000);
    let bytes = write_vkmem(&trace);
    let whole = Encoder::head(&description()).len();
    let mut most = 0;
    for length in (0..bytes.len()).step_by(4999).chain(0..40) {
        let read = decode(&bytes[..length]);
        if length < 12 {
            read.unwrap_err();
            continue;
        }
        let read = read.expect("a cut is no error");
        assert!(length < whole || read.description() == trace.description());
        assert!(read.len() <= trace.len());
        assert!(read.events().zip(trace.events()).all(|(one, other)| one.call == other.call));
        most = most.max(read.len());
        let zeros = [&bytes[..length], &[0; 5000]].concat();
        assert!(decode(&zeros).is_err() || decode(&zeros).unwrap().cut().is_some());
    }
    assert!(most > 0);
    let cut = decode(&bytes[..bytes.len() - 1]).expect("a cut is no error").cut();
    assert!(matches!(cut, Some(Position::Offset(at)) if at < bytes.len() as u64));
}

#[test]
fn damage_is_an_error_with_its_offset() {
    let bytes = write_vkmem(&random_trace(3, 200));
    let mut random = Random(8);
    for _ in 0..2000 {
        let mut changed = bytes.clone();
        let at = random.below(bytes.len() as u64) as usize;
        changed[at] ^= 1 << random.below(8);
        match decode(&changed) {
            Err(error) => assert!(error.position.is_some(), "{error}"),
            // The minor version, or a length that passes the end of the file.
            Ok(trace) => assert!((10..12).contains(&at) || trace.cut().is_some(), "{at}"),
        }
    }
    assert!(decode(b"").is_err());
    let mut later = bytes.clone();
    later[8] = 2;
    let error = decode(&later).unwrap_err().to_string();
    assert_eq!(error, "recording, byte 8: version 2.1 of the format; this library reads version 1");
}

/// Bytes that pass the checksum but mean nothing must not do more than fail.
#[test]
fn hostile_blocks_only_fail() {
    let (mut random, mut read) = (Random(21), 0);
    let trace = random_trace(4, 120);
    let head = Encoder::head(&description());
    let bytes = write_vkmem(&trace);
    let payload = &bytes[head.len() + block::HEAD..];
    for _ in 0..20_000 {
        let mut payload = payload[..random.below(payload.len() as u64) as usize].to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(payload.len() as u64 + 1) as usize;
            match random.below(3) {
                0 => payload.insert(at, random.next() as u8),
                1 if at < payload.len() => payload[at] = random.next() as u8,
                _ => payload.truncate(at),
            }
        }
        let mut file = head.clone();
        block::begin(&mut file, block::EVENTS);
        file.extend_from_slice(&payload);
        block::end(&mut file, head.len());
        match decode(&file) {
            Ok(trace) => read += trace.events().count().min(1),
            Err(error) => assert!(error.position.is_some()),
        }
    }
    assert!(read > 100, "too little was sound to test the events");
}

#[test]
fn unknown_kinds_and_blocks_are_skipped() {
    let unknown = (64..125).find(|number| Kind::from_number(*number).is_none()).expect("one");
    let mut file = Encoder::head(&description());
    let start = file.len();
    block::begin(&mut file, 200);
    file.extend_from_slice(b"something new");
    block::end(&mut file, start);
    let start = file.len();
    block::begin(&mut file, block::EVENTS);
    [7, 100, 0, 0, 0, 0, 0].iter().for_each(|it| put(&mut file, *it));
    // Two marks without a text that is defined would fail; a frame and what is not known do not.
    file.extend_from_slice(&[unknown, 2, 3, 1, 2, 3]);
    file.extend_from_slice(&[Kind::BeginFrame as u8 | 0x80, 2, 6, 4]);
    // A known kind with more than this version knows.
    file.extend_from_slice(&[Kind::DestroyPool as u8, 2, 3, 5, 99, 99]);
    block::end(&mut file, start);
    let trace = decode(&file).expect("sound");
    assert_eq!((trace.len(), trace.unknown_events()), (2, 1));
    let frame = trace.event(0);
    assert_eq!((frame.sequence, frame.time, frame.frame), (8, 103, 3));
    assert_eq!(trace.event(1).call, crate::event::Call::DestroyPool { pool: 5 });
}

#[test]
fn a_call_site_that_is_not_defined_is_left_out() {
    let mut encoder = Encoder::new();
    let site = Some(crate::dictionary::SiteId(3));
    encoder.push(&Event { site, ..Event::new(0, 0, crate::event::Call::BeginFrame {}) });
    assert_eq!(Dictionary::default().site_count(), 0);
    let mut file = Encoder::head(&description());
    encoder.end_block();
    encoder.take(&mut file);
    assert_eq!(decode(&file).expect("sound").event(0).site, None);
}
