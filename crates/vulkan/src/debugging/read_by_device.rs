//! Reads memory as the device sees it: many regions of a memory object in one copy.

use ash::vk;
use vkmem_engine::{Error, MemoryAccess};

use crate::debugging::check::Span;
use crate::debugging::contents::Comparison;
use crate::debugging::finding::Unchecked;
use crate::debugging::scratch::{Purpose, Scratch};
use crate::debugging::windows::{Part, Windows};
use crate::driver::contract::Driver;
use crate::driver::submission::TransferCommand;

/// Bytes that are read in one submission at most.
const AT_ONCE: u64 = 64 << 20;

const NO_QUEUE: &str = "it cannot be mapped, and the device was wrapped without a queue";
const NAMED: &str =
    "it cannot be mapped and is dedicated to one resource (VkMemoryDedicatedAllocateInfo)";
const UNREACHABLE: &str =
    "it cannot be mapped, and the device allows no buffer for transfers over it";

/// Reads memory objects through one scratch buffer.
pub(super) struct DeviceReader<'a> {
    driver: &'a dyn Driver,
    scratch: Option<Scratch<'a>>,
    submissions: u64,
}

/// A part of a span, in the order in which they are read.
struct Piece {
    span: usize,
    part: Part,
}

impl<'a> DeviceReader<'a> {
    pub(super) fn new(driver: &'a dyn Driver) -> Self {
        Self { driver, scratch: None, submissions: 0 }
    }

    pub(super) fn submissions(&self) -> u64 {
        self.submissions
    }

    /// Compares spans of a memory object, by ascending offset, and calls `take` with the comparison of each. Returns
    /// what could not be read.
    ///
    /// # Errors
    /// Those of the driver calls.
    pub(super) fn compare(
        &mut self,
        memory: &MemoryAccess,
        spans: &[Span],
        mut take: impl FnMut(&Span, Comparison),
    ) -> Result<Option<Unchecked>, Error> {
        let unchecked = |ranges, why| {
            let (memory_type_index, memory) = (memory.memory_type_index(), memory.handle());
            Some(Unchecked { memory, memory_type_index, ranges, why })
        };
        if spans.is_empty() {
            return Ok(None);
        }
        let count = spans.len() as u64;
        if self.driver.queue_flags().is_empty() {
            return Ok(unchecked(count, NO_QUEUE));
        }
        if memory.names_resource() {
            return Ok(unchecked(count, NAMED));
        }
        let extent = |span: &Span| span.range.offset..span.range.offset + span.range.size;
        let windows = Windows::over(self.driver, memory, spans.iter().map(extent))?;
        let mut pieces = Vec::new();
        let mut missed = 0;
        for (at, span) in spans.iter().enumerate() {
            if !windows.reach(extent(span)) {
                missed += 1;
                continue;
            }
            pieces.extend(
                windows.parts(extent(span)).flat_map(cut).map(|part| Piece { span: at, part }),
            );
        }
        let mut open: Option<(usize, Comparison)> = None;
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |piece: &&Piece| {
                size += piece.part.size;
                size <= AT_ONCE
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count());
            rest = later;
            let size = now.iter().map(|it| it.part.size).sum();
            let left: u64 = later.iter().map(|it| it.part.size).sum();
            // SAFETY: the windows live.
            let bytes = unsafe { self.read(now, size, (size + left).min(AT_ONCE)) }?;
            let mut at = 0;
            for Piece { span, part } in now {
                let comparison = match open.take() {
                    Some((of, comparison)) if of == *span => comparison,
                    done => {
                        done.into_iter().for_each(|(of, it)| take(&spans[of], it));
                        Comparison::new(spans[*span].expected)
                    }
                };
                let (_, comparison) = open.insert((*span, comparison));
                comparison.add(part.at, &bytes[at..at + part.size as usize]);
                at += part.size as usize;
            }
        }
        open.into_iter().for_each(|(of, it)| take(&spans[of], it));
        Ok(if missed > 0 { unchecked(missed, UNREACHABLE) } else { None })
    }

    /// Reads pieces, one behind the other; the scratch buffer is made for `most` bytes.
    ///
    /// # Safety
    /// The buffers of the pieces are live.
    unsafe fn read(&mut self, pieces: &[Piece], size: u64, most: u64) -> Result<&[u8], Error> {
        if self.scratch.as_ref().is_none_or(|it| it.size < size) {
            self.scratch = None;
            self.scratch = Some(Scratch::new(self.driver, most, Purpose::Download)?);
        }
        let scratch = self.scratch.as_ref().expect("made above");
        let commands = copies(pieces, scratch.buffer);
        self.submissions += 1;
        // SAFETY: all buffers are live, and the regions lie inside of them.
        unsafe { self.driver.run(&commands) }?;
        // SAFETY: the submission has ended.
        unsafe { scratch.read(size) }
    }
}

/// Cuts a part into pieces that fit into the scratch buffer.
fn cut(whole: Part) -> impl Iterator<Item = Part> {
    (0..whole.size.div_ceil(AT_ONCE)).map(move |number| {
        let from = number * AT_ONCE;
        let size = AT_ONCE.min(whole.size - from);
        Part { offset: whole.offset + from, at: whole.at + from, size, ..whole }
    })
}

/// Returns the copies of pieces, one behind the other; neighbours are copied together.
fn copies(pieces: &[Piece], target: vk::Buffer) -> Vec<TransferCommand> {
    let mut commands: Vec<TransferCommand> = Vec::with_capacity(pieces.len());
    let mut done = 0;
    for Piece { part, .. } in pieces {
        if let Some(TransferCommand::CopyBuffer { source, source_offset, size, .. }) =
            commands.last_mut()
            && (*source, *source_offset + *size) == (part.buffer, part.offset)
        {
            *size += part.size;
        } else {
            commands.push(TransferCommand::CopyBuffer {
                source: part.buffer,
                source_offset: part.offset,
                target,
                target_offset: done,
                size: part.size,
            });
        }
        done += part.size;
    }
    commands
}
