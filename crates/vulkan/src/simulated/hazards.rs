//! Commands between two barriers that use what another one of them writes.

use std::collections::HashMap;

use ash::vk::Handle;
use vkmem_engine::words::bytes;
use vkmem_engine::{MemoryHandle, MemoryRange};

use crate::simulated::surface::Part;

/// What a command reads or writes.
#[derive(Clone, Debug)]
pub(super) struct Access {
    place: Place,
    writes: bool,
}

#[derive(Clone, Debug)]
enum Place {
    Bytes(MemoryRange),
    Texels(Box<Part>),
}

impl Access {
    pub(super) fn bytes(memory: MemoryHandle, offset: u64, size: u64, writes: bool) -> Self {
        Self { place: Place::Bytes(MemoryRange { memory, offset, size }), writes }
    }

    pub(super) fn texels(part: Part, writes: bool) -> Self {
        Self { place: Place::Texels(Box::new(part)), writes }
    }
}

/// What spans lie in: a memory object, or an aspect and a level of an image.
type Line = (u8, u64, u32, u32);

/// The place of an access in a line, so that those that overlap are neighbours when sorted: bytes of memory, or
/// rows of a level of an image.
struct Span<'a> {
    start: u64,
    end: u64,
    command: usize,
    access: &'a Access,
}

fn overlap(one: &Access, other: &Access) -> bool {
    match (&one.place, &other.place) {
        // Spans of bytes that overlap are enough.
        (Place::Bytes(_), Place::Bytes(_)) => true,
        (Place::Texels(one), Place::Texels(other)) => one.overlaps(other),
        _ => false,
    }
}

fn describe(access: &Access) -> String {
    match &access.place {
        Place::Bytes(range) => format!(
            "{} at offset {} of memory {:#x}",
            bytes(range.size),
            range.offset,
            range.memory.0
        ),
        Place::Texels(part) => {
            format!("{:?} of level {} of image {:#x}", part.aspect, part.level, part.image.as_raw())
        }
    }
}

/// Returns a description of the first two commands, of those without a barrier between them, of which one writes
/// what the other one uses. The numbers are those of the commands in their group.
pub(super) fn find_hazard(accesses: &[(usize, Access)]) -> Option<String> {
    let mut lines: Vec<Vec<Span<'_>>> = Vec::new();
    let mut numbers: HashMap<Line, usize> = HashMap::new();
    // Many copies in a row are between the same two.
    let mut recent: [Option<(Line, usize)>; 2] = [None; 2];
    for (command, access) in accesses {
        let (line, start, end) = match &access.place {
            Place::Bytes(range) => {
                ((0, range.memory.0, 0, 0), range.offset, range.offset + range.size)
            }
            Place::Texels(part) => {
                let line = (1, part.image.as_raw(), part.aspect.as_raw(), part.level);
                (line, part.first[1], part.first[1] + part.counts[1])
            }
        };
        let number = match recent.iter().flatten().find(|(known, _)| *known == line) {
            Some((_, number)) => *number,
            None => {
                let number = *numbers.entry(line).or_insert(lines.len());
                recent = [Some((line, number)), recent[0]];
                number
            }
        };
        if number == lines.len() {
            lines.push(Vec::new());
        }
        lines[number].push(Span { start, end, command: *command, access });
    }
    for spans in &mut lines {
        if !spans.iter().any(|it| it.access.writes) {
            continue;
        }
        spans.sort_by_key(|it| it.start);
        let (writes, reads): (Vec<_>, Vec<_>) = spans.iter().partition(|it| it.access.writes);
        for (at, write) in writes.iter().enumerate() {
            let later = writes[at + 1..].iter().take_while(|it| it.start < write.end);
            // Reads that begin before the write may reach into it.
            let ends = reads.partition_point(|it| it.start < write.end);
            let read = reads[..ends].iter().filter(|it| write.start < it.end);
            let other = later
                .chain(read)
                .find(|it| it.command != write.command && overlap(it.access, write.access));
            if let Some(other) = other {
                let (first, second) =
                    (write.command.min(other.command), write.command.max(other.command));
                return Some(format!(
                    "commands {first} and {second} have no barrier between them, and one writes what the \
                     other one {}: {}",
                    if other.access.writes { "writes" } else { "reads" },
                    describe(write.access)
                ));
            }
        }
    }
    None
}
