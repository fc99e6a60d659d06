//! Commands that are submitted together.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::sync::Arc;

use ash::vk;

use crate::driver::submission::TransferCommand;
use crate::transfer::image::ImageCommands;
use crate::transfer::job::Job;
use crate::transfer::staging::TransferDirection;
use crate::transfer::uses::Index;

/// A part of a buffer that a command uses.
#[derive(Clone, Copy, Debug)]
pub struct BufferPart {
    /// Live until the transfer has ended.
    pub buffer: vk::Buffer,
    /// In bytes.
    pub offset: u64,
    /// Its memory may be that of another buffer as well.
    pub is_shared: bool,
}

/// A part of a transfer, and the segment of a ring that it uses.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) job: Arc<Job>,
    pub(super) segment: Option<(TransferDirection, u64)>,
}

/// What the commands since the last barrier use of a buffer: the smallest range that contains it.
#[derive(Clone, Copy, Debug)]
struct Touched {
    start: u64,
    end: u64,
    is_written: bool,
}

/// Hashes a handle: the driver, and no attacker, chooses them. Many are addresses, whose lowest bits are 0.
#[derive(Debug, Default)]
struct HandleHasher(u64);

impl Hasher for HandleHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // An odd number without a pattern: the fractional part of the golden ratio.
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<TransferCommand>,
    pub(super) parts: Vec<Part>,
    /// That are copied by them.
    pub(super) bytes: u64,
    touched: HashMap<vk::Buffer, Touched, BuildHasherDefault<HandleHasher>>,
    /// Memory that several buffers may share was used since the last barrier.
    shared: bool,
    /// It was used at all.
    pub(super) uses_shared: bool,
    /// What they do to images.
    pub(super) images: ImageCommands,
    /// What they use, as far as another batch has asked.
    pub(super) index: Index,
}

impl Batch {
    /// Makes room for so many copies.
    pub(super) fn reserve(&mut self, count: usize) {
        self.commands.reserve(count);
        self.touched.reserve(count);
    }

    /// Adds a copy between the host's side, which nothing else uses, and a part of a buffer; `writes` says
    /// which way.
    pub(super) fn copy(&mut self, host: BufferPart, part: BufferPart, size: u64, writes: bool) {
        let conflicts = self.has_shared(part.is_shared)
            || self.touched.get(&part.buffer).is_some_and(|it| {
                (writes || it.is_written) && part.offset < it.end && it.start < part.offset + size
            });
        if conflicts {
            self.barrier();
        }
        self.note_shared(part.is_shared);
        let (start, end) = (part.offset, part.offset + size);
        let new = Touched { start, end, is_written: writes };
        let all = self.touched.entry(part.buffer).or_insert(new);
        (all.start, all.end) = (all.start.min(start), all.end.max(end));
        all.is_written |= writes;
        let (from, to) = if writes { (host, part) } else { (part, host) };
        self.commands.push(TransferCommand::CopyBuffer {
            source: from.buffer,
            source_offset: from.offset,
            target: to.buffer,
            target_offset: to.offset,
            size,
        });
        self.bytes += size;
    }

    /// Whether a command needs a barrier because of memory that several resources share.
    pub(super) fn has_shared(&self, is_shared: bool) -> bool {
        is_shared && !self.commands.is_empty() || self.shared
    }

    /// Notes that a command uses such memory, if it does.
    pub(super) fn note_shared(&mut self, is_shared: bool) {
        self.shared |= is_shared;
        self.uses_shared |= is_shared;
    }

    /// What follows depends on what was recorded so far.
    pub(super) fn barrier(&mut self) {
        self.commands.push(TransferCommand::Barrier);
        self.touched.clear();
        self.images.forget_touched();
        self.shared = false;
    }

    /// Whether all parts are of one transfer.
    pub(super) fn is_of(&self, job: &Arc<Job>) -> bool {
        self.parts.iter().all(|it| Arc::ptr_eq(&it.job, job))
    }

    /// All of it; it is empty then, and what it has learned of the room that it needs stays.
    pub(super) fn take(&mut self) -> Self {
        self.touched.clear();
        Self {
            commands: mem::take(&mut self.commands),
            parts: mem::take(&mut self.parts),
            bytes: mem::take(&mut self.bytes),
            touched: HashMap::default(),
            shared: mem::take(&mut self.shared),
            uses_shared: mem::take(&mut self.uses_shared),
            images: mem::take(&mut self.images),
            index: mem::take(&mut self.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use ash::vk::Handle;

    use super::*;

    fn barriers(copies: &[(u64, u64, u64, bool, bool)]) -> usize {
        let mut batch = Batch::default();
        for &(buffer, offset, size, writes, is_shared) in copies {
            let host = BufferPart { buffer: vk::Buffer::null(), offset: 0, is_shared: false };
            let part = BufferPart { buffer: vk::Buffer::from_raw(buffer), offset, is_shared };
            batch.copy(host, part, size, writes);
        }
        batch.commands.iter().filter(|it| matches!(it, TransferCommand::Barrier)).count()
    }

    #[test]
    fn a_barrier_stands_where_copies_depend_on_each_other() {
        let apart = [(1, 0, 64, true, false), (1, 64, 64, true, false), (2, 0, 64, true, false)];
        assert_eq!(barriers(&apart), 0);
        assert_eq!(barriers(&[(1, 0, 64, true, false), (1, 63, 8, true, false)]), 1);
        assert_eq!(barriers(&[(1, 0, 64, true, false), (1, 0, 64, false, false)]), 1);
        assert_eq!(barriers(&[(1, 0, 64, false, false), (1, 0, 64, true, false)]), 1);
        assert_eq!(barriers(&[(1, 0, 64, false, false), (1, 0, 64, false, false)]), 0);
        assert_eq!(barriers(&[(1, 0, 4, true, false), (2, 0, 4, true, true)]), 1);
        assert_eq!(barriers(&[(2, 0, 4, true, true), (1, 0, 4, true, false)]), 1);
        let again = [(1, 0, 8, true, false), (1, 0, 8, true, false), (1, 8, 8, true, false)];
        assert_eq!(barriers(&again), 1);
    }
}
