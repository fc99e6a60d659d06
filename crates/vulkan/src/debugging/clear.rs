//! The value that a clear of an image takes, so that its texels hold a byte.

use ash::vk::{self, Format, ImageAspectFlags};

use crate::driver::contract::Driver;
use crate::driver::submission::ClearValue;
use crate::driver::texel::{self, NumericFormat};

const NOT_CLEARED: &str = "images of its format cannot be cleared, and nothing else may be bound to its memory \
     (VkMemoryDedicatedAllocateInfo)";
const WRONG_QUEUE: &str = "the device's queue cannot clear images of its format";

/// Returns the value whose texels consist of a byte, as far as the format allows; a depth is the byte divided by
/// 255. `Err` says why no image of this kind can be cleared.
pub(super) fn clear_value(
    driver: &dyn Driver,
    (format, tiling): (Format, vk::ImageTiling),
    byte: u8,
) -> Result<ClearValue, &'static str> {
    let features = driver.format_features(format, tiling);
    let aspects = texel::aspects(format);
    let flags = driver.queue_flags();
    if aspects.intersects(ImageAspectFlags::DEPTH | ImageAspectFlags::STENCIL) {
        let is_able = flags.contains(vk::QueueFlags::GRAPHICS);
        let (depth, stencil) = (f32::from(byte) / 255.0, u32::from(byte));
        return match is_able {
            true => Ok(ClearValue::DepthStencil { depth, stencil }),
            false => Err(WRONG_QUEUE),
        };
    }
    // Known for those before Vulkan 1.1, too: a format that is an attachment or that is sampled can be cleared.
    let may_be_written = features.intersects(
        vk::FormatFeatureFlags::TRANSFER_DST | vk::FormatFeatureFlags::COLOR_ATTACHMENT,
    );
    let value = (aspects == ImageAspectFlags::COLOR && may_be_written)
        .then(|| colour(format, byte))
        .flatten()
        .ok_or(NOT_CLEARED)?;
    match flags.intersects(vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE) {
        true => Ok(ClearValue::Colour(value)),
        false => Err(WRONG_QUEUE),
    }
}

/// Returns the bits of red, green, blue and alpha.
fn colour(format: Format, byte: u8) -> Option<[u32; 4]> {
    let components = texel::texels(format, ImageAspectFlags::COLOR)?.components?;
    let bytes = components.bytes;
    // The bytes of one component, in 32 bits.
    let stored = u32::from(byte) * (0x0101_0101 >> (32 - 8 * bytes.min(4)));
    let share = f32::from(byte) / 255.0;
    let signed = |bits: u32| (stored << (32 - bits)) as i32 >> (32 - bits);
    let all = |value: u32| Some([value; 4]);
    match (texel::numeric_format(format)?, bytes) {
        (NumericFormat::Unorm, 1 | 2) => all(share.to_bits()),
        (NumericFormat::Srgb, 1) => {
            let linear = linear(share).to_bits();
            Some([linear, linear, linear, share.to_bits()])
        }
        (NumericFormat::Snorm, 1 | 2) => {
            let most = ((1_u32 << (8 * bytes - 1)) - 1) as f32;
            all((signed(8 * bytes) as f32 / most).max(-1.0).to_bits())
        }
        (NumericFormat::Uint, 1 | 2 | 4) | (NumericFormat::Sfloat, 4) => all(stored),
        (NumericFormat::Sint, 1 | 2 | 4) => all(signed(8 * bytes).cast_unsigned()),
        (NumericFormat::Sfloat, 2) => all(half(stored).to_bits()),
        // Clears take 32 bits for a component; scaled numbers are for vertices.
        _ => None,
    }
}

/// Returns the light of a value on the sRGB curve.
fn linear(value: f32) -> f32 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// Returns the value of a float of 16 bits.
fn half(bits: u32) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, bits & 0x3ff);
    let size = match exponent {
        0 => fraction as f32 * (-24_f32).exp2(),
        0x1f => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_of_a_clear_are_those_of_the_bytes() {
        let first = |format, byte| colour(format, byte).map(|it| it[0]);
        assert_eq!(first(Format::R8_UINT, 0xDC), Some(0xDC));
        assert_eq!(first(Format::R16_UINT, 0xDC), Some(0xDCDC));
        assert_eq!(first(Format::R32_UINT, 0xDC), Some(0xDCDC_DCDC));
        assert_eq!(first(Format::R8_SINT, 0xDC), Some(0xFFFF_FFDC));
        assert_eq!(first(Format::R8G8B8A8_UNORM, 0xFF), Some(1.0_f32.to_bits()));
        assert_eq!(first(Format::R8_SNORM, 0xFF), Some((-1.0_f32 / 127.0).to_bits()));
        assert_eq!(first(Format::R8_SNORM, 0x80), Some((-1.0_f32).to_bits()));
        assert_eq!(first(Format::R32_SFLOAT, 0xFF), Some(u32::MAX));
        assert!(f32::from_bits(first(Format::R16_SFLOAT, 0xFF).unwrap()).is_nan());
        assert_eq!(first(Format::R16_SFLOAT, 0xDC).map(f32::from_bits), Some(-311.0));
        assert_eq!(first(Format::R16_SFLOAT, 0x00), Some(0));
        assert_eq!(half(0x0001), (-24_f32).exp2());
        assert_eq!(half(0x7c00), f32::INFINITY);
        for format in [Format::R64_UINT, Format::BC1_RGB_UNORM_BLOCK, Format::R8_USCALED] {
            assert_eq!(colour(format, 1), None, "{format:?}");
        }
    }
}
