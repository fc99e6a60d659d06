//! [`Ownership`]: which parts of exclusive resources change their owner for commands of another queue family.
//!
//! A part that another family owns may only be overwritten there; to read it, the owner has to release it and
//! the other family to acquire it, with equal ranges and layouts (Vulkan's "queue family ownership transfer").

use std::collections::{HashMap, HashSet};

use ash::vk;

use crate::driver::image_layouts::{ImagePart, ImageParts};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::TransferCommand;
use crate::driver::transfer_queue::is_equal;

/// A range of a buffer in bytes; `WHOLE_SIZE` is up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferRange {
    pub(crate) buffer: vk::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Returns the ranges of buffers that a command uses, and whether it needs what they hold: bytes that it
/// overwrites all of it does not.
pub(crate) fn buffer_ranges(
    command: &TransferCommand,
) -> impl Iterator<Item = (BufferRange, bool)> {
    let range = |buffer, offset, size| BufferRange { buffer, offset, size };
    let parts = match *command {
        TransferCommand::FillBuffer { buffer, offset, size, .. } => {
            [Some((range(buffer, offset, size), false)), None]
        }
        TransferCommand::CopyBuffer { source, source_offset, target, target_offset, size } => [
            Some((range(source, source_offset, size), true)),
            Some((range(target, target_offset, size), false)),
        ],
        // Which bytes belong to texels depends on the format of the image.
        TransferCommand::CopyBufferToImage { buffer, .. }
        | TransferCommand::CopyImageToBuffer { buffer, .. } => {
            [Some((range(buffer, 0, vk::WHOLE_SIZE), true)), None]
        }
        TransferCommand::CopyImage { .. }
        | TransferCommand::BlitImage { .. }
        | TransferCommand::ClearImage { .. }
        | TransferCommand::TransitionImage { .. }
        | TransferCommand::Barrier => [None, None],
    };
    parts.into_iter().flatten()
}

/// Returns the resources that commands use, each once.
pub(crate) fn resources(commands: &[TransferCommand]) -> HashSet<ResourceHandle> {
    let mut found = HashSet::new();
    for command in commands {
        found.extend(buffer_ranges(command).map(|(it, _)| ResourceHandle::Buffer(it.buffer)));
        found.extend(command.images().into_iter().flatten().map(|it| ResourceHandle::Image(it.0)));
    }
    found
}

/// A part of an image, and the layout that it is in while it changes its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageRange {
    pub(crate) image: vk::Image,
    pub(crate) range: vk::ImageSubresourceRange,
    pub(crate) layout: vk::ImageLayout,
}

/// Parts that change their owner together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owned {
    pub(crate) buffers: Vec<BufferRange>,
    pub(crate) images: Vec<ImageRange>,
}

impl Owned {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.images.is_empty()
    }
}

/// The changes of owner around the commands of one submission.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ownership {
    /// Parts whose contents the commands need: they go to the other family before.
    pub(crate) there: Owned,
    /// All parts that the commands use: they come back afterwards.
    pub(crate) back: Owned,
}

/// What the commands use of one buffer: ranges as pairs of their first byte and the one behind their last.
#[derive(Default)]
struct Used {
    needed: Vec<(u64, u64)>,
    all: Vec<(u64, u64)>,
}

impl Ownership {
    /// Returns the changes for commands of which each part of an image is used as a whole
    /// ([`TransferQueue::can_do_all`](super::transfer_queue::TransferQueue::can_do_all)). Other resources than
    /// the exclusive ones have no owner.
    pub(crate) fn of(commands: &[TransferCommand], exclusive: &[ResourceHandle]) -> Self {
        let exclusive: HashSet<ResourceHandle> = exclusive.iter().copied().collect();
        let mut ownership = Self::default();
        if exclusive.is_empty() {
            return ownership;
        }
        let mut order = Vec::new();
        let mut buffers: HashMap<vk::Buffer, Used> = HashMap::new();
        for command in commands {
            for (BufferRange { buffer, offset, size }, is_needed) in buffer_ranges(command) {
                if !exclusive.contains(&ResourceHandle::Buffer(buffer)) {
                    continue;
                }
                let known = buffers.entry(buffer).or_insert_with(|| {
                    order.push(buffer);
                    Used::default()
                });
                let range = (offset, offset.saturating_add(size));
                known.all.push(range);
                if is_needed {
                    known.needed.push(range);
                }
            }
        }
        let is_barrier = |command: &TransferCommand| matches!(command, TransferCommand::Barrier);
        for group in commands.split(is_barrier) {
            for part in ImageParts::of(group).parts {
                if exclusive.contains(&ResourceHandle::Image(part.image)) {
                    ownership.add_image(&part);
                }
            }
        }
        for buffer in order {
            let Some(Used { needed, all }) = buffers.remove(&buffer) else { continue };
            for (ranges, to) in
                [(needed, &mut ownership.there.buffers), (all, &mut ownership.back.buffers)]
            {
                to.extend(merged(ranges).map(|(start, end)| BufferRange {
                    buffer,
                    offset: start,
                    size: end - start,
                }));
            }
        }
        ownership
    }

    fn add_image(&mut self, part: &ImagePart) {
        let ImagePart { image, range, old, .. } = *part;
        let layout = part.after();
        let is_same = |it: &&mut ImageRange| it.image == image && is_equal(&it.range, &range);
        match self.back.images.iter_mut().find(is_same) {
            Some(known) => known.layout = layout,
            None => {
                self.back.images.push(ImageRange { image, range, layout });
                // Contents that are discarded need not be kept.
                if old != vk::ImageLayout::UNDEFINED {
                    self.there.images.push(ImageRange { image, range, layout: old });
                }
            }
        }
    }
}

/// Returns ranges in ascending order, with those that meet or overlap as one.
pub(crate) fn merged(mut ranges: Vec<(u64, u64)>) -> impl Iterator<Item = (u64, u64)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let meets = next.0 <= last.1;
        if meets {
            last.1 = last.1.max(next.1);
        }
        meets
    });
    ranges.into_iter()
}

#[cfg(test)]
mod tests {
    use ash::vk::Handle;

    use super::*;
    use crate::driver::submission::{LayoutChange, first_texels};

    fn buffer(number: u64) -> vk::Buffer {
        vk::Buffer::from_raw(number)
    }

    fn copy(source: (u64, u64), target: (u64, u64), size: u64) -> TransferCommand {
        TransferCommand::CopyBuffer {
            source: buffer(source.0),
            source_offset: source.1,
            target: buffer(target.0),
            target_offset: target.1,
            size,
        }
    }

    fn ranges(owned: &[BufferRange]) -> Vec<(u64, u64, u64)> {
        owned.iter().map(|it| (it.buffer.as_raw(), it.offset, it.size)).collect()
    }

    #[test]
    fn what_is_overwritten_only_comes_back() {
        let commands = [
            copy((1, 0), (2, 64), 32),
            copy((1, 32), (2, 96), 32),
            copy((1, 500), (3, 0), 8),
            TransferCommand::Barrier,
            copy((2, 200), (3, 8), 8),
        ];
        let exclusive = [1, 2].map(|it| ResourceHandle::Buffer(buffer(it)));
        let ownership = Ownership::of(&commands, &exclusive);
        assert_eq!(ranges(&ownership.there.buffers), [(1, 0, 64), (1, 500, 8), (2, 200, 8)]);
        assert_eq!(
            ranges(&ownership.back.buffers),
            [(1, 0, 64), (1, 500, 8), (2, 64, 64), (2, 200, 8)]
        );
        let nothing = Ownership::of(&commands, &[]);
        assert!(nothing.there.is_empty() && nothing.back.is_empty());
    }

    #[test]
    fn an_image_comes_back_in_its_last_layout() {
        let image = vk::Image::from_raw(9);
        let region = first_texels(0, vk::Extent3D { width: 4, height: 4, depth: 1 });
        let upload = |old, new| TransferCommand::CopyBufferToImage {
            buffer: buffer(1),
            image,
            region,
            layouts: LayoutChange { old, ..LayoutChange::kept(&region, new) },
        };
        use vk::ImageLayout as L;
        let exclusive = [ResourceHandle::Image(image)];
        let new = [
            upload(L::UNDEFINED, L::GENERAL),
            TransferCommand::Barrier,
            upload(L::GENERAL, L::SHADER_READ_ONLY_OPTIMAL),
        ];
        let ownership = Ownership::of(&new, &exclusive);
        assert!(ownership.there.is_empty());
        assert_eq!(ownership.back.images.len(), 1);
        assert_eq!(ownership.back.images[0].layout, L::SHADER_READ_ONLY_OPTIMAL);
        let ownership = Ownership::of(&[upload(L::GENERAL, L::UNDEFINED)], &exclusive);
        assert_eq!(ownership.there.images[0].layout, L::GENERAL);
        assert_eq!(ownership.back.images[0].layout, L::TRANSFER_DST_OPTIMAL);
    }
}
