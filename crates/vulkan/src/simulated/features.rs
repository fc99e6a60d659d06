//! What images of a format can be used for on a simulated device: what Vulkan makes mandatory, and what
//! desktop devices have besides.

use ash::vk::{Format, FormatFeatureFlags as F, ImageTiling};

use crate::driver::{format, texel};

/// Kinds of features that the tables name together.
const SAMPLED: F = F::from_raw(F::SAMPLED_IMAGE.as_raw() | F::BLIT_SRC.as_raw());
const FILTERED: F = F::from_raw(SAMPLED.as_raw() | F::SAMPLED_IMAGE_FILTER_LINEAR.as_raw());
const ATTACHED: F = F::from_raw(F::COLOR_ATTACHMENT.as_raw() | F::BLIT_DST.as_raw());
const BLENDED: F = F::from_raw(ATTACHED.as_raw() | F::COLOR_ATTACHMENT_BLEND.as_raw());
const STORED: F = F::STORAGE_IMAGE;
const NOTHING: F = F::empty();
const BLENDED_STORED: F = F::from_raw(BLENDED.as_raw() | F::STORAGE_IMAGE.as_raw());
const ATTACHED_STORED: F = F::from_raw(ATTACHED.as_raw() | F::STORAGE_IMAGE.as_raw());
const COPIED: F = F::from_raw(F::TRANSFER_SRC.as_raw() | F::TRANSFER_DST.as_raw());

/// First and last of a range of formats in Vulkan's order, and the features of "Required Format Support": read
/// through samplers, written.
const MANDATORY: &[(Format, Format, F, F)] = &[
    (Format::B4G4R4A4_UNORM_PACK16, Format::B4G4R4A4_UNORM_PACK16, FILTERED, NOTHING),
    (Format::R5G6B5_UNORM_PACK16, Format::R5G6B5_UNORM_PACK16, FILTERED, BLENDED),
    (Format::A1R5G5B5_UNORM_PACK16, Format::A1R5G5B5_UNORM_PACK16, FILTERED, BLENDED),
    (Format::R8_UNORM, Format::R8_UNORM, FILTERED, BLENDED),
    (Format::R8_SNORM, Format::R8_SNORM, FILTERED, NOTHING),
    (Format::R8_UINT, Format::R8_SINT, SAMPLED, ATTACHED),
    (Format::R8G8_UNORM, Format::R8G8_UNORM, FILTERED, BLENDED),
    (Format::R8G8_SNORM, Format::R8G8_SNORM, FILTERED, NOTHING),
    (Format::R8G8_UINT, Format::R8G8_SINT, SAMPLED, ATTACHED),
    (Format::R8G8B8A8_UNORM, Format::R8G8B8A8_UNORM, FILTERED, BLENDED_STORED),
    (Format::R8G8B8A8_SNORM, Format::R8G8B8A8_SNORM, FILTERED, STORED),
    (Format::R8G8B8A8_UINT, Format::R8G8B8A8_SINT, SAMPLED, ATTACHED_STORED),
    (Format::R8G8B8A8_SRGB, Format::R8G8B8A8_SRGB, FILTERED, BLENDED),
    (Format::B8G8R8A8_UNORM, Format::B8G8R8A8_UNORM, FILTERED, BLENDED),
    (Format::B8G8R8A8_SRGB, Format::B8G8R8A8_SRGB, FILTERED, BLENDED),
    (Format::A8B8G8R8_UNORM_PACK32, Format::A8B8G8R8_UNORM_PACK32, FILTERED, BLENDED),
    (Format::A8B8G8R8_SNORM_PACK32, Format::A8B8G8R8_SNORM_PACK32, FILTERED, NOTHING),
    (Format::A8B8G8R8_UINT_PACK32, Format::A8B8G8R8_SINT_PACK32, SAMPLED, ATTACHED),
    (Format::A8B8G8R8_SRGB_PACK32, Format::A8B8G8R8_SRGB_PACK32, FILTERED, BLENDED),
    (Format::A2B10G10R10_UNORM_PACK32, Format::A2B10G10R10_UNORM_PACK32, FILTERED, BLENDED),
    (Format::A2B10G10R10_UINT_PACK32, Format::A2B10G10R10_UINT_PACK32, SAMPLED, ATTACHED),
    (Format::R16_UINT, Format::R16_SINT, SAMPLED, ATTACHED),
    (Format::R16_SFLOAT, Format::R16_SFLOAT, FILTERED, BLENDED),
    (Format::R16G16_UINT, Format::R16G16_SINT, SAMPLED, ATTACHED),
    (Format::R16G16_SFLOAT, Format::R16G16_SFLOAT, FILTERED, BLENDED),
    (Format::R16G16B16A16_UINT, Format::R16G16B16A16_SINT, SAMPLED, ATTACHED_STORED),
    (Format::R16G16B16A16_SFLOAT, Format::R16G16B16A16_SFLOAT, FILTERED, BLENDED_STORED),
    (Format::R32_UINT, Format::R32_SFLOAT, SAMPLED, ATTACHED_STORED),
    (Format::R32G32_UINT, Format::R32G32_SFLOAT, SAMPLED, ATTACHED_STORED),
    (Format::R32G32B32A32_UINT, Format::R32G32B32A32_SFLOAT, SAMPLED, ATTACHED_STORED),
    (Format::B10G11R11_UFLOAT_PACK32, Format::E5B9G9R9_UFLOAT_PACK32, FILTERED, NOTHING),
    (Format::D16_UNORM, Format::D16_UNORM, SAMPLED, F::DEPTH_STENCIL_ATTACHMENT),
    (Format::X8_D24_UNORM_PACK32, Format::D32_SFLOAT, SAMPLED, F::DEPTH_STENCIL_ATTACHMENT),
    (Format::S8_UINT, Format::D32_SFLOAT_S8_UINT, NOTHING, F::DEPTH_STENCIL_ATTACHMENT),
];

/// What desktop devices have besides.
const OF_DESKTOPS: &[(Format, Format, F, F)] = &[
    (Format::R16_UNORM, Format::R16_SNORM, FILTERED, BLENDED_STORED),
    (Format::R16G16_UNORM, Format::R16G16_SNORM, FILTERED, BLENDED_STORED),
    (Format::R16G16B16A16_UNORM, Format::R16G16B16A16_SNORM, FILTERED, BLENDED_STORED),
    (Format::R32_SFLOAT, Format::R32_SFLOAT, FILTERED, BLENDED),
    (Format::R32G32_SFLOAT, Format::R32G32_SFLOAT, FILTERED, BLENDED),
    (Format::R32G32B32A32_SFLOAT, Format::R32G32B32A32_SFLOAT, FILTERED, BLENDED),
    (Format::R8_SRGB, Format::R8_SRGB, FILTERED, NOTHING),
    (Format::R8G8_SRGB, Format::R8G8_SRGB, FILTERED, NOTHING),
    (Format::R8_SNORM, Format::R8_SNORM, FILTERED, BLENDED),
    (Format::R8G8_SNORM, Format::R8G8_SNORM, FILTERED, BLENDED),
    (Format::R8G8B8A8_SNORM, Format::R8G8B8A8_SNORM, FILTERED, BLENDED),
    (Format::D16_UNORM, Format::D32_SFLOAT_S8_UINT, SAMPLED, F::BLIT_DST),
];

/// Returns what images of a format and a tiling can be used for. Compressed formats are not blitted from here:
/// Vulkan makes that mandatory, but no simulated device decompresses them.
pub(super) fn features(of: Format, tiling: ImageTiling, is_desktop: bool) -> F {
    let planes = format::planes(of);
    let Some(block) = format::block(of) else {
        return if planes.is_empty() || !matches!(tiling, ImageTiling::OPTIMAL | ImageTiling::LINEAR)
        {
            NOTHING
        } else {
            COPIED | F::SAMPLED_IMAGE | F::MIDPOINT_CHROMA_SAMPLES | F::DISJOINT
        };
    };
    let mut found = COPIED | F::SAMPLED_IMAGE;
    let is_compressed = block.width > 1 || block.height > 1;
    if is_compressed && format!("{of:?}").contains("_BLOCK") {
        found |= F::SAMPLED_IMAGE_FILTER_LINEAR;
    } else if is_compressed {
        found |= F::MIDPOINT_CHROMA_SAMPLES;
    }
    let more = if is_desktop { OF_DESKTOPS } else { &[] };
    for (first, last, read, written) in MANDATORY.iter().chain(more) {
        if (first.as_raw()..=last.as_raw()).contains(&of.as_raw()) {
            found |= *read | *written;
        }
    }
    let is_colour = texel::aspects(of) == ash::vk::ImageAspectFlags::COLOR;
    match tiling {
        ImageTiling::OPTIMAL => found,
        // Texels in rows are copied, and blitted without compression.
        ImageTiling::LINEAR if is_colour && !is_compressed => {
            found & (COPIED | FILTERED | F::BLIT_DST)
        }
        ImageTiling::LINEAR => COPIED,
        _ => NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_not_filtered_and_every_known_format_is_copied() {
        for raw in 1..=Format::ASTC_12X12_SRGB_BLOCK.as_raw() {
            let format = Format::from_raw(raw);
            for is_desktop in [false, true] {
                let found = features(format, ImageTiling::OPTIMAL, is_desktop);
                assert!(found.contains(COPIED), "{format:?}");
                let name = format!("{format:?}");
                if name.contains("INT") && !name.contains("UNORM") {
                    assert!(!found.contains(F::SAMPLED_IMAGE_FILTER_LINEAR), "{name}");
                }
                if found.contains(F::SAMPLED_IMAGE_FILTER_LINEAR) && !name.contains("BLOCK") {
                    assert!(found.contains(F::BLIT_SRC), "{name}");
                }
            }
        }
        assert_eq!(features(Format::UNDEFINED, ImageTiling::OPTIMAL, true), NOTHING);
    }

    #[test]
    fn floats_of_32_bits_are_filtered_on_desktops_only() {
        let of = |is_desktop| {
            let found = features(Format::R32_SFLOAT, ImageTiling::OPTIMAL, is_desktop);
            assert!(found.contains(F::BLIT_SRC | F::BLIT_DST));
            found.contains(F::SAMPLED_IMAGE_FILTER_LINEAR)
        };
        assert!(of(true) && !of(false));
        let blocks = features(Format::BC7_UNORM_BLOCK, ImageTiling::OPTIMAL, true);
        assert!(blocks.contains(F::SAMPLED_IMAGE_FILTER_LINEAR) && !blocks.contains(F::BLIT_DST));
        let planes = features(Format::G8_B8R8_2PLANE_420_UNORM, ImageTiling::OPTIMAL, true);
        assert!(planes.contains(COPIED) && !planes.intersects(F::BLIT_SRC | F::BLIT_DST));
    }
}
