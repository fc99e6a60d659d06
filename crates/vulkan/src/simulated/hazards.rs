//! Commands between two barriers that use what another one of them writes.

use std::collections::HashMap;

use ash::vk::{self, Handle};
use vkmem_engine::words::bytes;
use vkmem_engine::{Finding, MemoryRange, ViolationKind};

use crate::simulated::resources::MemoryOffset;
use crate::simulated::surface::Part;

/// What a command reads or writes.
#[derive(Clone, Debug)]
pub(super) struct Access {
    place: Place,
    /// The buffer or image, by its handle.
    pub(super) resource: u64,
    pub(super) writes: bool,
}

#[derive(Clone, Debug)]
enum Place {
    Bytes(MemoryRange),
    Texels(Box<Part>),
}

impl Access {
    pub(super) fn bytes(
        buffer: vk::Buffer,
        (memory, offset): MemoryOffset,
        size: u64,
        writes: bool,
    ) -> Self {
        let place = Place::Bytes(MemoryRange { memory, offset, size });
        Self { place, resource: buffer.as_raw(), writes }
    }

    pub(super) fn texels(part: Part, writes: bool) -> Self {
        let resource = part.image.as_raw();
        Self { place: Place::Texels(Box::new(part)), resource, writes }
    }

    fn verb(&self) -> &'static str {
        if self.writes { "writes" } else { "reads" }
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

/// Two commands that nothing orders, of which one writes what the other one uses.
pub(super) struct Hazard<'a> {
    /// Numbers of the commands, the lower one first.
    pub(super) commands: [usize; 2],
    /// What each of them does there.
    accesses: [&'a Access; 2],
}

impl Hazard<'_> {
    /// Describes it; `who` names both commands, `first` the earlier one, and `order` what they have not.
    pub(super) fn finding(&self, who: &str, first: &str, order: &str) -> Finding {
        let [one, other] = self.accesses;
        let (written, used) = if one.writes { (one, other) } else { (other, one) };
        let text = format!(
            "{who} have no {order} between them, and one writes what the other one {}: {}",
            used.verb(),
            describe(written)
        );
        let found = Finding::new(ViolationKind::MissingBarrier, text)
            .of(other.resource)
            .with(format!("{first}, which {} there", one.verb()));
        match (&one.place, &other.place) {
            (Place::Bytes(one), Place::Bytes(other)) => found.at(intersection(one, other)),
            _ => found,
        }
    }
}

/// Returns the bytes that two overlapping ranges of one memory object share.
pub(super) fn intersection(one: &MemoryRange, other: &MemoryRange) -> MemoryRange {
    let offset = one.offset.max(other.offset);
    let end = (one.offset + one.size).min(other.offset + other.size);
    MemoryRange { memory: one.memory, offset, size: end.saturating_sub(offset) }
}

/// Returns the first two commands, of those without a barrier between them, of which one writes what the other one
/// uses. Accesses are given with the numbers of their commands; `counts` says which pairs are looked at.
pub(super) fn find_hazard<'a>(
    accesses: impl Iterator<Item = (usize, &'a Access)>,
    counts: impl Fn(usize, usize) -> bool,
) -> Option<Hazard<'a>> {
    let mut lines: Vec<Vec<Span<'a>>> = Vec::new();
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
        lines[number].push(Span { start, end, command, access });
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
            let meets = |it: &&&Span<'_>| {
                it.command != write.command
                    && counts(it.command, write.command)
                    && overlap(it.access, write.access)
            };
            let other = later.chain(read).find(meets);
            if let Some(other) = other {
                let pair = [(write.command, write.access), (other.command, other.access)];
                let [first, second] =
                    if write.command < other.command { pair } else { [pair[1], pair[0]] };
                return Some(Hazard {
                    commands: [first.0, second.0],
                    accesses: [first.1, second.1],
                });
            }
        }
    }
    None
}
