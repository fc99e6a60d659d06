//! What commands do to images, and the layouts that these find and leave.

use std::collections::HashMap;
use std::sync::Arc;

use crate::driver::submission::{LayoutChange, TransferCommand};
use crate::driver::transfer_queue::Sharing;
use crate::transfer::layout::TrackedLayout;
use crate::transfer::region::ImageRegion;
use ash::vk;

/// An image that commands use, and the layouts that they leave it in.
#[derive(Clone, Debug)]
pub struct UsedImage {
    /// Live until the transfer has ended.
    pub image: vk::Image,
    /// Its memory may be that of another resource as well.
    pub is_shared: bool,
    /// Which queues may use it.
    pub sharing: Sharing,
    /// All its subresources, with each aspect that a barrier has to name.
    pub range: vk::ImageSubresourceRange,
    /// Its layout when the commands are submitted.
    pub layout: Arc<TrackedLayout>,
    /// The layout that it is left in; without one that which it was in.
    pub leave: Option<vk::ImageLayout>,
    /// The layout that it is left in if it was in one that no image can be brought into.
    pub otherwise: vk::ImageLayout,
}

/// Texels of an image that a transfer copies.
#[derive(Clone, Debug)]
pub struct ImagePart {
    /// The image.
    pub image: UsedImage,
    /// The texels.
    pub region: ImageRegion,
}

/// A command of a batch that uses an image.
#[derive(Debug)]
pub(super) struct ImageCommand {
    /// Its place among the commands of the batch.
    pub(super) at: usize,
    pub(super) image: UsedImage,
    /// It needs the contents that the image has.
    pub(super) reads: bool,
}

/// A chain of mip levels, each of which becomes the one before at half the size.
#[derive(Clone, Debug)]
pub struct MipChain {
    /// The image.
    pub image: UsedImage,
    /// The aspect to filter.
    pub aspect: vk::ImageAspectFlags,
    /// Sides of the first level in texels.
    pub extent: vk::Extent3D,
    /// Its levels; 2 at least.
    pub mip_levels: u32,
    /// Its array layers.
    pub array_layers: u32,
    /// How texels are averaged.
    pub filter: vk::Filter,
}

impl MipChain {
    pub(super) fn part(&self, mip_level: u32) -> vk::ImageSubresourceLayers {
        let (base_array_layer, layer_count) = (0, self.array_layers);
        let aspect_mask = self.aspect;
        vk::ImageSubresourceLayers { aspect_mask, mip_level, base_array_layer, layer_count }
    }

    fn corners(&self, mip_level: u32) -> [vk::Offset3D; 2] {
        let side = |length: u32| (length >> mip_level).max(1).cast_signed();
        let vk::Extent3D { width, height, depth } = self.extent;
        let end = vk::Offset3D { x: side(width), y: side(height), z: side(depth) };
        [vk::Offset3D::default(), end]
    }

    /// The blit that makes a level of the one before.
    pub(super) fn blit(&self, mip_level: u32) -> TransferCommand {
        let region = vk::ImageBlit {
            src_subresource: self.part(mip_level - 1),
            src_offsets: self.corners(mip_level - 1),
            dst_subresource: self.part(mip_level),
            dst_offsets: self.corners(mip_level),
        };
        let layouts = |level: u32| {
            let base_mip_level = level;
            let range =
                vk::ImageSubresourceRange { base_mip_level, level_count: 1, ..self.image.range };
            LayoutChange { range, ..LayoutChange::of_new_image(self.image.otherwise) }
        };
        TransferCommand::BlitImage {
            source: self.image.image,
            target: self.image.image,
            region,
            filter: self.filter,
            source_layouts: layouts(mip_level - 1),
            target_layouts: layouts(mip_level),
        }
    }
}

/// Texels that a command uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touched {
    pub(super) part: vk::ImageSubresourceLayers,
    pub(super) is_written: bool,
    pub(super) leave: Option<vk::ImageLayout>,
    /// Address of the job, of which no two parts meet.
    pub(super) job: usize,
    /// It uses the whole image, in several layouts.
    pub(super) is_alone: bool,
}

impl Touched {
    pub(super) fn meets(&self, other: &Self) -> bool {
        // All commands between two barriers find and leave the whole image in one layout.
        if self.is_alone
            || other.is_alone
            || self.is_written != other.is_written
            || self.leave != other.leave
        {
            return true;
        }
        let (one, two) = (&self.part, &other.part);
        self.is_written
            && self.job != other.job
            && one.aspect_mask.intersects(two.aspect_mask)
            && one.mip_level == two.mip_level
            && one.base_array_layer < two.base_array_layer + two.layer_count
            && two.base_array_layer < one.base_array_layer + one.layer_count
    }
}

/// What the commands of a batch do to images.
#[derive(Debug, Default)]
pub(super) struct ImageCommands {
    pub(super) all: Vec<ImageCommand>,
    /// What was used since the last barrier.
    pub(super) touched: HashMap<vk::Image, Vec<Touched>>,
}

impl ImageCommands {
    /// A barrier was recorded.
    pub(super) fn forget_touched(&mut self) {
        self.touched.clear();
    }
}

/// Whether an image can only leave a layout.
pub(super) fn is_initial(layout: vk::ImageLayout) -> bool {
    matches!(layout, vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED)
}

impl UsedImage {
    /// The layout that it is left in.
    pub fn after(&self, before: vk::ImageLayout) -> vk::ImageLayout {
        let kept = if is_initial(before) { self.otherwise } else { before };
        self.leave.unwrap_or(kept)
    }

    pub(super) fn key(&self) -> usize {
        Arc::as_ptr(&self.layout).addr()
    }
}
