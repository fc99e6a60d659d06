//! The contents of a memory snapshot: segments, blocks and trace entries, out of the values of its pickle.

use std::collections::HashMap;

use super::pickle::{Pickle, Value};
use crate::dictionary::{Dictionary, Site, SiteId};

/// A block of a segment that is in use.
pub(super) struct Block {
    pub address: u64,
    /// The size that was asked for, in bytes.
    pub size: u64,
    pub site: Option<SiteId>,
}

/// A range of device memory that the allocator holds.
pub(super) struct Segment {
    pub device: u16,
    pub address: u64,
    pub size: u64,
    pub stream: u32,
    pub blocks: Vec<Block>,
}

/// What a trace entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allocate,
    RequestFree,
    Free,
    /// `segment_alloc`, `segment_map`
    Hold,
    /// `segment_free`, `segment_unmap`
    GiveBack,
    OutOfMemory,
    Snapshot,
    UserDefined,
    Unknown,
}

/// An entry of a trace.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub action: Action,
    /// The address; for [`Action::OutOfMemory`] the bytes that were free on the device.
    pub address: u64,
    pub size: u64,
    pub stream: u32,
    /// Microseconds since 1970.
    pub time: Option<u64>,
    pub site: Option<SiteId>,
}

/// What is wrong in a snapshot.
pub(super) type Parsed<T> = Result<T, String>;

/// Takes values out of the pickle.
///
/// A pickle may refer to one list a million times from each of a million places. So every visit of a value is counted,
/// and there must not be more than the file has bytes: a snapshot takes at least as many for what is visited.
pub(super) struct Parser<'p> {
    pickle: &'p Pickle<'p>,
    visits_left: u64,
    streams: HashMap<u64, u32>,
    /// Call sites by the number of their list.
    sites: HashMap<u32, Option<SiteId>>,
    /// File, line and function by the number of their dictionary.
    frames: HashMap<u32, (u32, u32, u32)>,
    /// Numbers of texts in the trace by those in the pickle.
    texts: HashMap<u32, u32>,
}

impl<'p> Parser<'p> {
    pub fn new(pickle: &'p Pickle<'p>, file_size: usize) -> Self {
        let (streams, sites) = (HashMap::new(), HashMap::new());
        let (frames, texts) = (HashMap::new(), HashMap::new());
        Self { pickle, visits_left: file_size as u64, streams, sites, frames, texts }
    }

    fn visit(&mut self, count: usize) -> Parsed<()> {
        match self.visits_left.checked_sub(count as u64) {
            Some(left) => {
                self.visits_left = left;
                Ok(())
            }
            None => Err("it refers to the same values again and again".into()),
        }
    }

    pub fn dict(&mut self, value: Value, what: &str) -> Parsed<&'p [(Value, Value)]> {
        let found = self.pickle.dict(value).ok_or_else(|| format!("{what} is no dictionary"))?;
        self.visit(found.len() + 1)?;
        Ok(found)
    }

    pub fn list(&mut self, value: Value, what: &str) -> Parsed<&'p [Value]> {
        let (_, found) = self.pickle.list(value).ok_or_else(|| format!("{what} is no list"))?;
        self.visit(found.len() + 1)?;
        Ok(found)
    }

    pub fn text(&self, value: Value) -> Option<&'p str> {
        self.pickle.text(value)
    }

    /// Numbers streams in the order of their appearance; 0 is the default stream.
    fn stream(&mut self, value: Value) -> u32 {
        let stream = match value {
            Value::Int(number) => number as u64,
            Value::Large(number) => number,
            _ => 0,
        };
        let next = self.streams.len() as u32 + 1;
        if stream == 0 { 0 } else { *self.streams.entry(stream).or_insert(next) }
    }

    /// Returns the call site of a list of frames, the innermost first.
    fn site(&mut self, value: Value, dictionary: &mut Dictionary) -> Parsed<Option<SiteId>> {
        let Some((number, frames)) = self.pickle.list(value) else { return Ok(None) };
        if let Some(known) = self.sites.get(&number) {
            return Ok(*known);
        }
        self.visit(frames.len())?;
        let mut site = None;
        for frame in frames.iter().rev() {
            let Some((file, line, function)) = self.frame(*frame, dictionary)? else { continue };
            site = Some(dictionary.site_of(Site { parent: site, file, line, function }));
        }
        self.sites.insert(number, site);
        Ok(site)
    }

    fn frame(
        &mut self,
        value: Value,
        dictionary: &mut Dictionary,
    ) -> Parsed<Option<(u32, u32, u32)>> {
        let Value::Dict(number) = value else { return Ok(None) };
        if let Some(known) = self.frames.get(&number) {
            return Ok(Some(*known));
        }
        let (mut file, mut line, mut function) = (None, 0, None);
        for (key, value) in self.dict(value, "a frame")? {
            match self.text(*key) {
                Some("filename") => file = Some(*value),
                Some("line") => line = number_of(*value).unwrap_or(0) as u32,
                Some("name") => function = Some(*value),
                _ => {}
            }
        }
        let frame = (self.intern(file, dictionary), line, self.intern(function, dictionary));
        self.frames.insert(number, frame);
        Ok(Some(frame))
    }

    /// Returns the number of a text in the trace; each text of the pickle is looked up once.
    fn intern(&mut self, value: Option<Value>, dictionary: &mut Dictionary) -> u32 {
        let Some(Value::Text(number)) = value else { return dictionary.text("") };
        let pickle = self.pickle;
        let text = || dictionary.text(pickle.text(Value::Text(number)).unwrap_or(""));
        *self.texts.entry(number).or_insert_with(text)
    }

    /// Reads a segment.
    pub fn segment(&mut self, value: Value, dictionary: &mut Dictionary) -> Parsed<Segment> {
        let (mut device, mut address, mut size, mut stream, mut blocks) = (0, None, None, 0, None);
        for (key, value) in self.dict(value, "a segment")? {
            match self.text(*key) {
                Some("device") => device = device_of(*value)?,
                Some("address") => address = number_of(*value),
                Some("total_size") => size = number_of(*value),
                Some("stream") => stream = self.stream(*value),
                Some("blocks") => blocks = Some(*value),
                _ => {}
            }
        }
        let address = address.ok_or("a segment has no address")?;
        let size = size.ok_or("a segment has no total_size")?;
        ends_somewhere(address, size)?;
        let mut segment = Segment { device, address, size, stream, blocks: Vec::new() };
        let mut next = address;
        for block in blocks.map_or(Ok(&[][..]), |it| self.list(it, "blocks"))? {
            segment.blocks.extend(self.block(*block, &mut next, dictionary)?);
        }
        Ok(segment)
    }

    /// Reads a block, which older snapshots place behind the one before; `None` if it is free.
    fn block(
        &mut self,
        value: Value,
        next: &mut u64,
        dictionary: &mut Dictionary,
    ) -> Parsed<Option<Block>> {
        let (mut address, mut size, mut requested) = (None, None, None);
        let (mut is_active, mut frames, mut history) = (false, None, None);
        for (key, value) in self.dict(value, "a block")? {
            match self.text(*key) {
                Some("address") => address = number_of(*value),
                Some("size") => size = number_of(*value),
                Some("requested_size") => requested = number_of(*value),
                Some("state") => {
                    is_active = self.text(*value).is_some_and(|it| it.starts_with("active"));
                }
                Some("frames") => frames = Some(*value),
                Some("history") => history = Some(*value),
                _ => {}
            }
        }
        let size = size.ok_or("a block has no size")?;
        let address = address.unwrap_or(*next);
        *next = ends_somewhere(address, size)?;
        if !is_active {
            return Ok(None);
        }
        // Older snapshots keep the frames, and the size that was asked for, in a history.
        let last = match history {
            Some(history) => self.list(history, "a history")?.first().copied(),
            None => None,
        };
        if let Some(last) = last {
            for (key, value) in self.dict(last, "a history")? {
                match self.text(*key) {
                    Some("real_size") => requested = requested.or(number_of(*value)),
                    Some("frames") => frames = frames.or(Some(*value)),
                    _ => {}
                }
            }
        }
        let site = frames.map_or(Ok(None), |it| self.site(it, dictionary))?;
        let size = requested.filter(|it| *it != 0).unwrap_or(size);
        Ok(Some(Block { address, size, site }))
    }

    /// Reads an entry of a trace.
    pub fn entry(&mut self, value: Value, dictionary: &mut Dictionary) -> Parsed<Entry> {
        let (mut action, mut address, mut size) = (None, None, None);
        let (mut free, mut stream, mut time, mut site) = (None, 0, None, None);
        for (key, value) in self.dict(value, "an entry")? {
            match self.text(*key) {
                Some("action") => action = self.text(*value),
                Some("addr") => address = number_of(*value),
                Some("size") => size = number_of(*value),
                Some("device_free") => free = number_of(*value),
                Some("stream") => stream = self.stream(*value),
                Some("time_us") => time = number_of(*value),
                Some("frames") => site = self.site(*value, dictionary)?,
                _ => {}
            }
        }
        let action = match action.ok_or("an entry has no action")? {
            "alloc" => Action::Allocate,
            "free_requested" | "free" => Action::RequestFree,
            "free_completed" => Action::Free,
            "segment_alloc" | "segment_map" => Action::Hold,
            "segment_free" | "segment_unmap" => Action::GiveBack,
            "oom" => Action::OutOfMemory,
            "snapshot" => Action::Snapshot,
            "user_defined" => Action::UserDefined,
            _ => Action::Unknown,
        };
        let has_place = matches!(
            action,
            Action::Allocate | Action::RequestFree | Action::Free | Action::Hold | Action::GiveBack
        );
        if has_place && (address.is_none() || size.is_none()) {
            return Err("an entry has no address or no size".into());
        }
        let address = address.or(free).unwrap_or(0);
        let size = size.unwrap_or(0);
        if has_place {
            ends_somewhere(address, size)?;
        }
        Ok(Entry { action, address, size, stream, time, site })
    }
}

/// Returns a number that is not negative.
pub(super) fn number_of(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        Value::Large(number) => Some(number),
        _ => None,
    }
}

fn device_of(value: Value) -> Parsed<u16> {
    let number = number_of(value).and_then(|it| u16::try_from(it).ok());
    number.ok_or("a device has no number".into())
}

/// Returns the address behind a range.
fn ends_somewhere(address: u64, size: u64) -> Parsed<u64> {
    address.checked_add(size).ok_or(format!("{size} bytes at {address:#x} have no end"))
}
