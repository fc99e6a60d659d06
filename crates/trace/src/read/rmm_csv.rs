//! Logs of the RAPIDS Memory Manager (`rmm::mr::logging_resource_adaptor`).

use std::collections::HashMap;

use super::lines::{Fields, for_each_line, lines, pointer, seconds};
use crate::description::Description;
use crate::error::{Format, Position, ReadError};
use crate::event::{Call, Data, Event};
use crate::progress::Progress;
use crate::trace::{Trace, TraceBuilder};
use crate::values::{Failure, Request, Resource};

/// The first line.
pub(super) const FIRST_LINE: &[u8] = b"Thread,Time,Action,Pointer,Size,Stream";

const DAY: u64 = 86_400 * 1_000_000_000;
/// Sequence numbers below are those of allocations that existed before the log began.
const FIRST_SEQUENCE: u64 = 1 << 40;

/// What the lines so far have left.
#[derive(Default)]
struct State {
    live: HashMap<u64, u32>,
    streams: HashMap<u64, u32>,
    next: u32,
    /// The time of the first line.
    first: Option<u64>,
    last: u64,
    /// Days that have passed, where lines have the time of the day only.
    days: u64,
    events: u64,
    before: u64,
}

/// Reads a log.
pub(super) fn read(bytes: &[u8], progress: Progress<'_>) -> Result<Trace, ReadError> {
    let mut lines = lines(bytes);
    let size = bytes.len() as u64;
    if lines.next().map(|it| it.text.trim().as_bytes() == FIRST_LINE) != Some(true) {
        let what = "this is not a log of RMM";
        return Err(ReadError::at_line(Format::RmmCsv, 1, what));
    }
    let description = Description { resolution: 1000, ..Description::new(Format::RmmCsv, (1, 0)) };
    let (mut trace, mut state) = (TraceBuilder::new(description), State::default());
    let told = |end| progress(end, size);
    for_each_line(Format::RmmCsv, lines, &mut trace, &told, |trace, number, line| {
        if line.trim().is_empty() { Ok(()) } else { state.line(trace, number, line) }
    })?;
    trace.number_by_sequence();
    Ok(trace.finish())
}

impl State {
    fn line(&mut self, trace: &mut TraceBuilder, number: u64, line: &str) -> Result<(), String> {
        let mut fields = Fields::new(line);
        let thread = fields.thread()?;
        let (time, is_epoch) = time_of(fields.text()?)?;
        let action = fields.text()?;
        let (address, size) = (fields.pointer()?, fields.number()?);
        let stream = fields.text()?;
        let stream = match stream.parse() {
            Ok(number) => number,
            Err(_) => pointer(stream).ok_or("column 6 is not a stream")?,
        };
        let time = self.since_start(trace, time, is_epoch);
        let size = Some(size).filter(|size| *size != 0);
        let request = Request { resource: self.stream(stream), ..Request::default() };
        let mut push = |sequence, is_state, call| {
            let event = Event::new(sequence, if is_state { 0 } else { time }, call);
            trace.push(&Event { thread, is_state, ..event })
        };
        let allocate = |allocation| {
            let (buffer_size, placed, name, data) = (None, None, None, Data::None);
            Call::Allocate { allocation, request, size, buffer_size, placed, name, data }
        };
        let sequence = FIRST_SEQUENCE + self.events;
        self.events += 1;
        match action {
            // RMM answers a request for nothing with no memory.
            "allocate" | "free" | "deallocate" if address == 0 => {}
            "allocate" => {
                let allocation = self.next;
                self.next += 1;
                push(sequence, false, allocate(allocation))?;
                if self.live.insert(address, allocation).is_some() {
                    let what = format!("{address:#x} is allocated again, but was not freed");
                    trace.warn(Some(Position::Line(number)), what);
                }
            }
            "free" | "deallocate" => {
                let allocation = match self.live.remove(&address) {
                    Some(allocation) => allocation,
                    None => {
                        // It is older than the log.
                        let allocation = self.next;
                        self.next += 1;
                        push(self.before, true, allocate(allocation))?;
                        self.before += 1;
                        allocation
                    }
                };
                push(sequence, false, Call::Free { allocation })?;
            }
            "allocate failure" => {
                let failure = Some(Box::new(Failure::default()));
                let call = Call::AllocateFailed { request, size, buffer_size: None, failure };
                push(sequence, false, call)?;
            }
            other => {
                let short: String = other.chars().take(40).collect();
                return Err(format!("no action is {short:?}"));
            }
        }
        Ok(())
    }

    /// Returns the time since the first line; times of the day pass midnight.
    fn since_start(&mut self, trace: &mut TraceBuilder, time: u64, is_epoch: bool) -> u64 {
        if !is_epoch && time + DAY / 2 < self.last {
            self.days += 1;
        }
        self.last = time;
        let time = time.saturating_add(if is_epoch { 0 } else { self.days.saturating_mul(DAY) });
        let first = *self.first.get_or_insert_with(|| {
            trace.description_mut().start = is_epoch.then_some(time);
            time
        });
        time.saturating_sub(first)
    }

    /// Numbers streams in the order of their appearance; 0 is the default stream.
    fn stream(&mut self, stream: u64) -> Resource {
        let next = self.streams.len() as u32 + 1;
        Resource::Stream(if stream == 0 { 0 } else { *self.streams.entry(stream).or_insert(next) })
    }
}

/// Returns a time in ns, and whether it counts from 1970: `HH:MM:SS.microseconds` does not, seconds do.
fn time_of(text: &str) -> Result<(u64, bool), String> {
    let wrong =
        || format!("column 2 is not a time: {:?}", text.chars().take(40).collect::<String>());
    if !text.contains(':') {
        return seconds(text).map(|it| (it, true)).ok_or_else(wrong);
    }
    // Older versions put a colon before the microseconds.
    let mut parts = text.splitn(4, ':');
    let mut part = || parts.next().and_then(seconds).map(|it| it / 1_000_000_000);
    let (hours, minutes) = (part().ok_or_else(wrong)?, part().ok_or_else(wrong)?);
    let last = parts.next().ok_or_else(wrong)?;
    let last = parts.next().map_or(last.to_string(), |micros| format!("{last}.{micros}"));
    let last = seconds(&last).ok_or_else(wrong)?;
    if hours > 23 || minutes > 59 || last >= 61 * 1_000_000_000 {
        return Err(wrong());
    }
    Ok(((hours * 60 + minutes) * 60 * 1_000_000_000 + last, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_both_styles() {
        let day = ((12 * 60 + 34) * 60 + 56) * 1_000_000_000 + 123_456_000;
        assert_eq!(time_of("12:34:56.123456"), Ok((day, false)));
        assert_eq!(time_of("12:34:56:123456"), Ok((day, false)));
        assert_eq!(time_of("1596000000.5"), Ok((1_596_000_000_500_000_000, true)));
        for wrong in ["", "12:34", "24:00:00", "12:60:00", "12:00:61", "a:b:c", ":::", "1:2:3:4:5"]
        {
            assert!(time_of(wrong).is_err(), "{wrong}");
        }
    }
}
