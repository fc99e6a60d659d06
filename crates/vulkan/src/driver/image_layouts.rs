//! The layouts that parts of images have before, during and after commands that are independent of each other.

use std::collections::HashMap;

use ash::vk;

use crate::driver::submission::{ImageUse, TransferCommand};

/// A part of an image that commands use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImagePart {
    pub(crate) image: vk::Image,
    pub(crate) range: vk::ImageSubresourceRange,
    pub(crate) old: vk::ImageLayout,
    /// While the commands run.
    pub(crate) during: vk::ImageLayout,
    /// `None`: the same as meanwhile.
    new: Option<vk::ImageLayout>,
}

impl ImagePart {
    /// Returns the layout after the commands.
    pub(crate) fn after(&self) -> vk::ImageLayout {
        self.new.unwrap_or(self.during)
    }
}

/// What identifies a part, as all parts of an image are disjoint.
type Key = (vk::Image, vk::ImageAspectFlags, u32, u32);

fn key(image: vk::Image, range: &vk::ImageSubresourceRange) -> Key {
    (image, range.aspect_mask, range.base_mip_level, range.base_array_layer)
}

/// The parts of images that the commands between two barriers use, each once, however many commands use it.
#[derive(Debug, Default)]
pub(crate) struct ImageParts {
    pub(crate) parts: Vec<ImagePart>,
    index: HashMap<Key, usize>,
}

impl ImageParts {
    /// Returns the parts of commands without a barrier between them, in the order of their first use. The first
    /// use of a part says its layouts before and after.
    pub(crate) fn of(group: &[TransferCommand]) -> Self {
        let mut found = Self::default();
        let users = group.iter().filter(|it| it.has_images());
        for (image, of_use, layouts) in users.flat_map(TransferCommand::images).flatten() {
            let during = match of_use {
                ImageUse::Read => vk::ImageLayout::TRANSFER_SRC_OPTIMAL,
                ImageUse::Write => vk::ImageLayout::TRANSFER_DST_OPTIMAL,
                ImageUse::Transition if layouts.is_final() => layouts.new,
                ImageUse::Transition => continue,
            };
            let known = found.index.entry(key(image, &layouts.range)).or_insert(found.parts.len());
            if let Some(part) = found.parts.get_mut(*known) {
                if part.during != during {
                    part.during = vk::ImageLayout::GENERAL;
                }
                continue;
            }
            let new = layouts.is_final().then_some(layouts.new);
            let (range, old) = (layouts.range, layouts.old);
            found.parts.push(ImagePart { image, range, old, during, new });
        }
        found
    }

    /// Returns the index of a part.
    pub(crate) fn index_of(
        &self,
        image: vk::Image,
        range: &vk::ImageSubresourceRange,
    ) -> Option<usize> {
        self.index.get(&key(image, range)).copied()
    }

    /// Returns a part.
    pub(crate) fn part(
        &self,
        image: vk::Image,
        range: &vk::ImageSubresourceRange,
    ) -> Option<&ImagePart> {
        self.index_of(image, range).map(|index| &self.parts[index])
    }

    /// Returns the layout that a part is in while the commands run.
    pub(crate) fn during(
        &self,
        image: vk::Image,
        range: &vk::ImageSubresourceRange,
    ) -> vk::ImageLayout {
        self.part(image, range).map_or(vk::ImageLayout::UNDEFINED, |part| part.during)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::submission::LayoutChange;

    #[test]
    fn a_part_that_is_read_and_written_is_general_meanwhile() {
        let image = ash::vk::Handle::from_raw(7);
        let of = |level: u32| {
            let mut layouts = LayoutChange::of_new_image(vk::ImageLayout::GENERAL);
            layouts.range.base_mip_level = level;
            layouts
        };
        let copy = |from: u32, to: u32| TransferCommand::CopyImage {
            source: image,
            target: image,
            region: vk::ImageCopy::default(),
            source_layouts: of(from),
            target_layouts: of(to),
        };
        let parts = ImageParts::of(&[copy(0, 0), copy(1, 2)]);
        let during: Vec<_> = parts.parts.iter().map(|it| it.during).collect();
        use vk::ImageLayout as L;
        assert_eq!(during, [L::GENERAL, L::TRANSFER_SRC_OPTIMAL, L::TRANSFER_DST_OPTIMAL]);
        assert_eq!(parts.during(image, &of(2).range), L::TRANSFER_DST_OPTIMAL);
    }

    #[test]
    fn a_layout_that_no_image_can_be_put_into_is_not_taken() {
        let image = ash::vk::Handle::from_raw(7);
        let mut layouts = LayoutChange::of_new_image(vk::ImageLayout::UNDEFINED);
        let nothing = ImageParts::of(&[TransferCommand::TransitionImage { image, layouts }]);
        assert!(nothing.parts.is_empty());
        let download = TransferCommand::CopyImageToBuffer {
            image,
            buffer: vk::Buffer::null(),
            region: vk::BufferImageCopy::default(),
            layouts,
        };
        let part = ImageParts::of(&[download]).parts[0];
        assert_eq!(part.after(), vk::ImageLayout::TRANSFER_SRC_OPTIMAL);
        layouts.new = vk::ImageLayout::GENERAL;
        let moved = ImageParts::of(&[TransferCommand::TransitionImage { image, layouts }]).parts[0];
        assert_eq!(
            (moved.during, moved.after()),
            (vk::ImageLayout::GENERAL, vk::ImageLayout::GENERAL)
        );
    }
}
