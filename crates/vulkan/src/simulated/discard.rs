//! Contents of images that a transition from `UNDEFINED` discards.

use ash::vk::{self, Handle};

use crate::driver::image_layouts::ImagePart;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::resources::Resource;
use crate::simulated::rules::ImageShape;
use crate::simulated::surface::{Surface, aspects_of};

/// What discarded bytes are overwritten with, so that a program that needs them sees that they are gone.
const GONE: u8 = 0xDB;

impl Resource<ImageShape> {
    /// Returns the layers, levels and aspects of a part that have contents, each with the number of its layer.
    fn with_contents(&self, part: &ImagePart) -> Vec<(Surface, u32)> {
        let shape = &self.shape;
        let disjoint = shape.flags.contains(vk::ImageCreateFlags::DISJOINT);
        let mut found = Vec::new();
        for subresource in self.subresources(&part.range) {
            let (plane, level, layer) = subresource;
            let never = [vk::ImageLayout::UNDEFINED, vk::ImageLayout::PREINITIALIZED];
            if never.contains(&self.layout(subresource)) {
                continue;
            }
            let aspects = aspects_of(shape.format);
            for aspect in aspects.filter(|it| !disjoint || self.layout_plane(*it) == plane) {
                let bound = self.bound_at(aspect);
                let surface = bound.and_then(|at| Surface::of(shape, at, aspect, level).ok());
                found.extend(surface.map(|surface| (surface, layer)));
            }
        }
        found
    }
}

impl SimulatedDriver {
    /// Overwrites what a part of an image contains if its transition discards that.
    pub(super) fn discard(&self, part: &ImagePart) {
        if part.old != vk::ImageLayout::UNDEFINED {
            return;
        }
        let images = self.images.lock();
        let found = images.get(part.image.as_raw()).map(|found| found.with_contents(part));
        drop(images);
        for (surface, layer) in found.unwrap_or_default() {
            let block = surface.texels.block;
            let columns = u64::from(surface.extent.width.div_ceil(block.width));
            for slice in 0..surface.extent.depth {
                for row in 0..surface.extent.height.div_ceil(block.height) {
                    let at = surface.row_at(layer.into(), slice.into(), row.into());
                    self.device.device_fill(surface.memory, at, columns * surface.block, &[GONE]);
                }
            }
        }
    }
}
