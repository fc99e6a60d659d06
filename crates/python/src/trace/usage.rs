//! What was held and live over time, as columns.

use vkmem_trace::{Held, Trace, Usage};

use super::background::Work;
use super::column::TraceColumn;

/// What is held and live of a heap, or of all: after each event that changed it.
#[derive(Default)]
struct Rows {
    events: Vec<u32>,
    held: Vec<u64>,
    live: Vec<u64>,
    last: (u64, u64),
}

impl Rows {
    fn note(&mut self, event: usize, now: Held) {
        let now = (now.block_bytes, now.allocation_bytes);
        if now != self.last {
            self.last = now;
            self.events.push(event as u32);
            self.held.push(now.0);
            self.live.push(now.1);
        }
    }

    fn columns(mut self) -> [TraceColumn; 3] {
        self.events.shrink_to_fit();
        self.held.shrink_to_fit();
        self.live.shrink_to_fit();
        [
            TraceColumn::new("u4", self.events),
            TraceColumn::new("u8", self.held),
            TraceColumn::new("u8", self.live),
        ]
    }
}

/// Returns events, bytes held and bytes live of the sum of all heaps, then of each heap; fewer where it was to stop.
pub fn usage(trace: &Trace, work: &Work) -> Vec<[TraceColumn; 3]> {
    let mut usage = Usage::new(trace);
    let mut total = Rows::default();
    let mut heaps: Vec<Rows> = usage.heaps().iter().map(|_| Rows::default()).collect();
    for (index, event) in trace.events().enumerate() {
        if index & 0xFFFF == 0 && work.stops() {
            break;
        }
        usage.apply(&event);
        total.note(index, usage.total());
        heaps.iter_mut().zip(usage.heaps()).for_each(|(rows, now)| rows.note(index, *now));
    }
    std::iter::once(total).chain(heaps).map(Rows::columns).collect()
}
