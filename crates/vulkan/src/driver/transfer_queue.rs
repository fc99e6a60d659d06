//! [`TransferQueue`]: the second queue of a device, and the commands that it can carry out.

use std::collections::HashMap;

use ash::vk;

use crate::driver::submission::{ClearValue, LayoutChange, TransferCommand};

/// A queue beside the main one, mostly of a family that can copy and do nothing else: the copy engine of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferQueue {
    /// Index of its family.
    pub family_index: u32,
    /// Index of the family of the device's main queue.
    pub main_family_index: u32,
    /// `VkQueueFamilyProperties.queueFlags` of its family.
    pub flags: vk::QueueFlags,
    /// `VkQueueFamilyProperties.minImageTransferGranularity` of its family.
    pub granularity: vk::Extent3D,
    /// Whether it may fill buffers whatever its flags: since Vulkan 1.1, or with `VK_KHR_maintenance1`.
    pub fills: bool,
    /// Whether the feature `maintenance9` is enabled: then only images change their owner.
    pub buffers_have_no_owner: bool,
}

/// Which queues may use a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Each one, but the owner changes: `SHARING_MODE_EXCLUSIVE`.
    Exclusive,
    /// Each one: `SHARING_MODE_CONCURRENT` over the families of both queues.
    Concurrent,
    /// The main one only: it is shared by other families, or that is not known.
    #[default]
    MainQueueOnly,
}

impl Sharing {
    /// Returns the sharing of a resource from a set of queue families, of which bit i is the family of index i,
    /// and the highest bit stands for all others; empty for an exclusive resource.
    pub fn of_families(families: u16, queue: &TransferQueue) -> Self {
        let has = |index: u32| index < 15 && families & (1 << index) != 0;
        match families {
            0 => Self::Exclusive,
            _ if has(queue.family_index) && has(queue.main_family_index) => Self::Concurrent,
            _ => Self::MainQueueOnly,
        }
    }
}

/// A granularity that restricts nothing. Each family with graphics or compute has it.
const ANY_TEXEL: vk::Extent3D = vk::Extent3D { width: 1, height: 1, depth: 1 };

const DEPTH_OR_STENCIL: vk::ImageAspectFlags = vk::ImageAspectFlags::from_raw(
    vk::ImageAspectFlags::DEPTH.as_raw() | vk::ImageAspectFlags::STENCIL.as_raw(),
);

impl TransferQueue {
    /// Returns whether an exclusive resource changes its owner between the two queues.
    pub fn is_of_another_family(&self) -> bool {
        self.family_index != self.main_family_index
    }

    /// Returns whether the queue can carry out a command.
    pub fn can_do(&self, command: &TransferCommand) -> bool {
        match command {
            TransferCommand::Barrier | TransferCommand::CopyBuffer { .. } => true,
            TransferCommand::FillBuffer { .. } => self.fills || self.computes(),
            TransferCommand::CopyBufferToImage { region, .. }
            | TransferCommand::CopyImageToBuffer { region, .. } => {
                // Until `VK_KHR_maintenance11`, which ash does not know.
                let is_aligned = self.computes() || region.buffer_offset.is_multiple_of(4);
                is_aligned && self.can_use_images(command, region.image_subresource.aspect_mask)
            }
            TransferCommand::CopyImage { region, .. } => {
                let aspects =
                    region.src_subresource.aspect_mask | region.dst_subresource.aspect_mask;
                self.can_use_images(command, aspects)
            }
            TransferCommand::BlitImage { region, .. } => {
                let aspects =
                    region.src_subresource.aspect_mask | region.dst_subresource.aspect_mask;
                self.draws() && self.can_use_images(command, aspects)
            }
            TransferCommand::ClearImage { value, layouts, .. } => {
                let is_able = match value {
                    ClearValue::Colour(_) => self.computes(),
                    ClearValue::DepthStencil { .. } => self.draws(),
                };
                is_able && self.can_use_images(command, layouts.range.aspect_mask)
            }
            TransferCommand::TransitionImage { layouts, .. } => {
                self.can_use_images(command, layouts.range.aspect_mask)
            }
        }
    }

    fn draws(&self) -> bool {
        self.flags.contains(vk::QueueFlags::GRAPHICS)
    }

    fn computes(&self) -> bool {
        self.flags.intersects(vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE)
    }

    /// Returns whether the queue can use the aspects of the images of a command.
    fn can_use_images(&self, command: &TransferCommand, aspects: vk::ImageAspectFlags) -> bool {
        // No image can be transitioned to `PREINITIALIZED`, as the change of its owner would have to.
        let is_of_host = command
            .images()
            .iter()
            .flatten()
            .any(|(_, _, layouts)| layouts.old == vk::ImageLayout::PREINITIALIZED);
        let changes_owner = !is_of_host || !self.is_of_another_family();
        let takes_aspects = self.draws() || !aspects.intersects(DEPTH_OR_STENCIL);
        // Whether a region reaches the edges of its image, as a coarser granularity demands, is not known here.
        changes_owner && takes_aspects && self.granularity == ANY_TEXEL
    }

    /// Returns whether the queue can carry out all commands of one submission. Parts of an image that overlap
    /// without being equal are left to the main queue: no single layout can be named for the change of their
    /// owner.
    pub fn can_do_all(&self, commands: &[TransferCommand]) -> bool {
        let mut ranges: HashMap<vk::Image, Vec<vk::ImageSubresourceRange>> = HashMap::new();
        for command in commands {
            if !self.can_do(command) {
                return false;
            }
            for (image, _, LayoutChange { range, .. }) in command.images().into_iter().flatten() {
                let known = ranges.entry(image).or_default();
                if known.iter().any(|it| is_equal(it, &range)) {
                    continue;
                }
                if known.iter().any(|it| overlaps(it, &range)) {
                    return false;
                }
                known.push(range);
            }
        }
        true
    }
}

/// Compares ranges by what they say: `REMAINING_MIP_LEVELS` is no number of levels.
pub(crate) fn is_equal(one: &vk::ImageSubresourceRange, other: &vk::ImageSubresourceRange) -> bool {
    let key = |it: &vk::ImageSubresourceRange| {
        (it.aspect_mask, it.base_mip_level, it.level_count, it.base_array_layer, it.layer_count)
    };
    key(one) == key(other)
}

fn overlaps(one: &vk::ImageSubresourceRange, other: &vk::ImageSubresourceRange) -> bool {
    // "Remaining" is the largest number.
    let meet = |(start, count): (u32, u32), (other, others): (u32, u32)| {
        start < other.saturating_add(others) && other < start.saturating_add(count)
    };
    let levels = |it: &vk::ImageSubresourceRange| (it.base_mip_level, it.level_count);
    let layers = |it: &vk::ImageSubresourceRange| (it.base_array_layer, it.layer_count);
    one.aspect_mask.intersects(other.aspect_mask)
        && meet(levels(one), levels(other))
        && meet(layers(one), layers(other))
}

#[cfg(test)]
mod tests {
    use ash::vk::Handle;

    use super::*;
    use crate::driver::submission::first_texels;

    const COPIES: TransferQueue = TransferQueue {
        family_index: 1,
        main_family_index: 0,
        flags: vk::QueueFlags::TRANSFER,
        granularity: ANY_TEXEL,
        fills: true,
        buffers_have_no_owner: false,
    };

    fn upload(offset: u64, change: impl FnOnce(&mut vk::BufferImageCopy)) -> TransferCommand {
        let mut region = first_texels(offset, vk::Extent3D { width: 4, height: 4, depth: 1 });
        change(&mut region);
        TransferCommand::CopyBufferToImage {
            buffer: vk::Buffer::from_raw(1),
            image: vk::Image::from_raw(2),
            region,
            layouts: LayoutChange::kept(&region, vk::ImageLayout::GENERAL),
        }
    }

    fn colour(offset: u64) -> TransferCommand {
        upload(offset, |_| {})
    }

    #[test]
    fn a_copy_engine_does_what_vulkan_lets_it_do() {
        let stencil = upload(0, |it| {
            it.image_subresource.aspect_mask = vk::ImageAspectFlags::STENCIL;
        });
        assert!(COPIES.can_do(&colour(0)) && COPIES.can_do(&colour(4)));
        assert!(!COPIES.can_do(&colour(2)) && !COPIES.can_do(&stencil));
        let computes = TransferQueue { flags: vk::QueueFlags::COMPUTE, ..COPIES };
        assert!(computes.can_do(&colour(2)) && !computes.can_do(&stencil));
        let draws = TransferQueue { flags: vk::QueueFlags::GRAPHICS, ..COPIES };
        assert!(draws.can_do(&stencil));
        for (width, height, depth) in [(0, 0, 0), (16, 16, 8)] {
            let granularity = vk::Extent3D { width, height, depth };
            assert!(!TransferQueue { granularity, ..COPIES }.can_do(&colour(0)));
        }
        let fill = TransferCommand::FillBuffer {
            buffer: vk::Buffer::from_raw(1),
            offset: 0,
            size: 4,
            value: 0,
        };
        assert!(COPIES.can_do(&fill));
        assert!(!TransferQueue { fills: false, ..COPIES }.can_do(&fill));
        assert!(TransferQueue { fills: false, ..computes }.can_do(&fill));
    }

    #[test]
    fn a_resource_that_one_of_the_families_may_not_use_stays_on_the_main_queue() {
        let of = |families| Sharing::of_families(families, &COPIES);
        assert_eq!(of(0), Sharing::Exclusive);
        assert_eq!((of(0b11), of(0b111)), (Sharing::Concurrent, Sharing::Concurrent));
        assert_eq!((of(0b101), of(0b110)), (Sharing::MainQueueOnly, Sharing::MainQueueOnly));
        let far = TransferQueue { family_index: 15, ..COPIES };
        assert_eq!(Sharing::of_families(u16::MAX, &far), Sharing::MainQueueOnly);
    }

    #[test]
    fn an_image_that_the_host_initialised_keeps_its_owner() {
        let TransferCommand::CopyBufferToImage { buffer, image, region, .. } = colour(0) else {
            unreachable!("made above")
        };
        let layouts = LayoutChange {
            new: vk::ImageLayout::GENERAL,
            ..LayoutChange::kept(&region, vk::ImageLayout::PREINITIALIZED)
        };
        let command = TransferCommand::CopyBufferToImage { buffer, image, region, layouts };
        assert!(!COPIES.can_do(&command));
        assert!(TransferQueue { family_index: 0, ..COPIES }.can_do(&command));
    }

    #[test]
    fn parts_of_an_image_that_overlap_stay_on_the_main_queue() {
        let level = |level| upload(0, |it| it.image_subresource.mip_level = level);
        assert!(COPIES.can_do_all(&[level(0), level(1), TransferCommand::Barrier, level(0)]));
        let whole = match level(0) {
            TransferCommand::CopyBufferToImage { buffer, image, region, .. } => {
                let layouts = LayoutChange::of_new_image(vk::ImageLayout::GENERAL);
                TransferCommand::CopyBufferToImage { buffer, image, region, layouts }
            }
            other => other,
        };
        assert!(COPIES.can_do_all(&[whole, TransferCommand::Barrier, whole]));
        assert!(!COPIES.can_do_all(&[whole, TransferCommand::Barrier, level(1)]));
        assert!(!COPIES.can_do_all(&[level(0), colour(2)]));
    }
}
