//! What the records of a block of events have in common: their first byte, the head of an event, definitions.

use crate::bytes::{Bytes, Input, Short, add_difference, difference, put};
use crate::error::Damage;
use crate::event::{NONE, Row, STATE};

/// Bit of the first byte of a record: a byte says which parts of the head follow that differ from the last event.
pub(super) const HEAD_FOLLOWS: u8 = 0x80;
/// The first number of records with a length.
pub(super) const FIRST_WITH_LENGTH: u8 = 64;
/// Record: an allocation with name and data.
pub(super) const NAMED_ALLOCATE: u8 = 2;
/// Record: defines a text.
pub(super) const TEXT: u8 = 125;
/// Record: defines a request.
pub(super) const REQUEST: u8 = 126;
/// Record: defines a function of a call stack.
pub(super) const SITE: u8 = 127;

const THREAD: u8 = 1;
const FRAME: u8 = 1 << 1;
const ALLOCATOR: u8 = 1 << 2;
const HAS_SITE: u8 = 1 << 3;
const IS_STATE: u8 = 1 << 4;
const SEQUENCE: u8 = 1 << 5;

/// What events are told relative to: the last event, and the next numbers of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Last {
    /// The sequence number that is expected next.
    pub sequence: u64,
    pub time: u64,
    pub thread: u32,
    pub frame: u64,
    pub allocator: u16,
    /// The number that the next allocation has.
    pub allocation: u64,
    /// The number that the next virtual allocation has.
    pub virtual_allocation: u64,
    /// The last memory object, plus one; 0 for none.
    pub memory: u64,
}

impl Last {
    /// Appends all but the memory object, with which each block begins.
    pub fn put(&self, out: &mut Vec<u8>) {
        for number in [
            self.sequence,
            self.time,
            u64::from(self.thread),
            self.frame,
            u64::from(self.allocator),
            self.allocation,
            self.virtual_allocation,
        ] {
            put(out, number);
        }
    }

    pub fn get(input: &mut Input<'_>) -> Result<Self, Damage> {
        Ok(Self {
            sequence: input.number()?,
            time: input.number()?,
            thread: input.small()?,
            frame: input.number()?,
            allocator: allocator(input)?,
            allocation: input.number()?,
            virtual_allocation: input.number()?,
            memory: 0,
        })
    }

    /// Appends the first byte of an event and what of its head differs from the last one.
    #[inline]
    pub fn put_head(&mut self, out: &mut Short<'_>, record: u8, row: &Row) {
        let mut parts = 0;
        for (differs, part) in [
            (row.thread != self.thread, THREAD),
            (row.frame != self.frame, FRAME),
            (row.allocator != self.allocator, ALLOCATOR),
            (row.site != NONE, HAS_SITE),
            (row.flags & STATE != 0, IS_STATE),
            (row.sequence != self.sequence, SEQUENCE),
        ] {
            parts |= if differs { part } else { 0 };
        }
        if parts == 0 {
            out.push(record);
        } else {
            self.put_parts(out, record, row, parts);
        }
        put(out, difference(row.time, self.time));
        (self.time, self.sequence) = (row.time, row.sequence.wrapping_add(1));
    }

    fn put_parts(&mut self, out: &mut Short<'_>, record: u8, row: &Row, parts: u8) {
        out.push(record | HEAD_FOLLOWS);
        out.push(parts);
        if parts & THREAD != 0 {
            put(out, u64::from(row.thread));
        }
        if parts & FRAME != 0 {
            put(out, difference(row.frame, self.frame));
        }
        if parts & ALLOCATOR != 0 {
            put(out, u64::from(row.allocator));
        }
        if parts & HAS_SITE != 0 {
            put(out, u64::from(row.site));
        }
        if parts & SEQUENCE != 0 {
            put(out, difference(row.sequence, self.sequence));
        }
        (self.thread, self.frame, self.allocator) = (row.thread, row.frame, row.allocator);
    }

    /// Takes what follows the first byte of an event up to its time, into a row.
    #[inline]
    pub fn get_head(
        &mut self,
        input: &mut Input<'_>,
        first: u8,
        row: &mut Row,
    ) -> Result<(), Damage> {
        let parts = if first & HEAD_FOLLOWS != 0 { input.byte()? } else { 0 };
        if parts > (SEQUENCE << 1) - 1 {
            return input.wrong("the head of an event has parts that this version does not know");
        }
        if parts & THREAD != 0 {
            self.thread = input.small()?;
        }
        if parts & FRAME != 0 {
            self.frame = add_difference(self.frame, input.number()?);
        }
        if parts & ALLOCATOR != 0 {
            self.allocator = allocator(input)?;
        }
        row.site = if parts & HAS_SITE != 0 { input.small()? } else { NONE };
        row.flags = if parts & IS_STATE != 0 { STATE } else { 0 };
        if parts & SEQUENCE != 0 {
            self.sequence = add_difference(self.sequence, input.number()?);
        }
        self.time = add_difference(self.time, input.number()?);
        (row.sequence, row.time, row.thread) = (self.sequence, self.time, self.thread);
        (row.frame, row.allocator) = (self.frame, self.allocator);
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }
}

fn allocator(input: &mut Input<'_>) -> Result<u16, Damage> {
    let number = input.number()?;
    match u16::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => input.wrong(format!("{number} is not the number of an allocator")),
    }
}
