//! [`Writing`]: told events become blocks of a recording.

use std::collections::HashMap;

use vkmem_engine::DeviceInfo;

use super::encoded::Encoded;
use super::numbers::Numbers;
use super::raw::{Head, NO_SITE, Raw, RawFrame};
use super::space_numbers::SpaceNumbers;
use crate::dictionary::{Frame, SiteId};
use crate::event::{Call, Event};

/// A run of defragmentation: its number in the recording, and the limits of its passes.
#[derive(Clone, Copy, Debug)]
struct Run {
    number: u32,
    limits: (u64, u32),
}

/// Encodes events, one after the other.
pub(super) struct Writing {
    pub(super) encoded: Encoded,
    pub(super) numbers: Numbers,
    pub(super) spaces: SpaceNumbers,
    /// The frame of each allocator.
    pub(super) frames: HashMap<u16, u64>,
    devices: HashMap<u16, DeviceInfo>,
    /// Call sites by the numbers that their allocators gave them.
    sites: HashMap<(u16, u32), SiteId>,
    runs: HashMap<u32, Run>,
    next_run: u32,
    /// The number of the first event.
    first: Option<u64>,
}

impl Writing {
    pub fn new(encoded: Encoded) -> Self {
        Self {
            encoded,
            numbers: Numbers::new(),
            spaces: SpaceNumbers::default(),
            frames: HashMap::new(),
            devices: HashMap::new(),
            sites: HashMap::new(),
            runs: HashMap::new(),
            next_run: 0,
            first: None,
        }
    }

    /// Notes the device of an allocator.
    pub fn set_device(&mut self, allocator: u16, device: &DeviceInfo) {
        self.devices.insert(allocator, device.clone());
    }

    /// Encodes events.
    pub fn write_all(&mut self, events: &[Raw]) {
        events.iter().for_each(|it| self.write(&it.head, &it.what));
    }

    /// Returns number and bytes of the live allocations of a heap.
    pub(super) fn live_in_heap(&self, allocator: u16, heap: u32) -> (u64, u64) {
        let Some(device) = self.devices.get(&allocator) else { return (0, 0) };
        let of_heap =
            |it: u32| device.types.get(it as usize).is_some_and(|it| it.heap_index == heap);
        self.numbers.live(allocator, of_heap)
    }

    /// Encodes a call.
    pub(super) fn push(&mut self, head: &Head, call: Call<'_>) {
        let first = *self.first.get_or_insert(head.number);
        let site = match head.site {
            NO_SITE => None,
            number => self.sites.get(&(head.allocator, number)).copied(),
        };
        let event = Event {
            // What took effect before the first event that came is put first with it.
            sequence: head.number.saturating_sub(first),
            time: head.time,
            thread: self.numbers.thread(head.thread),
            frame: self.frames.get(&head.allocator).copied().unwrap_or(0),
            allocator: head.allocator,
            site,
            is_state: head.is_state,
            call,
        };
        self.encoded.push(&event);
    }

    /// Defines a call site; its frames begin with the innermost function.
    pub(super) fn define_site(&mut self, allocator: u16, number: u32, frames: &[RawFrame]) {
        let dictionary = self.encoded.dictionary_mut();
        let mut site = None;
        for (file, line, function) in frames.iter().rev() {
            site = Some(dictionary.site(site, Frame { file, line: *line, function }));
        }
        if let Some(site) = site {
            self.sites.insert((allocator, number), site);
        }
    }

    /// Numbers a run of defragmentation.
    pub(super) fn begin_run(&mut self, run: u32, limits: (u64, u32)) -> u32 {
        let number = self.next_run;
        self.next_run += 1;
        self.runs.insert(run, Run { number, limits });
        number
    }

    /// Returns the number of a run.
    pub(super) fn run(&self, run: u32) -> Option<u32> {
        self.runs.get(&run).map(|it| it.number)
    }

    /// Sets the limits of the passes of a run; returns its number, and whether they were others.
    pub(super) fn limit_run(&mut self, run: u32, limits: (u64, u32)) -> Option<(u32, bool)> {
        let run = self.runs.get_mut(&run)?;
        let before = std::mem::replace(&mut run.limits, limits);
        Some((run.number, before != limits))
    }

    /// Forgets a run; returns its number.
    pub(super) fn end_run(&mut self, run: u32) -> Option<u32> {
        self.runs.remove(&run).map(|it| it.number)
    }
}
