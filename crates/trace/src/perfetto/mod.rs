//! Timelines for Perfetto (<https://ui.perfetto.dev>) and Chrome: counters of what is held, live and allowed, memory objects
//! as slices, frames, failures, losses, defragmentations with moves as arrows.
//!
//! Counters are those that a trace tells: where it does not say where allocations went, as VMA's, its replay does
//! ([`Replayed::trace`](crate::Replayed::trace)).

mod chrome;
mod counters;
mod lanes;
mod live;
mod output;
mod packets;
mod timeline;
mod tracks;
mod wire;

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::event::{Call, Kind, Object};
use crate::progress::{Progress, nobody, watched};
use crate::trace::Trace;
use crate::usage::Usage;
use chrome::ChromeEvents;
use output::Output;
use packets::Packets;
use timeline::Timeline;

pub(crate) use live::LiveTimeline;
pub use timeline::TimelineOptions;

/// Writes a trace in the format of Perfetto, in parts of 64 KiB. Returns the writer.
///
/// # Errors
/// Those of the writer.
pub fn write_perfetto<W: Write>(
    trace: &Trace,
    options: TimelineOptions,
    writer: W,
) -> io::Result<W> {
    write_perfetto_with(trace, options, writer, &nobody)
}

/// As [`write_perfetto`]; tells how many events are written.
///
/// # Errors
/// Those of the writer.
pub fn write_perfetto_with<W: Write>(
    trace: &Trace,
    options: TimelineOptions,
    writer: W,
    progress: Progress<'_>,
) -> io::Result<W> {
    Ok(write(trace, options, Packets::new(writer), progress)?.into_writer())
}

/// Writes a trace in the JSON format of Chrome's tracing, in parts of 64 KiB. Returns the writer.
///
/// # Errors
/// Those of the writer.
pub fn write_chrome_json<W: Write>(
    trace: &Trace,
    options: TimelineOptions,
    writer: W,
) -> io::Result<W> {
    write_chrome_json_with(trace, options, writer, &nobody)
}

/// As [`write_chrome_json`]; tells how many events are written.
///
/// # Errors
/// Those of the writer.
pub fn write_chrome_json_with<W: Write>(
    trace: &Trace,
    options: TimelineOptions,
    writer: W,
    progress: Progress<'_>,
) -> io::Result<W> {
    Ok(write(trace, options, ChromeEvents::new(writer), progress)?.into_writer())
}

fn write<O: Output>(
    trace: &Trace,
    options: TimelineOptions,
    output: O,
    progress: Progress<'_>,
) -> io::Result<O> {
    let names = pool_names(trace);
    let usage = Usage::new(trace);
    let mut timeline = Timeline::begin(trace.description(), options, usage, names, output)?;
    let dictionary = trace.dictionary();
    watched(trace.events(), progress).try_for_each(|event| timeline.event(&event, dictionary))?;
    timeline.finish()
}

/// Returns the last name of each pool.
fn pool_names(trace: &Trace) -> BTreeMap<u32, String> {
    let kinds = trace.columns().kinds().iter().enumerate();
    let names = kinds.filter(|(_, kind)| **kind == Kind::Name as u8);
    let named = names.filter_map(|(index, _)| match trace.event(index).call {
        Call::Name { object: Object::Pool(pool), name: Some(name) } => Some((pool, name.into())),
        _ => None,
    });
    named.collect()
}
