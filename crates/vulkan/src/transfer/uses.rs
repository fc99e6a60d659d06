//! Which bytes and images commands use.

use std::collections::HashMap;

use ash::vk::{self, Handle};

use crate::driver::submission::TransferCommand;

/// A buffer or an image, by its handle.
type Key = (bool, u64);

/// What a command uses of a buffer or an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    key: Key,
    start: u64,
    end: u64,
    is_written: bool,
}

impl Use {
    /// A range of a buffer in bytes.
    pub(super) fn of_buffer(buffer: vk::Buffer, start: u64, size: u64, is_written: bool) -> Self {
        Self { key: (false, buffer.as_raw()), start, end: start + size, is_written }
    }

    /// All of an image, as even a read may change its layout.
    pub(super) fn of_image(image: vk::Image) -> Self {
        Self { key: (true, image.as_raw()), start: 0, end: u64::MAX, is_written: true }
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.key == other.key
            && (self.is_written || other.is_written)
            && self.start < other.end
            && other.start < self.end
    }

    /// What a command uses.
    pub(super) fn of(command: &TransferCommand) -> [Option<Self>; 2] {
        match *command {
            TransferCommand::FillBuffer { buffer, offset, size, .. } => {
                [Some(Self::of_buffer(buffer, offset, size, true)), None]
            }
            TransferCommand::CopyBuffer { source, source_offset, target, target_offset, size } => [
                Some(Self::of_buffer(source, source_offset, size, false)),
                Some(Self::of_buffer(target, target_offset, size, true)),
            ],
            // The buffer is the ring's, and each part of that belongs to one transfer.
            _ => command.images().map(|it| it.map(|(image, ..)| Self::of_image(image))),
        }
    }
}

/// The smallest range that contains all uses of a buffer or an image.
#[derive(Debug, Default)]
pub(super) struct Index {
    uses: HashMap<Key, Use>,
    /// Commands that are in it.
    commands: usize,
}

impl Index {
    fn add(&mut self, new: Use) {
        let all = self.uses.entry(new.key).or_insert(new);
        (all.start, all.end) = (all.start.min(new.start), all.end.max(new.end));
        all.is_written |= new.is_written;
    }

    pub(super) fn meets(&mut self, commands: &[TransferCommand], new: &Use) -> bool {
        for command in &commands[self.commands..] {
            Use::of(command).into_iter().flatten().for_each(|it| self.add(it));
        }
        self.commands = commands.len();
        self.uses.get(&new.key).is_some_and(|it| it.meets(new))
    }
}
