//! What Vulkan allows of blits on the simulated queue.

use ash::vk::{self, Handle};

use crate::simulated::blit::{Axis, Blit};
use crate::simulated::codec::Codec;
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::hazards::Access;
use crate::simulated::image_copy::{READ, WRITTEN, pairs};
use crate::simulated::layers::Needs;
use crate::simulated::surface::{Part, Surface};
use crate::simulated::work::{Plan, Work};

impl SimulatedDriver {
    /// Plans a blit. `Err` names the violation of Vulkan's rules.
    pub(super) fn plan_blit(
        &self,
        source: vk::Image,
        target: vk::Image,
        region: &vk::ImageBlit,
        filter: vk::Filter,
    ) -> Result<Plan, String> {
        if !self.flags_of_queue().contains(vk::QueueFlags::GRAPHICS) {
            return Err("a blit on a queue without GRAPHICS".into());
        }
        let mut reads = vk::FormatFeatureFlags::BLIT_SRC;
        match filter {
            vk::Filter::NEAREST => {}
            vk::Filter::LINEAR => reads |= vk::FormatFeatureFlags::SAMPLED_IMAGE_FILTER_LINEAR,
            other => return Err(format!("a blit with filter {other:?}")),
        }
        let (mut blits, mut accesses) = (Vec::new(), Vec::new());
        let (one, two) = (region.src_subresource, region.dst_subresource);
        if one.aspect_mask != two.aspect_mask {
            let (one, two) = (one.aspect_mask, two.aspect_mask);
            return Err(format!("a blit from {one:?} to {two:?}"));
        }
        if one.layer_count != two.layer_count {
            let (one, two) = (one.layer_count, two.layer_count);
            return Err(format!("a blit of {one} layers to {two}"));
        }
        for (from, to) in pairs(one, two)? {
            let from = self.layers_of(source, from, Needs { feature: reads, ..READ })?;
            let written = vk::FormatFeatureFlags::BLIT_DST;
            let to = self.layers_of(target, to, Needs { feature: written, ..WRITTEN })?;
            for part in [&from, &to] {
                if part.surface.shape.samples != vk::SampleCountFlags::TYPE_1 {
                    let handle = part.image.as_raw();
                    return Err(format!("image {handle:#x}: has more than one sample"));
                }
            }
            let codecs = codecs(&from, &to, filter)?;
            let axes = axes(&from.surface, &to.surface, region)?;
            let source_boxes = axes.map(|axis| axis.source_box());
            let from = Part {
                first: source_boxes.map(|it| it.0),
                counts: source_boxes.map(|(start, end)| end - start),
                ..from
            };
            let to = Part { first: axes.map(|it| it.first), counts: axes.map(|it| it.count), ..to };
            if from.overlaps(&to) {
                let handle = source.as_raw();
                return Err(format!(
                    "image {handle:#x}: the source of the blit overlaps its target"
                ));
            }
            blits.push(Blit {
                source: from.surface,
                target: to.surface,
                source_layer: from.base_layer.into(),
                target_layer: to.base_layer.into(),
                layers: from.layers.into(),
                axes,
                filter,
                codecs,
            });
            accesses.extend([Access::texels(from, false), Access::texels(to, true)]);
        }
        Ok(Plan { work: Work::Blit(blits), accesses })
    }
}

fn axes(source: &Surface, target: &Surface, region: &vk::ImageBlit) -> Result<[Axis; 3], String> {
    let ([from, from_end], [to, to_end]) = (region.src_offsets, region.dst_offsets);
    let (one, two) = (source.extent, target.extent);
    Ok([
        Axis::of((from.x, from_end.x), (to.x, to_end.x), one.width, two.width)?,
        Axis::of((from.y, from_end.y), (to.y, to_end.y), one.height, two.height)?,
        Axis::of((from.z, from_end.z), (to.z, to_end.z), one.depth, two.depth)?,
    ])
}

/// Returns how texels are converted; `None` where their bytes are copied.
fn codecs(from: &Part, to: &Part, filter: vk::Filter) -> Result<Option<(Codec, Codec)>, String> {
    let (one, two) = (from.surface.shape.format, to.surface.shape.format);
    if from.aspect != vk::ImageAspectFlags::COLOR {
        if one != two || filter != vk::Filter::NEAREST {
            return Err(format!("a blit from {one:?} to {two:?} with filter {filter:?}"));
        }
        return Ok(None);
    }
    if one == two && filter == vk::Filter::NEAREST {
        return Ok(None);
    }
    let codecs = Codec::of(one).zip(Codec::of(two));
    match codecs {
        Some((first, second)) if first.kind() == second.kind() => Ok(codecs),
        _ => Err(format!("a blit from {one:?} to {two:?}, which are numbers of different kinds")),
    }
}
