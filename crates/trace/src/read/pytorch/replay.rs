//! [`Replay`]: entries of a device as events, and what existed before the first of them.

use std::collections::{BTreeMap, HashMap};

use vkmem_engine::FailureFigures;

use super::ranges::{Ranges, without};
use super::snapshot::{Action, Entry, Parsed, Segment};
use crate::dictionary::SiteId;
use crate::event::{Call, Data, Event};
use crate::trace::TraceBuilder;
use crate::values::{Failure, FailureReason, Placed, Request, Resource};

/// `VK_ERROR_OUT_OF_DEVICE_MEMORY`
const OUT_OF_DEVICE_MEMORY: i32 = -2;

/// A block that exists.
#[derive(Clone, Copy)]
struct Existing {
    size: u64,
    stream: u32,
    site: Option<SiteId>,
}

/// The state of a device while its entries become events.
pub(super) struct Replay {
    device: u16,
    /// Numbers of memory objects by their addresses.
    held: Ranges<u32>,
    /// Numbers of allocations by their addresses.
    live: HashMap<u64, u32>,
    time: u64,
}

/// Removes a range of addresses, and keeps what is left of ranges that reach beyond it.
fn give_back<T: Copy>(held: &mut Ranges<T>, address: u64, size: u64) {
    for (start, length, value) in held.take_overlapping(address, size) {
        for (start, length) in without((start, length), (address, size)) {
            held.insert(start, length, value);
        }
    }
}

impl Replay {
    /// Tells what existed before the first entry: undoes all entries from the state at their end.
    pub fn begin<'s>(
        trace: &mut TraceBuilder,
        device: u16,
        segments: impl Iterator<Item = &'s Segment>,
        entries: &[Entry],
        numbers: &mut (u32, u32),
    ) -> Parsed<Self> {
        let (mut held, mut live) = (Ranges::default(), BTreeMap::new());
        for segment in segments {
            give_back(&mut held, segment.address, segment.size);
            held.insert(segment.address, segment.size, ());
            for block in &segment.blocks {
                let (size, stream, site) = (block.size, segment.stream, block.site);
                live.insert(block.address, Existing { size, stream, site });
            }
        }
        for entry in entries.iter().rev() {
            match entry.action {
                Action::Allocate => _ = live.remove(&entry.address),
                Action::Free => {
                    let (size, stream) = (entry.size, entry.stream);
                    live.insert(entry.address, Existing { size, stream, site: None });
                }
                Action::Hold => give_back(&mut held, entry.address, entry.size),
                Action::GiveBack => {
                    give_back(&mut held, entry.address, entry.size);
                    held.insert(entry.address, entry.size, ());
                }
                _ => {}
            }
        }
        let mut replay = Self { device, held: Ranges::default(), live: HashMap::new(), time: 0 };
        for (address, size, ()) in held.iter() {
            replay.hold(trace, true, address, size, None, numbers)?;
        }
        for (address, it) in live {
            let entry = Entry {
                action: Action::Allocate,
                address,
                size: it.size,
                stream: it.stream,
                time: None,
                site: it.site,
            };
            replay.allocate(trace, true, &entry, numbers)?;
        }
        Ok(replay)
    }

    /// Tells the entries. `first` is the time of the first one, in microseconds.
    pub fn run(
        &mut self,
        trace: &mut TraceBuilder,
        entries: &[Entry],
        first: u64,
        numbers: &mut (u32, u32),
    ) -> Parsed<()> {
        for entry in entries {
            let since = entry.time.map(|it| (it - first).saturating_mul(1000));
            self.time = since.unwrap_or(self.time);
            self.tell(trace, entry, numbers)?;
        }
        Ok(())
    }

    fn tell(
        &mut self,
        trace: &mut TraceBuilder,
        entry: &Entry,
        numbers: &mut (u32, u32),
    ) -> Parsed<()> {
        let Entry { address, size, site, .. } = *entry;
        match entry.action {
            Action::Allocate => self.allocate(trace, false, entry, numbers),
            Action::RequestFree => match self.live.get(&address) {
                Some(&allocation) => {
                    self.push(trace, false, site, Call::RequestFree { allocation })
                }
                None => self.warn(trace, "asked to free", address),
            },
            Action::Free => match self.live.remove(&address) {
                Some(allocation) => self.push(trace, false, site, Call::Free { allocation }),
                None => self.warn(trace, "freed", address),
            },
            Action::Hold => {
                self.give_back(trace, address, size, site, numbers)?;
                self.hold(trace, false, address, size, site, numbers)
            }
            Action::GiveBack => self.give_back(trace, address, size, site, numbers),
            Action::OutOfMemory => {
                let message = format!("the device had {address} bytes free");
                let failure = Failure {
                    reason: FailureReason::OutOfDeviceMemory,
                    result: Some(OUT_OF_DEVICE_MEMORY),
                    figures: Some(FailureFigures { size, ..FailureFigures::default() }),
                    message: Some(&message),
                };
                let call = Call::AllocateFailed {
                    request: request(entry.stream),
                    size: Some(size),
                    buffer_size: None,
                    failure: Some(Box::new(failure)),
                };
                self.push(trace, false, site, call)
            }
            Action::Snapshot => self.push(trace, false, site, Call::Mark { text: "snapshot" }),
            Action::UserDefined => {
                self.push(trace, false, site, Call::Mark { text: "user_defined" })
            }
            Action::Unknown => {
                trace.warn(None, "an action is not known, and left out");
                Ok(())
            }
        }
    }

    fn push(
        &self,
        trace: &mut TraceBuilder,
        is_state: bool,
        site: Option<SiteId>,
        call: Call<'_>,
    ) -> Parsed<()> {
        let event = Event::new(trace.len() as u64, self.time, call);
        Ok(trace.push(&Event { is_state, site, allocator: self.device, ..event })?)
    }

    fn warn(&self, trace: &mut TraceBuilder, what: &str, address: u64) -> Parsed<()> {
        trace.warn(None, format!("{address:#x} is {what}, but was not allocated"));
        Ok(())
    }

    fn allocate(
        &mut self,
        trace: &mut TraceBuilder,
        is_state: bool,
        entry: &Entry,
        numbers: &mut (u32, u32),
    ) -> Parsed<()> {
        let place = self.held.find(entry.address);
        let allocation = numbers.0;
        let call = Call::Allocate {
            allocation,
            request: request(entry.stream),
            size: Some(entry.size),
            buffer_size: None,
            placed: place.map(|(start, memory)| Placed {
                memory_type: None,
                memory: Some(memory),
                offset: entry.address - start,
                is_dedicated: false,
            }),
            name: None,
            data: Data::None,
        };
        numbers.0 += 1;
        if self.live.insert(entry.address, allocation).is_some() {
            trace.warn(None, format!("{:#x} is allocated again, but was not freed", entry.address));
        }
        self.push(trace, is_state, entry.site, call)
    }

    fn hold(
        &mut self,
        trace: &mut TraceBuilder,
        is_state: bool,
        address: u64,
        size: u64,
        site: Option<SiteId>,
        numbers: &mut (u32, u32),
    ) -> Parsed<()> {
        let memory = numbers.1;
        numbers.1 += 1;
        self.held.insert(address, size, memory);
        let call = Call::AllocateMemory {
            memory: Some(memory),
            memory_type: None,
            size,
            priority: None,
            export_handle_types: 0,
            names_resource: false,
            is_imported: false,
            result: 0,
        };
        self.push(trace, is_state, site, call)
    }

    /// Tells that memory was given back. An expandable segment may give back a part of what it got at once: what is left
    /// is told as memory of its own.
    fn give_back(
        &mut self,
        trace: &mut TraceBuilder,
        address: u64,
        size: u64,
        site: Option<SiteId>,
        numbers: &mut (u32, u32),
    ) -> Parsed<()> {
        for (start, length, memory) in self.held.take_overlapping(address, size) {
            self.push(trace, false, site, Call::FreeMemory { memory })?;
            for (start, length) in without((start, length), (address, size)) {
                self.hold(trace, false, start, length, site, numbers)?;
            }
        }
        Ok(())
    }
}

fn request(stream: u32) -> Request {
    Request { resource: Resource::Stream(stream), ..Request::default() }
}
