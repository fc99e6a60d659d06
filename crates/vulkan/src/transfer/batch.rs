//! Commands that are submitted together.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::mem;
use std::sync::Arc;

use ash::vk;

use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::TransferCommand;
use crate::driver::transfer_queue::Sharing;
use crate::transfer::image::ImageCommands;
use crate::transfer::job::Job;
use crate::transfer::staging::TransferDirection;
use crate::transfer::uses::{BufferPart, HandleHasher, Index};

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

/// Commands that a batch keeps room for, at most: those of as many arrays of 1 KiB as one submission takes.
const MOST_ROOM: usize = 16 << 10;

/// Empty collections whose memory the next batch uses again.
#[derive(Debug, Default)]
pub(super) struct Room {
    commands: Vec<TransferCommand>,
    touched: HashMap<vk::Buffer, Touched, BuildHasherDefault<HandleHasher>>,
}

impl Room {
    /// Whether to keep this one, and not the other.
    pub(super) fn is_worth_more_than(&self, other: &Self) -> bool {
        (other.commands.capacity()..=MOST_ROOM).contains(&self.commands.capacity())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<TransferCommand>,
    pub(super) parts: Vec<Part>,
    /// That are copied by them.
    pub(super) bytes: u64,
    /// Which queues may use the resources of the commands; one that is missing is of the main queue only.
    pub(super) sharing: Vec<(ResourceHandle, Sharing)>,
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
    /// An empty one that uses memory of an earlier one.
    pub(super) fn with_room(room: Room) -> Self {
        let mut batch = Self::default();
        batch.use_room(room);
        batch
    }

    /// Uses memory of an earlier one, as it is empty.
    pub(super) fn use_room(&mut self, room: Room) {
        debug_assert!(self.commands.is_empty() && self.touched.is_empty());
        self.commands = room.commands;
        if room.touched.capacity() > self.touched.capacity() {
            self.touched = room.touched;
        }
    }

    /// Leaves its memory to a later one.
    pub(super) fn into_room(self) -> Room {
        let Self { mut commands, mut touched, .. } = self;
        commands.clear();
        touched.clear();
        Room { commands, touched }
    }

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
        self.note(ResourceHandle::Buffer(host.buffer), host.sharing);
        self.note(ResourceHandle::Buffer(part.buffer), part.sharing);
        self.bytes += size;
    }

    /// Notes which queues may use a resource of the commands.
    pub(super) fn note(&mut self, resource: ResourceHandle, sharing: Sharing) {
        // Many copies in a row mostly are of one resource and the ring.
        if !self.sharing.iter().rev().take(2).any(|(known, _)| *known == resource) {
            self.sharing.push((resource, sharing));
        }
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
            sharing: mem::take(&mut self.sharing),
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
            let sharing = Sharing::Exclusive;
            let host =
                BufferPart { buffer: vk::Buffer::null(), offset: 0, is_shared: false, sharing };
            let buffer = vk::Buffer::from_raw(buffer);
            let part = BufferPart { buffer, offset, is_shared, sharing };
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
