//! What the host saw in mapped memory: bytes to compare with.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{MemoryRange, SimulatedDevice};

/// Bytes that are compared at a time.
const PAGE: u64 = 64 << 10;

/// What the host saw in a memory object, by the first byte of each page; a page that is missing has zeros.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<u64, Vec<u8>>);

impl Seen {
    /// Remembers what the host sees in a range; returns the smallest range with all bytes that have changed.
    pub(super) fn update(
        &mut self,
        device: &SimulatedDevice,
        range: &MemoryRange,
    ) -> Option<MemoryRange> {
        let (mut first, mut end) = (None, 0);
        let last = range.offset.saturating_add(range.size);
        let mut at = range.offset;
        while at < last {
            let page = at / PAGE * PAGE;
            let size = (page + PAGE).min(last) - at;
            let now = device.host_read(MemoryRange { offset: at, size, ..*range });
            let inside = (at - page) as usize..(at - page + size) as usize;
            let zeros = !self.0.contains_key(&page) && now.iter().all(|byte| *byte == 0);
            if !zeros {
                let then = self.0.entry(page).or_insert_with(|| vec![0; PAGE as usize]);
                let then = &mut then[inside];
                let differs = |(now, then): (&u8, &u8)| now != then;
                if let Some(start) = now.iter().zip(&*then).position(differs) {
                    let stop = now.iter().zip(&*then).rposition(differs).unwrap_or(start);
                    first = first.or(Some(at + start as u64));
                    end = at + stop as u64 + 1;
                    then.copy_from_slice(&now);
                }
            }
            at += size;
        }
        first.map(|offset| MemoryRange { offset, size: end - offset, ..*range })
    }
}

/// The memory objects that are watched.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) is_on: AtomicBool,
    pub(super) seen: Mutex<HashMap<u64, Seen>, rank::SimulatedResources>,
    /// Ranges that the library itself is writing.
    pub(super) unwatched: Mutex<Vec<MemoryRange>, rank::SimulatedOwnWrites>,
}
