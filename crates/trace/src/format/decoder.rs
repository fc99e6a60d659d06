//! Reads recordings of this library.

use super::block::{self, Next};
use super::compact::get_compact;
use super::head::get_description;
use super::records::{FIRST_WITH_LENGTH, HEAD_FOLLOWS, Last, NAMED_ALLOCATE, REQUEST, SITE, TEXT};
use super::version::{MAGIC, VERSION};
use crate::bytes::Input;
use crate::description::Description;
use crate::dictionary::{Dictionary, Site, SiteId};
use crate::error::{Damage, Format, Position, ReadError};
use crate::event::{Kind, NO_TYPE, NONE, PAYLOAD, Row};
use crate::progress::Progress;
use crate::trace::{Trace, TraceBuilder};
use crate::values::Request;

/// Reads a recording: all of it, or up to the block that is not complete.
///
/// # Errors
/// [`ReadError`] with the offset of what is wrong.
pub(crate) fn decode(bytes: &[u8], progress: Progress<'_>) -> Result<Trace, ReadError> {
    read(bytes, progress).map_err(|damage| ReadError::of_damage(Format::VkMem, damage))
}

fn read(bytes: &[u8], progress: Progress<'_>) -> Result<Trace, Damage> {
    let mut input = Input::new(bytes, 0);
    if input.array::<8>() != Ok(MAGIC) {
        return Err(Damage::new(0, "this is not a recording"));
    }
    let version: [u8; 4] = input.array()?;
    let part = |at: usize| u32::from(u16::from_le_bytes([version[at], version[at + 1]]));
    let (major, minor) = (part(0), part(2));
    if major != VERSION.0 {
        return Err(Damage::new(
            8,
            format!("version {major}.{minor} of the format; this library reads version 1"),
        ));
    }
    let mut trace = TraceBuilder::new(Description::new(Format::VkMem, (major, minor)));
    loop {
        let start = input.offset();
        progress(start, bytes.len() as u64);
        match block::next(&mut input)? {
            Next::Block(block::DESCRIPTION, mut payload) => {
                get_description(&mut payload, trace.description_mut())?;
            }
            Next::Block(block::EVENTS, payload) => read_events(payload, &mut trace)?,
            Next::Block(..) => {}
            Next::Cut => {
                trace.cut_at(Position::Offset(start));
                break;
            }
            Next::End => break,
        }
    }
    Ok(trace.finish())
}

fn read_events(mut input: Input<'_>, trace: &mut TraceBuilder) -> Result<(), Damage> {
    let mut last = Last::get(&mut input)?;
    while !input.is_empty() {
        let at = input.offset();
        let first = input.byte()?;
        let record = first & !HEAD_FOLLOWS;
        if matches!(record, TEXT | REQUEST | SITE) {
            if first & HEAD_FOLLOWS != 0 {
                return Err(Damage::new(at, "a definition has the head of an event"));
            }
            define(&mut input, record, trace.dictionary_mut())?;
            continue;
        }
        let known = match record {
            NAMED_ALLOCATE => Some(Kind::Allocate),
            number => Kind::from_number(number),
        };
        if known.is_none() && record < FIRST_WITH_LENGTH {
            return Err(Damage::new(at, format!("no event has the number {record}")));
        }
        let mut row = Row::empty(known.unwrap_or(Kind::Mark));
        last.get_head(&mut input, first, &mut row)?;
        if record < FIRST_WITH_LENGTH {
            let requests = trace.dictionary_mut().requests();
            get_compact(&mut input, &mut last, &mut row, requests)?;
        }
        let base = input.offset();
        let mut payload = Input::new(&[], base);
        if record >= FIRST_WITH_LENGTH || record == NAMED_ALLOCATE {
            row.flags |= PAYLOAD;
            let start = input;
            let bytes = input.sized()?;
            let head = input.index() - start.index() - bytes.len();
            payload = Input::new(bytes, base + head as u64);
        }
        match known {
            Some(_) => trace.push_row(row, payload)?,
            None => trace.note_unknown_event(),
        }
    }
    Ok(())
}

impl Row {
    fn empty(kind: Kind) -> Self {
        Self {
            kind,
            flags: 0,
            memory_type: NO_TYPE,
            allocator: 0,
            thread: 0,
            sequence: 0,
            time: 0,
            frame: 0,
            site: NONE,
            object: NONE,
            request: NONE,
            size: 0,
            buffer_size: 0,
            offset: 0,
            memory: NONE,
        }
    }
}

/// Takes a definition: its length, its number, the value.
fn define(input: &mut Input<'_>, record: u8, dictionary: &mut Dictionary) -> Result<(), Damage> {
    let start = *input;
    let bytes = input.sized()?;
    let head = input.index() - start.index() - bytes.len();
    let mut value = Input::new(bytes, start.offset() + head as u64);
    let number = value.small()?;
    let defined = match record {
        TEXT => dictionary.define_text(number, value.text()?),
        REQUEST => dictionary.define_request(number, Request::decode(&mut value)?),
        _ => {
            let parent = match value.small()? {
                0 => None,
                number => Some(SiteId(number - 1)),
            };
            let (file, line, function) = (value.small()?, value.small()?, value.small()?);
            dictionary.define_site(number, Site { parent, file, line, function })
        }
    };
    match defined {
        true => Ok(()),
        false => start.wrong(format!("definition {number} does not fit the ones before it")),
    }
}
