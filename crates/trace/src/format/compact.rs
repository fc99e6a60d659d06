//! The records of the most frequent events, without names of fields or a length.

use crate::bytes::{Bytes, Input, Short, add_difference, difference, put};
use crate::error::Damage;
use crate::event::{DEDICATED, Kind, NO_TYPE, NONE, PLACED, Row};
use crate::values::{Request, Resource};

use super::records::Last;

/// Appends what follows the head of an event of a kind below 64.
#[inline]
pub(super) fn put_compact(out: &mut Short<'_>, last: &mut Last, row: &Row, requests: &[Request]) {
    match row.kind {
        Kind::Allocate => {
            put(out, difference(u64::from(row.object), last.allocation));
            last.allocation = u64::from(row.object) + 1;
            put(out, u64::from(row.request));
            put(out, row.size);
            if is_buffer(requests, row.request) {
                put(out, difference(row.size, row.buffer_size));
            }
            put_place(out, last, row);
        }
        Kind::Flush | Kind::Invalidate => {
            put(out, difference(last.allocation, u64::from(row.object)));
            put(out, row.offset);
            // Up to the end, which is usual, is 0.
            put(out, row.size.wrapping_add(1));
        }
        Kind::BeginFrame => {}
        Kind::VirtualAllocate => {
            put(out, u64::from(row.memory));
            put(out, difference(u64::from(row.object), last.virtual_allocation));
            last.virtual_allocation = u64::from(row.object) + 1;
            put(out, u64::from(row.request));
            put(out, row.size);
            put(out, if row.buffer_size == u64::from(NONE) { 0 } else { row.buffer_size + 1 });
            put(out, row.offset);
        }
        Kind::VirtualFree => {
            put(out, u64::from(row.memory));
            put(out, difference(last.virtual_allocation, u64::from(row.object)));
        }
        // Free, Map, Unmap.
        _ => put(out, difference(last.allocation, u64::from(row.object))),
    }
}

/// Takes what [`put_compact`] appends.
#[inline]
pub(super) fn get_compact(
    input: &mut Input<'_>,
    last: &mut Last,
    row: &mut Row,
    requests: &[Request],
) -> Result<(), Damage> {
    match row.kind {
        Kind::Allocate => {
            row.object = object(input, |it| add_difference(last.allocation, it))?;
            last.allocation = u64::from(row.object) + 1;
            row.request = input.small()?;
            row.size = input.number()?;
            if is_buffer(requests, row.request) {
                row.buffer_size = row.size.wrapping_sub(add_difference(0, input.number()?));
            }
            get_place(input, last, row)?;
        }
        Kind::Flush | Kind::Invalidate => {
            row.object = object(input, |it| last.allocation.wrapping_sub(add_difference(0, it)))?;
            row.offset = input.number()?;
            row.size = input.number()?.wrapping_sub(1);
        }
        Kind::BeginFrame => {}
        Kind::VirtualAllocate => {
            row.memory = input.small()?;
            row.object = object(input, |it| add_difference(last.virtual_allocation, it))?;
            last.virtual_allocation = u64::from(row.object) + 1;
            row.request = input.small()?;
            row.size = input.number()?;
            row.buffer_size = match input.small()? {
                0 => u64::from(NONE),
                block => u64::from(block - 1),
            };
            row.offset = input.number()?;
        }
        Kind::VirtualFree => {
            row.memory = input.small()?;
            let base = last.virtual_allocation;
            row.object = object(input, |it| base.wrapping_sub(add_difference(0, it)))?;
        }
        _ => {
            row.object = object(input, |it| last.allocation.wrapping_sub(add_difference(0, it)))?;
        }
    }
    Ok(())
}

fn is_buffer(requests: &[Request], number: u32) -> bool {
    let request = requests.get(number as usize);
    request.is_some_and(|it| matches!(it.resource, Resource::Buffer(_)))
}

#[inline]
fn object(input: &mut Input<'_>, number: impl FnOnce(u64) -> u64) -> Result<u32, Damage> {
    let number = number(input.number()?);
    match u32::try_from(number) {
        Ok(object) => Ok(object),
        Err(_) => input.wrong(format!("{number} is not the number of an object")),
    }
}

/// Appends 0 if it is not known where the allocation is; else the memory type, whether it is dedicated, the memory
/// object and the offset.
#[inline]
fn put_place(out: &mut Short<'_>, last: &mut Last, row: &Row) {
    if row.flags & PLACED == 0 {
        return out.push(0);
    }
    let memory_type = if row.memory_type == NO_TYPE { 0 } else { u64::from(row.memory_type) + 1 };
    put(out, memory_type << 2 | u64::from(row.flags & DEDICATED != 0) << 1 | 1);
    let memory = if row.memory == NONE { 0 } else { u64::from(row.memory) + 1 };
    put(out, difference(memory, last.memory));
    last.memory = memory;
    put(out, row.offset);
}

#[inline]
fn get_place(input: &mut Input<'_>, last: &mut Last, row: &mut Row) -> Result<(), Damage> {
    let place = input.number()?;
    if place == 0 {
        return Ok(());
    }
    row.flags |= PLACED | if place & 2 != 0 { DEDICATED } else { 0 };
    if place & 1 == 0 || place >> 2 > u64::from(NO_TYPE) {
        return input.wrong("no such memory type");
    }
    row.memory_type = ((place >> 2) as u8).wrapping_sub(1);
    last.memory = add_difference(last.memory, input.number()?);
    row.memory = match last.memory {
        0 => NONE,
        memory if memory <= u64::from(NONE) => memory as u32 - 1,
        memory => return input.wrong(format!("{memory} is not the number of a memory object")),
    };
    row.offset = input.number()?;
    Ok(())
}
