//! Blocks: what is written at a time, with a length and a checksum.

use crate::bytes::{Input, crc32c};
use crate::error::Damage;

/// Kind of a block that holds a description.
pub(crate) const DESCRIPTION: u8 = 1;
/// Kind of a block that holds definitions and events.
pub(crate) const EVENTS: u8 = 2;

/// Bytes before the payload of a block: its kind, three bytes of length, four of checksum.
pub(crate) const HEAD: usize = 8;
/// The longest payload of a block in bytes.
pub(crate) const LONGEST: usize = (1 << 24) - 1;

/// Appends the head of a block, to be completed by [`end`].
pub(crate) fn begin(out: &mut Vec<u8>, kind: u8) {
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
}

/// Completes the block that begins at `start` and ends where the bytes do.
pub(crate) fn end(out: &mut [u8], start: usize) {
    let payload = out.len() - start - HEAD;
    assert!(payload <= LONGEST, "a block of {payload} bytes");
    out[start + 1..start + 4].copy_from_slice(&(payload as u32).to_le_bytes()[..3]);
    let sum = checksum(&out[start..start + 4], &out[start + HEAD..]);
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum of the payload, to which kind and length are added so that they are covered as well.
fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let head = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    crc32c(payload).wrapping_add(head)
}

/// What follows in a file.
pub(crate) enum Next<'a> {
    /// A block: its kind and payload.
    Block(u8, Input<'a>),
    /// The file ends in the middle of a block, or is not written further than here.
    Cut,
    /// The file ends.
    End,
}

/// Takes a block. Zeros up to the end are what a file system leaves of bytes that were not written.
pub(crate) fn next<'a>(input: &mut Input<'a>) -> Result<Next<'a>, Damage> {
    if input.is_empty() {
        return Ok(Next::End);
    }
    let start = *input;
    if input.left() < HEAD {
        return Ok(Next::Cut);
    }
    let head: [u8; HEAD] = input.array()?;
    if head == [0; HEAD] {
        let mut rest = *input;
        let is_blank = rest.take(input.left() as u64)?.iter().all(|it| *it == 0);
        return if is_blank { Ok(Next::Cut) } else { start.wrong("no block begins here") };
    }
    let length = u32::from_le_bytes([head[1], head[2], head[3], 0]);
    if length as usize > input.left() {
        return Ok(Next::Cut);
    }
    let base = input.offset();
    let payload = input.take(u64::from(length))?;
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if checksum(&head[..4], payload) != sum {
        return start.wrong("the checksum of the block does not match: the file is damaged");
    }
    Ok(Next::Block(head[0], Input::new(payload, base)))
}
