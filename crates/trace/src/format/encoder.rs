//! [`Encoder`]: events as bytes. It does no input or output.

use super::block;
use super::compact::put_compact;
use super::head::put_description;
use super::records::{FIRST_WITH_LENGTH, Last, NAMED_ALLOCATE, REQUEST, SITE, TEXT};
use super::version::{MAGIC, VERSION};
use crate::bytes::{Short, put, put_bytes};
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::event::{Event, PAYLOAD, Row};
use crate::field::Output;

/// What of the dictionary is in the file.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    texts: usize,
    requests: usize,
    sites: usize,
}

/// Turns events into the bytes of a recording: blocks, each complete with length and checksum.
///
/// Complete blocks collect in the encoder until [`take`](Self::take) hands them out. A file of the head and any number
/// of blocks, in the order in which they were made, is a recording that can be read.
///
/// For a ring of the last events, keep the blocks one by one and drop the oldest. A file of them is the head, then
/// [`definitions`](Self::definitions), then the blocks that are left.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Complete blocks, and behind them the one that is being filled.
    out: Vec<u8>,
    /// Where the block that is being filled begins; the end of `out` if there is none.
    start: usize,
    last: Last,
    dictionary: Dictionary,
    written: Written,
    payload: Vec<u8>,
    events: u64,
}

impl Encoder {
    /// A block ends once it has this many bytes.
    pub const BLOCK: usize = 64 << 10;
    /// The longest text in bytes.
    pub const LONGEST_TEXT: usize = 1 << 20;
    /// The longest list of numbers of objects that surely fits in a block.
    pub const LONGEST_LIST: usize = 1 << 20;

    /// Creates an encoder that has written nothing.
    pub fn new() -> Self {
        Self {
            out: Vec::new(),
            start: 0,
            last: Last::default(),
            dictionary: Dictionary::default(),
            written: Written::default(),
            payload: Vec::new(),
            events: 0,
        }
    }

    /// Returns the bytes with which a recording begins: magic, version, description.
    pub fn head(description: &Description) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for part in [VERSION.0, VERSION.1] {
            out.extend_from_slice(&(part as u16).to_le_bytes());
        }
        let start = out.len();
        block::begin(&mut out, block::DESCRIPTION);
        put_description(&mut out, description);
        // Nothing in it is large but what the program itself names; beyond the longest block that is left out.
        if out.len() - start - block::HEAD > block::LONGEST {
            out.truncate(start + block::HEAD);
            let mut short = description.clone();
            (short.extensions, short.settings) = (Vec::new(), Vec::new());
            (short.program, short.library) = (None, None);
            put_description(&mut out, &short);
        }
        block::end(&mut out, start);
        out
    }

    /// Returns the dictionary, to define call sites in: [`Dictionary::site`].
    pub fn dictionary_mut(&mut self) -> &mut Dictionary {
        &mut self.dictionary
    }

    /// Returns the number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns the number of bytes in complete blocks.
    pub fn complete(&self) -> usize {
        self.start
    }

    /// Returns the number of bytes of the block that is being filled.
    pub fn pending(&self) -> usize {
        self.out.len() - self.start
    }

    /// Appends an event. Sequence numbers should follow each other, and times ascend: that takes the fewest bytes. Its
    /// call site, if it has one, is a number of the dictionary of this encoder.
    ///
    /// Texts are cut after [`LONGEST_TEXT`](Self::LONGEST_TEXT) bytes. An event with a list that is longer than a block
    /// can be, of [`LONGEST_LIST`](Self::LONGEST_LIST) numbers or more, may be left out.
    pub fn push(&mut self, event: &Event<'_>) {
        self.payload.clear();
        let mut out = Output { bytes: &mut self.payload, dictionary: &mut self.dictionary };
        let mut row = Row::of(event, &mut out);
        if row.site as usize >= self.dictionary.site_count() {
            row.site = u32::MAX;
        }
        if self.payload.len() > block::LONGEST / 2 {
            return;
        }
        if self.start == self.out.len() {
            self.begin(&row);
        }
        if self.dictionary.texts().len() != self.written.texts
            || self.dictionary.requests().len() != self.written.requests
            || self.dictionary.site_count() != self.written.sites
        {
            self.define(&row);
        }
        let kind = row.kind as u8;
        let has_payload = row.flags & PAYLOAD != 0;
        let is_named = has_payload && kind < FIRST_WITH_LENGTH;
        let record = if is_named { NAMED_ALLOCATE } else { kind };
        let (last, requests) = (&mut self.last, self.dictionary.requests());
        Short::append(&mut self.out, |short| {
            last.put_head(short, record, &row);
            if kind < FIRST_WITH_LENGTH {
                put_compact(short, last, &row, requests);
            }
        });
        if has_payload {
            put_bytes(&mut self.out, &self.payload);
        }
        self.events += 1;
        if self.pending() >= Self::BLOCK {
            self.end_block();
        }
    }

    /// Begins a block for an event.
    #[cold]
    fn begin(&mut self, row: &Row) {
        block::begin(&mut self.out, block::EVENTS);
        self.last = Last { sequence: row.sequence, time: row.time, memory: 0, ..self.last };
        self.last.put(&mut self.out);
    }

    /// Appends what of the dictionary is not in the file, in front of the event that needs it.
    #[cold]
    fn define(&mut self, row: &Row) {
        while !put_definitions(&mut self.out, self.start, &self.dictionary, &mut self.written) {
            self.end_block();
            self.begin(row);
        }
    }

    /// Completes the block that is being filled, if there is one: everything so far is in complete blocks then.
    pub fn end_block(&mut self) {
        if self.pending() > 0 {
            block::end(&mut self.out, self.start);
            self.start = self.out.len();
        }
    }

    /// Moves the complete blocks to the end of `to`.
    pub fn take(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.out[..self.start]);
        self.out.drain(..self.start);
        self.start = 0;
    }

    /// Returns blocks that define all texts, requests and call sites so far.
    pub fn definitions(&self) -> Vec<u8> {
        let (mut out, mut written) = (Vec::new(), Written::default());
        loop {
            let start = out.len();
            block::begin(&mut out, block::EVENTS);
            Last::default().put(&mut out);
            let complete = put_definitions(&mut out, start, &self.dictionary, &mut written);
            block::end(&mut out, start);
            if complete {
                return out;
            }
        }
    }

    /// Returns the dictionary.
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends definitions until the block that begins at `start` is full; returns whether that were all.
fn put_definitions(
    out: &mut Vec<u8>,
    start: usize,
    dictionary: &Dictionary,
    written: &mut Written,
) -> bool {
    // The text of a definition may be as long as a program's names are; nothing else is long.
    let is_full = |out: &Vec<u8>| out.len() - start >= Encoder::BLOCK;
    let mut bytes = Vec::new();
    let mut record = |out: &mut Vec<u8>, kind: u8, number: usize, fill: &dyn Fn(&mut Vec<u8>)| {
        bytes.clear();
        put(&mut bytes, number as u64);
        fill(&mut bytes);
        out.push(kind);
        put_bytes(out, &bytes);
    };
    while let Some(text) = dictionary.texts().get(written.texts) {
        if is_full(out) {
            return false;
        }
        record(out, TEXT, written.texts, &|out| put_bytes(out, cut_text(text).as_bytes()));
        written.texts += 1;
    }
    while let Some(request) = dictionary.requests().get(written.requests) {
        if is_full(out) {
            return false;
        }
        record(out, REQUEST, written.requests, &|out| request.encode(out));
        written.requests += 1;
    }
    while let Some(site) = dictionary.sites().get(written.sites) {
        if is_full(out) {
            return false;
        }
        record(out, SITE, written.sites, &|out| {
            put(out, site.parent.map_or(0, |it| u64::from(it.0) + 1));
            [site.file, site.line, site.function].iter().for_each(|&it| put(out, u64::from(it)));
        });
        written.sites += 1;
    }
    true
}

/// Returns the text, or as much of it as a block takes.
fn cut_text(text: &str) -> &str {
    let mut end = text.len().min(Encoder::LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
