//! [`Packets`]: a timeline as packets of Perfetto.

use std::collections::HashMap;
use std::io::{self, Write};

use super::output::{Flow, Mark, MemoryOperation, Output, TrackId, TrackKind, Value};
use super::wire::Message;
use crate::description::Description;
use crate::dictionary::{Dictionary, SiteId};

/// Bytes after which packets are handed on.
const PART: usize = 64 << 10;
/// Bytes of interned values after which all are forgotten and stored anew: those who write and those who read a trace keep
/// them all, and a long program has ever new names.
const MOST_INTERNED: usize = 1 << 20;
/// What an interned value takes beside its text.
const INTERNED: usize = 64;
/// The clock of the sequence, whose times are differences.
const INCREMENTAL: u64 = 64;
/// `BUILTIN_CLOCK_REALTIME`, `BUILTIN_CLOCK_MONOTONIC`, `BUILTIN_CLOCK_BOOTTIME`
const REAL_TIME: u64 = 1;
const MONOTONIC: u64 = 3;
const BOOT_TIME: u64 = 6;
/// Values of `TracePacket.sequence_flags`.
const CLEARED: u64 = 3;
const NEEDS_STATE: u64 = 2;

/// Fields of messages, as in Perfetto's `protos/perfetto/trace`.
mod field {
    pub const PACKET: u32 = 1;
    /// `TracePacket`
    pub const CLOCK_SNAPSHOT: u32 = 6;
    pub const TIMESTAMP: u32 = 8;
    pub const SEQUENCE: u32 = 10;
    pub const TRACK_EVENT: u32 = 11;
    pub const INTERNED_DATA: u32 = 12;
    pub const SEQUENCE_FLAGS: u32 = 13;
    pub const DEFAULTS: u32 = 59;
    pub const TRACK_DESCRIPTOR: u32 = 60;
    pub const VULKAN_MEMORY_EVENT: u32 = 62;
    pub const FIRST_ON_SEQUENCE: u32 = 87;
    /// `TracePacketDefaults`
    pub const DEFAULT_CLOCK: u32 = 58;
}

/// Values that are stored once and referred to by a number from 1 on.
#[derive(Debug)]
struct Interned<K> {
    numbers: HashMap<K, u64>,
}

impl<K> Default for Interned<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new() }
    }
}

impl<K: std::hash::Hash + Eq> Interned<K> {
    /// Returns the number of a value, and whether it is new.
    fn number(&mut self, key: K) -> (u64, bool) {
        let next = self.numbers.len() as u64 + 1;
        let number = *self.numbers.entry(key).or_insert(next);
        (number, number == next)
    }
}

/// All that is interned.
#[derive(Debug, Default)]
struct Known {
    names: Interned<String>,
    keys: Interned<&'static str>,
    functions: Interned<String>,
    paths: Interned<String>,
    frames: Interned<(u64, u64, u32)>,
    stacks: Interned<SiteId>,
}

/// Writes packets, in parts.
pub(super) struct Packets<W> {
    writer: W,
    out: Message,
    last: u64,
    process: u64,
    /// The clock of the machine, and its time when that of the trace was 0.
    clock: (u64, u64),
    known: Known,
    /// Bytes of what is known.
    interned: usize,
}

impl<W: Write> Packets<W> {
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            out: Message::default(),
            last: 0,
            process: 0,
            clock: (MONOTONIC, 0),
            known: Known::default(),
            interned: 0,
        }
    }

    /// Returns the writer.
    pub fn into_writer(self) -> W {
        self.writer
    }

    /// Appends a packet of a time.
    #[inline]
    fn packet(&mut self, time: u64, fill: impl FnOnce(&mut Message)) -> io::Result<()> {
        // Times of events never decrease; if a file says so, they stand still.
        let since = time.saturating_sub(self.last);
        self.last += since;
        self.out.message(field::PACKET, |packet| {
            packet.number(field::TIMESTAMP, since);
            packet.number(field::SEQUENCE, 1);
            packet.number(field::SEQUENCE_FLAGS, NEEDS_STATE);
            fill(packet);
        });
        self.hand_on(PART)
    }

    /// Begins the sequence of packets, or begins it anew: tells the clock, and forgets what was interned.
    fn begin_sequence(&mut self, is_first: bool) {
        (self.known, self.interned) = (Known::default(), 0);
        let ((clock, start), last) = (self.clock, self.last);
        self.out.message(field::PACKET, |packet| {
            packet.message(field::CLOCK_SNAPSHOT, |snapshot| {
                let now = start.saturating_add(last);
                for (id, time, is_incremental) in
                    [(INCREMENTAL, last, true), (clock, now, false), (BOOT_TIME, now, false)]
                {
                    snapshot.message(1, |it| {
                        it.number(1, id);
                        it.number(2, time);
                        if is_incremental {
                            it.number(3, 1);
                        }
                    });
                }
                snapshot.number(2, clock);
            });
            packet.number(field::SEQUENCE, 1);
            packet.number(field::SEQUENCE_FLAGS, CLEARED);
            packet.message(field::DEFAULTS, |it| it.number(field::DEFAULT_CLOCK, INCREMENTAL));
            if is_first {
                packet.number(field::FIRST_ON_SEQUENCE, 1);
            }
        });
    }

    fn hand_on(&mut self, at_least: usize) -> io::Result<()> {
        if self.out.len() >= at_least {
            self.writer.write_all(self.out.bytes())?;
            self.out.clear();
        }
        Ok(())
    }

    /// Appends what of a mark is not stored yet; returns the numbers of its name, its keys and its stack.
    fn intern(&mut self, dictionary: &Dictionary, mark: &Mark<'_>) -> (u64, Vec<u64>, Option<u64>) {
        if self.interned > MOST_INTERNED {
            self.begin_sequence(false);
        }
        let mut new = Message::default();
        let named = |new: &mut Message, field: u32, number: u64, text: &str| {
            new.message(field, |it| {
                it.number(1, number);
                it.text(2, text);
            });
        };
        let (name, is_new) = self.known.names.number(mark.name.to_string());
        if is_new {
            named(&mut new, 2, name, mark.name);
        }
        let mut keys = Vec::new();
        for (key, _) in mark.values {
            let (number, is_new) = self.known.keys.number(key);
            if is_new {
                named(&mut new, 3, number, key);
            }
            keys.push(number);
        }
        let stack = mark.site.map(|site| self.stack(&mut new, dictionary, site));
        if new.len() > 0 {
            self.interned += new.len() + INTERNED;
            self.out.message(field::PACKET, |packet| {
                packet.number(field::SEQUENCE, 1);
                packet.number(field::SEQUENCE_FLAGS, NEEDS_STATE);
                packet.encoded(field::INTERNED_DATA, new.bytes());
            });
        }
        (name, keys, stack)
    }

    /// Returns the number of a call stack, whose functions are stored from the outermost on.
    fn stack(&mut self, new: &mut Message, dictionary: &Dictionary, site: SiteId) -> u64 {
        let (number, is_new) = self.known.stacks.number(site);
        if !is_new {
            return number;
        }
        let stack: Vec<_> = dictionary.stack(site).collect();
        let mut frames = Vec::new();
        for it in stack.into_iter().rev() {
            let text =
                |new: &mut Message, field: u32, (number, is_new): (u64, bool), text: &str| {
                    if is_new {
                        new.message(field, |it| {
                            it.number(1, number);
                            it.text(2, text);
                        });
                    }
                    number
                };
            let function =
                text(new, 5, self.known.functions.number(it.function.into()), it.function);
            let path = text(new, 18, self.known.paths.number(it.file.into()), it.file);
            let (frame, is_new) = self.known.frames.number((function, path, it.line));
            if is_new {
                new.message(6, |message| {
                    message.number(1, frame);
                    message.number(2, function);
                    message.number(5, path);
                    message.number(6, it.line.into());
                });
            }
            frames.push(frame);
        }
        new.message(7, |it| {
            it.number(1, number);
            frames.iter().for_each(|frame| it.number(2, *frame));
        });
        number
    }

    fn mark(
        &mut self,
        kind: u64,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()> {
        let (name, keys, stack) = self.intern(dictionary, mark);
        self.packet(time, |packet| {
            packet.message(field::TRACK_EVENT, |event| {
                for (key, (_, value)) in keys.iter().zip(mark.values) {
                    event.message(4, |it| {
                        it.number(1, *key);
                        match value {
                            Value::Number(number) => it.number(3, *number),
                            Value::Text(text) => it.text(6, text),
                        }
                    });
                }
                event.number(9, kind);
                event.number(10, name);
                event.number(11, track.0);
                match mark.flow {
                    Some(Flow::Starts(flow)) => event.fixed(47, flow),
                    Some(Flow::Ends(flow)) => event.fixed(48, flow),
                    None => {}
                }
                if let Some(stack) = stack {
                    event.number(56, stack);
                }
            });
        })
    }
}

impl Packets<Vec<u8>> {
    /// Moves all packets so far to the end of `to`.
    pub fn take(&mut self, to: &mut Vec<u8>) -> io::Result<()> {
        self.hand_on(1)?;
        to.append(&mut self.writer);
        Ok(())
    }
}

impl<W: Write> Output for Packets<W> {
    fn begin(&mut self, description: &Description) -> io::Result<()> {
        self.process = u64::from(description.process.unwrap_or(0));
        self.clock = match description.start {
            Some(start) => (REAL_TIME, start),
            None => (MONOTONIC, 0),
        };
        self.begin_sequence(true);
        Ok(())
    }

    fn track(
        &mut self,
        id: TrackId,
        parent: Option<TrackId>,
        name: &str,
        kind: TrackKind<'_>,
    ) -> io::Result<()> {
        let process = self.process;
        self.out.message(field::PACKET, |packet| {
            packet.number(field::SEQUENCE, 1);
            packet.message(field::TRACK_DESCRIPTOR, |track| {
                track.number(1, id.0);
                match parent {
                    Some(parent) => {
                        track.text(2, name);
                        track.number(5, parent.0);
                    }
                    None => track.message(3, |it| {
                        it.number(1, process);
                        it.text(6, name);
                    }),
                }
                if let TrackKind::Bytes { scale } = kind {
                    track.message(8, |counter| {
                        counter.number(3, 3);
                        counter.text(7, scale);
                    });
                }
            });
        });
        self.hand_on(PART)
    }

    #[inline]
    fn counter(&mut self, track: TrackId, time: u64, value: u64) -> io::Result<()> {
        self.packet(time, |packet| {
            packet.message(field::TRACK_EVENT, |event| {
                event.number(9, 4);
                event.number(11, track.0);
                event.number(30, value);
            });
        })
    }

    fn slice(
        &mut self,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()> {
        self.mark(1, track, time, dictionary, mark)
    }

    fn end_slice(&mut self, track: TrackId, time: u64) -> io::Result<()> {
        self.packet(time, |packet| {
            packet.message(field::TRACK_EVENT, |event| {
                event.number(9, 2);
                event.number(11, track.0);
            });
        })
    }

    fn instant(
        &mut self,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()> {
        self.mark(3, track, time, dictionary, mark)
    }

    fn memory(&mut self, time: u64, it: &MemoryOperation) -> io::Result<()> {
        let (source, operation) = match (it.is_memory, it.begins) {
            (true, true) => (3, 1),
            (true, false) => (3, 2),
            // A resource is bound when it is created.
            (false, true) => (if it.is_image { 5 } else { 4 }, 3),
            (false, false) => (if it.is_image { 5 } else { 4 }, 4),
        };
        let process = self.process;
        self.packet(time, |packet| {
            packet.message(field::VULKAN_MEMORY_EVENT, |event| {
                event.number(1, source);
                event.number(2, operation);
                event.number(4, process);
                event.fixed(5, if it.is_memory { 0 } else { it.offset });
                event.number(6, it.size);
                event.fixed(17, it.memory);
                event.number(18, it.memory_type.into());
                event.number(19, it.heap.into());
                event.fixed(20, it.object);
            });
        })
    }

    fn finish(&mut self) -> io::Result<()> {
        self.hand_on(1)?;
        self.writer.flush()
    }
}
