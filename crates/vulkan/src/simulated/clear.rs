//! Clears of images on the simulated queue.

use ash::vk::{self, Handle};
use vkmem_engine::MemoryRange;

use crate::driver::submission::ClearValue;
use crate::driver::texel;
use crate::simulated::codec::{Codec, Kind};
use crate::simulated::driver::SimulatedDriver;
use crate::simulated::hazards::Access;
use crate::simulated::image_copy::WRITTEN;
use crate::simulated::surface::{Surface, aspects_of};
use crate::simulated::work::{Plan, Row, Work};

impl SimulatedDriver {
    /// Plans a clear. `Err` names the violation of Vulkan's rules.
    pub(super) fn plan_clear(
        &self,
        image: vk::Image,
        value: ClearValue,
        range: &vk::ImageSubresourceRange,
    ) -> Result<Plan, String> {
        let named = |what: String| format!("image {:#x}: {what}", image.as_raw());
        let needed = match value {
            ClearValue::Colour(_) => vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE,
            ClearValue::DepthStencil { .. } => vk::QueueFlags::GRAPHICS,
        };
        if !self.flags_of_queue().intersects(needed) {
            return Err(named(format!("a clear on a queue without {needed:?}")));
        }
        let (format, subresources) = {
            let images = self.images.lock();
            let found = images.get(image.as_raw()).map_err(named)?;
            (found.shape.format, found.subresources(range))
        };
        let (mut rows, mut accesses) = (Vec::new(), Vec::new());
        for (_, mip_level, base_array_layer) in subresources {
            for aspect_mask in aspects_of(format).filter(|it| range.aspect_mask.contains(*it)) {
                let layers = vk::ImageSubresourceLayers {
                    aspect_mask,
                    mip_level,
                    base_array_layer,
                    layer_count: 1,
                };
                let part = self.layers_of(image, layers, WRITTEN)?;
                let texel = texel_of(&part.surface, aspect_mask, value).map_err(named)?;
                let part = part
                    .with_texels(vk::Offset3D::default(), part.surface.extent)
                    .map_err(named)?;
                let size = part.counts[0] * part.surface.block;
                for sheet in 0..part.sheets() {
                    for row in 0..part.counts[1] {
                        let (memory, offset) = (part.surface.memory, part.row_at(sheet, row));
                        let range = MemoryRange { memory, offset, size };
                        rows.push(Row { range, texel: texel.clone() });
                    }
                }
                accesses.push(Access::texels(part, true));
            }
        }
        if rows.is_empty() {
            return Err(named(format!("a clear of {:?}, which it has not", range.aspect_mask)));
        }
        Ok(Plan { work: Work::Clear(rows), accesses })
    }
}

/// Returns the bytes of a texel with all its samples.
fn texel_of(
    surface: &Surface,
    aspect: vk::ImageAspectFlags,
    value: ClearValue,
) -> Result<Vec<u8>, String> {
    let format = surface.shape.format;
    let mut texel = vec![0; surface.texels.stored as usize];
    match value {
        ClearValue::Colour(bits) if texel::aspects(format) == vk::ImageAspectFlags::COLOR => {
            let codec = Codec::of(format);
            let encoded = codec.and_then(|codec| {
                let number = |bits: u32| match codec.kind() {
                    Kind::Float => f32::from_bits(bits).into(),
                    Kind::Uint => bits.into(),
                    Kind::Sint => bits.cast_signed().into(),
                };
                codec.encode(bits.map(number), &mut texel)
            });
            encoded.ok_or_else(|| format!("a clear of {format:?}, which is not simulated"))?;
        }
        ClearValue::DepthStencil { depth, .. } if aspect == vk::ImageAspectFlags::DEPTH => {
            if !(0.0..=1.0).contains(&depth) {
                return Err(format!("a clear to depth {depth}, not from 0 to 1"));
            }
            let is_float =
                matches!(format, vk::Format::D32_SFLOAT | vk::Format::D32_SFLOAT_S8_UINT);
            let bits = 8 * surface.texels.used;
            let most = u64::MAX >> (64 - bits);
            let stored = match is_float {
                true => depth.to_bits(),
                false => (f64::from(depth) * most as f64).round() as u32,
            };
            let used = surface.texels.used as usize;
            texel[..used].copy_from_slice(&stored.to_le_bytes()[..used]);
        }
        ClearValue::DepthStencil { stencil, .. } if aspect == vk::ImageAspectFlags::STENCIL => {
            texel[0] = stencil as u8;
        }
        _ => return Err(format!("a clear of {aspect:?} of {format:?} to {value:?}")),
    }
    Ok(texel.repeat(surface.shape.samples.as_raw() as usize))
}
