//! Writes logs of the RAPIDS Memory Manager.

use std::collections::HashMap;
use std::fmt::Write;

use super::written::Written;
use crate::event::Call;
use crate::progress::{Progress, nobody, watched};
use crate::trace::Trace;
use crate::values::{Request, Resource};

/// Pointers are made from numbers of allocations: RMM aligns to 256 bytes.
const FIRST_POINTER: u64 = 0x7F00_0000_0000;

/// Writes the allocations of a trace and their ends as a log of RMM: threads, times of the day, sizes, streams. Each
/// allocation has an address of its own.
pub fn write_rmm_csv(trace: &Trace) -> Written {
    write_rmm_csv_with(trace, &nobody)
}

/// As [`write_rmm_csv`]; tells how many events are written.
pub fn write_rmm_csv_with(trace: &Trace, progress: Progress<'_>) -> Written {
    let mut out =
        Written { text: "Thread,Time,Action,Pointer,Size,Stream\n".into(), ..Written::default() };
    let start = trace.description().start.unwrap_or(0);
    let mut live = HashMap::new();
    for event in watched(trace.events(), progress) {
        let (action, allocation, size, stream) = match &event.call {
            Call::Allocate { allocation, request, size, buffer_size, .. } => {
                let Some(size) = size.or(*buffer_size) else {
                    out.leave_out(event.call.kind());
                    continue;
                };
                let stream = stream_of(request);
                live.insert(*allocation, (size, stream));
                ("allocate", Some(*allocation), size, stream)
            }
            Call::AllocateFailed { request, size, buffer_size, .. } => {
                let size = size.or(*buffer_size).unwrap_or(0);
                ("allocate failure", None, size, stream_of(request))
            }
            Call::Free { allocation } => match live.remove(allocation) {
                Some((size, stream)) => ("free", Some(*allocation), size, stream),
                None => {
                    out.leave_out(event.call.kind());
                    continue;
                }
            },
            // Groups say nothing that their events do not say.
            Call::Group { .. } => continue,
            call => {
                out.leave_out(call.kind());
                continue;
            }
        };
        let micros = start.wrapping_add(event.time) / 1000;
        let (seconds, micros) = (micros / 1_000_000 % 86_400, micros % 1_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let time = format_args!("{hours:02}:{minutes:02}:{seconds:02}.{micros:06}");
        let thread = event.thread;
        let written = match allocation {
            Some(it) => {
                let pointer = FIRST_POINTER + (u64::from(it) << 8);
                writeln!(out.text, "{thread},{time},{action},{pointer:#x},{size},{stream}")
            }
            None => writeln!(out.text, "{thread},{time},{action},(nil),{size},{stream}"),
        };
        written.expect("memory takes all that is written");
    }
    out
}

fn stream_of(request: &Request) -> u32 {
    if let Resource::Stream(stream) = request.resource { stream } else { 0 }
}
