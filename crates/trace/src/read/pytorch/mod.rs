//! Memory snapshots of PyTorch: `torch.cuda.memory._dump_snapshot`.
//!
//! A snapshot has the segments as they are at its end and, for each device, the last entries of a trace. What existed at
//! the first entry follows from the segments by undoing the entries, the last one first.

mod pickle;
mod ranges;
mod replay;
mod snapshot;

use crate::description::Description;
use crate::error::{Format, ReadError};
use crate::trace::{Trace, TraceBuilder};
use pickle::Value;
use replay::Replay;
use snapshot::{Entry, Parsed, Parser, Segment};

/// Returns whether a file begins like a pickle: of protocol 2 or later, or with a dictionary or list of protocol 0 or 1.
pub(super) fn is_pickle(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x80, 0..=9, ..] | [b'(', b'd' | b'l', ..] | [b'}' | b']', b'p' | b'q' | b'(' | b'.', ..]
    )
}

/// Reads a snapshot.
pub(super) fn read(bytes: &[u8]) -> Result<Trace, ReadError> {
    let (pickle, root) =
        pickle::read(bytes).map_err(|damage| ReadError::of_damage(Format::PyTorch, damage))?;
    let mut trace = TraceBuilder::new(Description {
        resolution: 1000,
        ..Description::new(Format::PyTorch, (1, 0))
    });
    let mut parser = Parser::new(&pickle, bytes.len());
    match read_root(&mut parser, root, &mut trace) {
        Ok(()) => Ok(trace.finish()),
        Err(what) => Err(ReadError { format: Some(Format::PyTorch), position: None, what }),
    }
}

fn read_root(parser: &mut Parser<'_>, root: Value, trace: &mut TraceBuilder) -> Parsed<()> {
    let (mut segments, mut traces) = (None, None);
    if let Value::List(_) = root {
        // `torch.cuda.memory_snapshot()`: the segments alone.
        segments = Some(root);
    } else {
        for (key, value) in parser.dict(root, "the snapshot")? {
            match parser.text(*key) {
                Some("segments") => segments = Some(*value),
                Some("device_traces") => traces = Some(*value),
                Some("allocator_settings") => read_settings(parser, *value, trace)?,
                _ => {}
            }
        }
        if segments.is_none() && traces.is_none() {
            return Err("there are neither segments nor device_traces in it".into());
        }
    }
    let mut held: Vec<Segment> = Vec::new();
    let list = segments.map_or(Ok(&[][..]), |it| parser.list(it, "segments"))?;
    for (index, segment) in list.iter().enumerate() {
        let read = parser.segment(*segment, trace.dictionary_mut());
        held.push(read.map_err(|what| format!("segment {index}: {what}"))?);
    }
    let mut entries: Vec<Vec<Entry>> = Vec::new();
    let list = traces.map_or(Ok(&[][..]), |it| parser.list(it, "device_traces"))?;
    for (device, list) in list.iter().enumerate() {
        let mut of_device = Vec::new();
        for (index, entry) in parser.list(*list, "a device trace")?.iter().enumerate() {
            let read = parser.entry(*entry, trace.dictionary_mut());
            of_device.push(read.map_err(|what| format!("device {device}, entry {index}: {what}"))?);
        }
        entries.push(of_device);
    }
    let devices = held.iter().map(|it| usize::from(it.device) + 1).max().unwrap_or(0);
    if devices > entries.len() {
        entries.resize_with(devices, Vec::new);
    }
    if u16::try_from(entries.len()).is_err() {
        return Err(format!("no machine has {} devices", entries.len()));
    }
    let first = entries.iter().flatten().filter_map(|it| it.time).min();
    let description = trace.description_mut();
    description.start = first.and_then(|it| it.checked_mul(1000));
    if first.is_none() {
        description.resolution = 0;
    }
    let mut replays: Vec<Replay> = Vec::new();
    let mut numbers = (0, 0);
    for (device, entries) in (0..).zip(&entries) {
        let held = held.iter().filter(|it| it.device == device);
        replays.push(Replay::begin(trace, device, held, entries, &mut numbers)?);
    }
    for (replay, entries) in replays.iter_mut().zip(&entries) {
        replay.run(trace, entries, first.unwrap_or(0), &mut numbers)?;
    }
    trace.sort_by_time();
    Ok(())
}

/// Keeps settings that are a text, a number or a truth value.
fn read_settings(parser: &mut Parser<'_>, value: Value, trace: &mut TraceBuilder) -> Parsed<()> {
    for (key, value) in parser.dict(value, "allocator_settings")? {
        let Some(name) = parser.text(*key) else { continue };
        let text = match *value {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Large(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            value => match parser.text(value) {
                Some(text) => text.into(),
                None => continue,
            },
        };
        trace.description_mut().settings.push((name.into(), text));
    }
    Ok(())
}
