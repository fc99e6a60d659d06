//! Reads memory as the device sees it: many regions of a memory object in one copy.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use ash::vk;
use vkmem_engine::{GuardedRange, MemoryAccess};

use crate::debugging::contents::{Comparison, Expected};
use crate::debugging::finding::Unchecked;
use crate::debugging::regions::Regions;
use crate::debugging::scratch::{Purpose, Scratch};
use crate::debugging::unfinished::UnfinishedCheck;
use crate::debugging::windows::{Part, Windows};
use crate::driver::contract::Driver;
use crate::driver::stopped::{Pause, Stopped, wait_for};
use crate::driver::submission::{Submission, TransferCommand};

/// Bytes that are read in one submission at most. Host memory of that size is allocated for a check.
const AT_ONCE: u64 = 128 << 20;

const NO_QUEUE: &str = "it cannot be mapped, and the device was wrapped without a queue";
const NAMED: &str =
    "it cannot be mapped and is dedicated to one resource (VkMemoryDedicatedAllocateInfo)";
const UNREACHABLE: &str =
    "it cannot be mapped, and the device allows no buffer for transfers over it";

/// Reads memory objects through one scratch buffer.
pub(super) struct DeviceReader<'a> {
    driver: &'a Arc<dyn Driver>,
    scratch: Option<Scratch>,
    /// Bytes that the scratch buffer is made for, if nothing needs more.
    expected: u64,
    /// Kept for its room.
    commands: Vec<TransferCommand>,
    submissions: u64,
    /// The last submission.
    last: Submission,
    pause: Pause<'a>,
}

impl<'a> DeviceReader<'a> {
    pub(super) fn new(driver: &'a Arc<dyn Driver>, pause: Pause<'a>) -> Self {
        let (commands, last) = (Vec::new(), Submission::NONE);
        Self { driver, scratch: None, expected: 0, commands, submissions: 0, last, pause }
    }

    /// Makes the scratch buffer large enough for what will be read of a memory object, when it is made.
    pub(super) fn expect(&mut self, memory: &MemoryAccess, ranges: &[GuardedRange]) {
        let mut regions = Regions::of(self.driver.as_ref(), memory);
        for range in ranges {
            let (offset, size) = (range.offset, range.size);
            regions.add(&Part { buffer: vk::Buffer::null(), offset, at: offset, size });
        }
        self.expected = self.expected.max(regions.size.min(AT_ONCE));
    }

    pub(super) fn submissions(&self) -> u64 {
        self.submissions
    }

    /// Compares ranges of a memory object with what they have to hold, by ascending offset, and calls `take` with
    /// the comparison of each. Returns the number of those, and what could not be read.
    ///
    /// Where `pause` has stopped it, `unfinished` is what the device still uses.
    ///
    /// # Errors
    /// Those of the driver calls, and `Interrupted`.
    pub(super) fn compare(
        &mut self,
        memory: &MemoryAccess,
        ranges: &[(&GuardedRange, Expected)],
        unfinished: &mut Option<UnfinishedCheck>,
        mut take: impl FnMut(&GuardedRange, Comparison),
    ) -> Result<(u64, Option<Unchecked>), Stopped> {
        let unchecked = |ranges, why| {
            let (memory_type_index, memory) = (memory.memory_type_index(), memory.handle());
            (ranges > 0).then_some(Unchecked { memory, memory_type_index, ranges, why })
        };
        let ranges = ranges.iter().copied();
        let count = ranges.len() as u64;
        if self.driver.queue_flags().is_empty() {
            return Ok((0, unchecked(count, NO_QUEUE)));
        }
        if memory.names_resource() {
            return Ok((0, unchecked(count, NAMED)));
        }
        let windows = Windows::over(self.driver, memory, ranges.clone().map(|it| extent(it.0)))?;
        let reached = ranges.filter(|(range, _)| windows.reach(extent(range)));
        let read = reached.clone().count() as u64;
        let mut rest = Pieces { ranges: reached, windows: &windows, open: None }.peekable();
        let none = Regions::of(self.driver.as_ref(), memory);
        let mut all = none;
        rest.clone().for_each(|it| _ = all.add(&it.part));
        let mut open: Option<(&GuardedRange, Comparison)> = None;
        while rest.peek().is_some() {
            let (mut now, mut regions) = (rest.clone(), none);
            // SAFETY: the windows live.
            let read = unsafe { self.read(&mut rest, none, all.size.min(AT_ONCE)) };
            let found = match read {
                Ok(found) => found,
                Err(stopped) => {
                    if let (Stopped::Interrupted, Some(scratch)) = (&stopped, self.scratch.take()) {
                        let (driver, last) = (self.driver.clone(), self.last);
                        *unfinished = Some(UnfinishedCheck::new(driver, last, windows, scratch));
                    }
                    return Err(stopped);
                }
            };
            while regions.size < found.len() as u64 {
                let Some(Piece { range, expected, part }) = now.next() else { break };
                let comparison = match open.take() {
                    Some((of, comparison)) if of.offset == range.offset => comparison,
                    done => {
                        done.into_iter().for_each(|(of, it)| take(of, it));
                        Comparison::new(expected)
                    }
                };
                let at = regions.add(&part).at as usize;
                let here = &found[at..][..part.size as usize];
                open.insert((range, comparison)).1.add(part.at, here);
            }
        }
        open.into_iter().for_each(|(of, it)| take(of, it));
        Ok((read, unchecked(count - read, UNREACHABLE)))
    }

    /// Reads as many pieces as fit, from the beginning of `regions` on; the scratch buffer is made for `most` bytes.
    ///
    /// # Safety
    /// The buffers of the pieces are live.
    unsafe fn read<'r>(
        &mut self,
        pieces: &mut Peekable<impl Iterator<Item = Piece<'r>>>,
        regions: Regions,
        most: u64,
    ) -> Result<&[u8], Stopped> {
        let most = most.max(self.expected);
        if self.scratch.as_ref().is_none_or(|it| it.size < most) {
            self.scratch = None;
            self.scratch = Some(Scratch::new(self.driver, most, Purpose::Download)?);
        }
        let scratch = self.scratch.as_ref().expect("made above");
        let size = add_copies(&mut self.commands, pieces, regions, (scratch.buffer, most));
        self.submissions += 1;
        // SAFETY: all buffers are live, and the regions lie inside of them.
        self.last = unsafe { self.driver.submit(&self.commands) }?;
        wait_for(self.driver.as_ref(), self.last, self.pause)?;
        // SAFETY: the submission has ended.
        Ok(unsafe { scratch.read(size) }?)
    }
}

/// A part of a range.
#[derive(Clone, Copy)]
struct Piece<'r> {
    range: &'r GuardedRange,
    expected: Expected,
    part: Part,
}

/// The pieces of ranges, each under one buffer and small enough for the scratch buffer, by ascending offset.
#[derive(Clone)]
struct Pieces<'r, 'w, I> {
    ranges: I,
    windows: &'w Windows,
    /// The current range, and the offset in the memory object up to which its pieces were returned.
    open: Option<(&'r GuardedRange, Expected, u64)>,
}

impl<'r, I: Iterator<Item = (&'r GuardedRange, Expected)>> Iterator for Pieces<'r, '_, I> {
    type Item = Piece<'r>;

    fn next(&mut self) -> Option<Piece<'r>> {
        loop {
            let (range, expected, done) = match self.open.take() {
                Some(open) => open,
                None => {
                    let (range, expected) = self.ranges.next()?;
                    (range, expected, range.offset)
                }
            };
            let end = extent(range).end;
            // Nothing is left out of a range that is reached.
            let Some(part) = self.windows.first_part(done..end.min(done + AT_ONCE)) else {
                continue;
            };
            let done = part.at + part.size;
            if done < end {
                self.open = Some((range, expected, done));
            }
            return Some(Piece { range, expected, part });
        }
    }
}

fn extent(range: &GuardedRange) -> Range<u64> {
    range.offset..range.offset + range.size
}

/// Replaces `commands` by the copies of pieces to a buffer, as long as they fit into its size. Returns their bytes.
fn add_copies<'r>(
    commands: &mut Vec<TransferCommand>,
    pieces: &mut Peekable<impl Iterator<Item = Piece<'r>>>,
    mut regions: Regions,
    (target, most): (vk::Buffer, u64),
) -> u64 {
    commands.clear();
    while let Some(Piece { part, .. }) =
        pieces.next_if(|it| regions.place(&it.part).at + it.part.size <= most)
    {
        let place = regions.add(&part);
        match (commands.last_mut(), place.gap) {
            (Some(TransferCommand::CopyBuffer { size, .. }), Some(gap)) => *size += gap + part.size,
            _ => commands.push(TransferCommand::CopyBuffer {
                source: part.buffer,
                source_offset: part.offset,
                target,
                target_offset: place.at,
                size: part.size,
            }),
        }
    }
    regions.size
}

#[cfg(test)]
mod tests {
    use vkmem_engine::GuardedUse;

    use super::*;

    fn guarded(offset: u64) -> GuardedRange {
        let (is, neighbours) = (GuardedUse::BackMargin, [None; 2]);
        GuardedRange { offset, size: 16, from_start: 0, is, id: None, neighbours }
    }

    #[test]
    fn copies_end_where_the_scratch_buffer_does_and_go_on_at_its_beginning() {
        let [source, target] = [1, 2].map(<vk::Buffer as vk::Handle>::from_raw);
        let ranges = [0, 64, 300, 9000, 9016, 9100].map(guarded);
        let mut pieces = ranges
            .iter()
            .map(|range| {
                let (at, size) = (range.offset, range.size);
                let part = Part { buffer: source, offset: at, at, size };
                Piece { range, expected: Expected::Byte(0), part }
            })
            .peekable();
        let mut commands = Vec::new();
        let mut copies = |most| {
            let regions = Regions::with_gap(256);
            let size = add_copies(&mut commands, &mut pieces, regions, (target, most));
            let regions: Vec<_> = commands
                .iter()
                .map(|it| match *it {
                    TransferCommand::CopyBuffer {
                        source: from,
                        source_offset,
                        target: to,
                        target_offset,
                        size,
                    } if (from, to) == (source, target) => (source_offset, target_offset, size),
                    ref other => panic!("{other:?}"),
                })
                .collect();
            (regions, size)
        };
        // The third piece would fit, but not with what lies before it.
        assert_eq!(copies(315), (vec![(0, 0, 80)], 80));
        assert_eq!(copies(48), (vec![(300, 0, 16), (9000, 16, 32)], 48));
        assert_eq!(copies(48), (vec![(9100, 0, 16)], 16));
        assert_eq!(copies(48), (vec![], 0));
    }
}
