//! Texel blocks of formats: how many bytes an image of a format takes.

use ash::vk::{Extent3D, Format};

/// The unit that a format is stored in: one texel, or a block of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatBlock {
    /// Size of a block in bytes.
    pub bytes: u32,
    /// Width of a block in texels.
    pub width: u32,
    /// Height of a block in texels.
    pub height: u32,
}

impl FormatBlock {
    /// Returns the size in bytes of a tightly packed image; blocks at the edges count as whole. `None` on
    /// overflow.
    pub fn size_of(self, extent: Extent3D) -> Option<u64> {
        let columns = u64::from(extent.width.div_ceil(self.width));
        let rows = u64::from(extent.height.div_ceil(self.height));
        (columns * rows).checked_mul(extent.depth.into())?.checked_mul(self.bytes.into())
    }
}

/// Formats with one texel per block: first and last of a range in Vulkan's numbering, bytes per texel.
const TEXELS: &[(Format, Format, u32)] = &[
    (Format::R4G4_UNORM_PACK8, Format::R4G4_UNORM_PACK8, 1),
    (Format::R4G4B4A4_UNORM_PACK16, Format::A1R5G5B5_UNORM_PACK16, 2),
    (Format::R8_UNORM, Format::R8_SRGB, 1),
    (Format::R8G8_UNORM, Format::R8G8_SRGB, 2),
    (Format::R8G8B8_UNORM, Format::B8G8R8_SRGB, 3),
    (Format::R8G8B8A8_UNORM, Format::A2B10G10R10_SINT_PACK32, 4),
    (Format::R16_UNORM, Format::R16_SFLOAT, 2),
    (Format::R16G16_UNORM, Format::R16G16_SFLOAT, 4),
    (Format::R16G16B16_UNORM, Format::R16G16B16_SFLOAT, 6),
    (Format::R16G16B16A16_UNORM, Format::R16G16B16A16_SFLOAT, 8),
    (Format::R32_UINT, Format::R32_SFLOAT, 4),
    (Format::R32G32_UINT, Format::R32G32_SFLOAT, 8),
    (Format::R32G32B32_UINT, Format::R32G32B32_SFLOAT, 12),
    (Format::R32G32B32A32_UINT, Format::R32G32B32A32_SFLOAT, 16),
    (Format::R64_UINT, Format::R64_SFLOAT, 8),
    (Format::R64G64_UINT, Format::R64G64_SFLOAT, 16),
    (Format::R64G64B64_UINT, Format::R64G64B64_SFLOAT, 24),
    (Format::R64G64B64A64_UINT, Format::R64G64B64A64_SFLOAT, 32),
    (Format::B10G11R11_UFLOAT_PACK32, Format::E5B9G9R9_UFLOAT_PACK32, 4),
    (Format::D16_UNORM, Format::D16_UNORM, 2),
    (Format::X8_D24_UNORM_PACK32, Format::D32_SFLOAT, 4),
    (Format::S8_UINT, Format::S8_UINT, 1),
    (Format::D16_UNORM_S8_UINT, Format::D16_UNORM_S8_UINT, 3),
    (Format::D24_UNORM_S8_UINT, Format::D24_UNORM_S8_UINT, 4),
    (Format::D32_SFLOAT_S8_UINT, Format::D32_SFLOAT_S8_UINT, 5),
    (Format::R10X6_UNORM_PACK16, Format::R10X6_UNORM_PACK16, 2),
    (Format::R10X6G10X6_UNORM_2PACK16, Format::R10X6G10X6_UNORM_2PACK16, 4),
    (Format::R10X6G10X6B10X6A10X6_UNORM_4PACK16, Format::R10X6G10X6B10X6A10X6_UNORM_4PACK16, 8),
    (Format::R12X4_UNORM_PACK16, Format::R12X4_UNORM_PACK16, 2),
    (Format::R12X4G12X4_UNORM_2PACK16, Format::R12X4G12X4_UNORM_2PACK16, 4),
    (Format::R12X4G12X4B12X4A12X4_UNORM_4PACK16, Format::R12X4G12X4B12X4A12X4_UNORM_4PACK16, 8),
    (Format::A4R4G4B4_UNORM_PACK16, Format::A4B4G4R4_UNORM_PACK16, 2),
    (Format::R16G16_S10_5_NV, Format::R16G16_S10_5_NV, 4),
    (Format::A1B5G5R5_UNORM_PACK16_KHR, Format::A1B5G5R5_UNORM_PACK16_KHR, 2),
    (Format::A8_UNORM_KHR, Format::A8_UNORM_KHR, 1),
];

/// Formats with several texels per block: first and last of a range, bytes, width and height of a block.
const BLOCKS: &[(Format, Format, u32, u32, u32)] = &[
    (Format::BC1_RGB_UNORM_BLOCK, Format::BC1_RGBA_SRGB_BLOCK, 8, 4, 4),
    (Format::BC2_UNORM_BLOCK, Format::BC3_SRGB_BLOCK, 16, 4, 4),
    (Format::BC4_UNORM_BLOCK, Format::BC4_SNORM_BLOCK, 8, 4, 4),
    (Format::BC5_UNORM_BLOCK, Format::BC7_SRGB_BLOCK, 16, 4, 4),
    (Format::ETC2_R8G8B8_UNORM_BLOCK, Format::ETC2_R8G8B8A1_SRGB_BLOCK, 8, 4, 4),
    (Format::ETC2_R8G8B8A8_UNORM_BLOCK, Format::ETC2_R8G8B8A8_SRGB_BLOCK, 16, 4, 4),
    (Format::EAC_R11_UNORM_BLOCK, Format::EAC_R11_SNORM_BLOCK, 8, 4, 4),
    (Format::EAC_R11G11_UNORM_BLOCK, Format::EAC_R11G11_SNORM_BLOCK, 16, 4, 4),
    (Format::PVRTC1_2BPP_UNORM_BLOCK_IMG, Format::PVRTC1_2BPP_UNORM_BLOCK_IMG, 8, 8, 4),
    (Format::PVRTC1_4BPP_UNORM_BLOCK_IMG, Format::PVRTC1_4BPP_UNORM_BLOCK_IMG, 8, 4, 4),
    (Format::PVRTC2_2BPP_UNORM_BLOCK_IMG, Format::PVRTC2_2BPP_UNORM_BLOCK_IMG, 8, 8, 4),
    (Format::PVRTC2_4BPP_UNORM_BLOCK_IMG, Format::PVRTC2_4BPP_UNORM_BLOCK_IMG, 8, 4, 4),
    (Format::PVRTC1_2BPP_SRGB_BLOCK_IMG, Format::PVRTC1_2BPP_SRGB_BLOCK_IMG, 8, 8, 4),
    (Format::PVRTC1_4BPP_SRGB_BLOCK_IMG, Format::PVRTC1_4BPP_SRGB_BLOCK_IMG, 8, 4, 4),
    (Format::PVRTC2_2BPP_SRGB_BLOCK_IMG, Format::PVRTC2_2BPP_SRGB_BLOCK_IMG, 8, 8, 4),
    (Format::PVRTC2_4BPP_SRGB_BLOCK_IMG, Format::PVRTC2_4BPP_SRGB_BLOCK_IMG, 8, 4, 4),
    // Two texels that share their chroma.
    (Format::G8B8G8R8_422_UNORM, Format::B8G8R8G8_422_UNORM, 4, 2, 1),
    (
        Format::G10X6B10X6G10X6R10X6_422_UNORM_4PACK16,
        Format::B10X6G10X6R10X6G10X6_422_UNORM_4PACK16,
        8,
        2,
        1,
    ),
    (
        Format::G12X4B12X4G12X4R12X4_422_UNORM_4PACK16,
        Format::B12X4G12X4R12X4G12X4_422_UNORM_4PACK16,
        8,
        2,
        1,
    ),
    (Format::G16B16G16R16_422_UNORM, Format::B16G16R16G16_422_UNORM, 8, 2, 1),
];

/// The block sizes of ASTC in the order of Vulkan's numbering; each block takes 16 bytes.
const ASTC: [(u32, u32); 14] = [
    (4, 4),
    (5, 4),
    (5, 5),
    (6, 5),
    (6, 6),
    (8, 5),
    (8, 6),
    (8, 8),
    (10, 5),
    (10, 6),
    (10, 8),
    (10, 10),
    (12, 10),
    (12, 12),
];

/// Returns the texel block of a format of core Vulkan or of the common extensions.
///
/// `None` for `UNDEFINED`, for unknown formats, and for multi-planar formats, which have no single block.
pub fn block(format: Format) -> Option<FormatBlock> {
    let raw = format.as_raw();
    let within = |first: Format, last: Format| (first.as_raw()..=last.as_raw()).contains(&raw);
    if let Some((.., bytes)) = TEXELS.iter().find(|(first, last, _)| within(*first, *last)) {
        return Some(FormatBlock { bytes: *bytes, width: 1, height: 1 });
    }
    if let Some(found) = BLOCKS.iter().find(|(first, last, ..)| within(*first, *last)) {
        let (_, _, bytes, width, height) = *found;
        return Some(FormatBlock { bytes, width, height });
    }
    let astc = if within(Format::ASTC_4X4_UNORM_BLOCK, Format::ASTC_12X12_SRGB_BLOCK) {
        // UNORM and SRGB alternate.
        (raw - Format::ASTC_4X4_UNORM_BLOCK.as_raw()) / 2
    } else if within(Format::ASTC_4X4_SFLOAT_BLOCK, Format::ASTC_12X12_SFLOAT_BLOCK) {
        raw - Format::ASTC_4X4_SFLOAT_BLOCK.as_raw()
    } else {
        return None;
    };
    let (width, height) = ASTC[astc as usize];
    Some(FormatBlock { bytes: 16, width, height })
}

/// One plane of a multi-planar format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatPlane {
    /// Size of a texel of the plane in bytes.
    pub bytes: u32,
    /// Width of a texel of the plane in texels of the image.
    pub width: u32,
    /// Height of a texel of the plane in texels of the image.
    pub height: u32,
}

impl FormatPlane {
    /// Returns the size in bytes of the tightly packed plane of an image. `None` on overflow.
    pub fn size_of(self, extent: Extent3D) -> Option<u64> {
        let Self { bytes, width, height } = self;
        FormatBlock { bytes, width, height }.size_of(extent)
    }
}

/// How a multi-planar format stores chroma.
#[derive(Clone, Copy)]
enum Chroma {
    /// Both values in one plane.
    Pair,
    /// Each value in a plane of its own.
    Apart,
}

/// Multi-planar formats: bytes of a value, storage of chroma, width and height in texels of a chroma
/// value.
const PLANES: &[(Format, u32, Chroma, u32, u32)] = &[
    (Format::G8_B8_R8_3PLANE_420_UNORM, 1, Chroma::Apart, 2, 2),
    (Format::G8_B8R8_2PLANE_420_UNORM, 1, Chroma::Pair, 2, 2),
    (Format::G8_B8_R8_3PLANE_422_UNORM, 1, Chroma::Apart, 2, 1),
    (Format::G8_B8R8_2PLANE_422_UNORM, 1, Chroma::Pair, 2, 1),
    (Format::G8_B8_R8_3PLANE_444_UNORM, 1, Chroma::Apart, 1, 1),
    (Format::G8_B8R8_2PLANE_444_UNORM, 1, Chroma::Pair, 1, 1),
    (Format::G10X6_B10X6_R10X6_3PLANE_420_UNORM_3PACK16, 2, Chroma::Apart, 2, 2),
    (Format::G10X6_B10X6R10X6_2PLANE_420_UNORM_3PACK16, 2, Chroma::Pair, 2, 2),
    (Format::G10X6_B10X6_R10X6_3PLANE_422_UNORM_3PACK16, 2, Chroma::Apart, 2, 1),
    (Format::G10X6_B10X6R10X6_2PLANE_422_UNORM_3PACK16, 2, Chroma::Pair, 2, 1),
    (Format::G10X6_B10X6_R10X6_3PLANE_444_UNORM_3PACK16, 2, Chroma::Apart, 1, 1),
    (Format::G10X6_B10X6R10X6_2PLANE_444_UNORM_3PACK16, 2, Chroma::Pair, 1, 1),
    (Format::G12X4_B12X4_R12X4_3PLANE_420_UNORM_3PACK16, 2, Chroma::Apart, 2, 2),
    (Format::G12X4_B12X4R12X4_2PLANE_420_UNORM_3PACK16, 2, Chroma::Pair, 2, 2),
    (Format::G12X4_B12X4_R12X4_3PLANE_422_UNORM_3PACK16, 2, Chroma::Apart, 2, 1),
    (Format::G12X4_B12X4R12X4_2PLANE_422_UNORM_3PACK16, 2, Chroma::Pair, 2, 1),
    (Format::G12X4_B12X4_R12X4_3PLANE_444_UNORM_3PACK16, 2, Chroma::Apart, 1, 1),
    (Format::G12X4_B12X4R12X4_2PLANE_444_UNORM_3PACK16, 2, Chroma::Pair, 1, 1),
    (Format::G16_B16_R16_3PLANE_420_UNORM, 2, Chroma::Apart, 2, 2),
    (Format::G16_B16R16_2PLANE_420_UNORM, 2, Chroma::Pair, 2, 2),
    (Format::G16_B16_R16_3PLANE_422_UNORM, 2, Chroma::Apart, 2, 1),
    (Format::G16_B16R16_2PLANE_422_UNORM, 2, Chroma::Pair, 2, 1),
    (Format::G16_B16_R16_3PLANE_444_UNORM, 2, Chroma::Apart, 1, 1),
    (Format::G16_B16R16_2PLANE_444_UNORM, 2, Chroma::Pair, 1, 1),
];

/// Returns the planes of a multi-planar format; empty for other formats.
pub fn planes(format: Format) -> Vec<FormatPlane> {
    let Some((_, bytes, chroma, width, height)) = PLANES.iter().find(|it| it.0 == format) else {
        return Vec::new();
    };
    let (bytes, width, height) = (*bytes, *width, *height);
    let luma = FormatPlane { bytes, width: 1, height: 1 };
    match chroma {
        Chroma::Pair => vec![luma, FormatPlane { bytes: 2 * bytes, width, height }],
        Chroma::Apart => {
            let plane = FormatPlane { bytes, width, height };
            vec![luma, plane, plane]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_of_a_video_frame() {
        let extent = Extent3D { width: 1920, height: 1080, depth: 1 };
        let sizes = |format| -> Vec<u64> {
            planes(format).iter().map(|it| it.size_of(extent).expect("small")).collect()
        };
        let luma = 1920 * 1080;
        assert_eq!(sizes(Format::G8_B8R8_2PLANE_420_UNORM), [luma, luma / 2]);
        assert_eq!(sizes(Format::G8_B8_R8_3PLANE_420_UNORM), [luma, luma / 4, luma / 4]);
        assert_eq!(sizes(Format::G16_B16R16_2PLANE_444_UNORM), [2 * luma, 4 * luma]);
        assert!(sizes(Format::R8G8B8A8_UNORM).is_empty());
        // The names contain the number of planes.
        for (format, ..) in PLANES {
            let name = format!("{format:?}");
            assert!(name.contains(&format!("_{}PLANE_", planes(*format).len())), "{name}");
        }
    }

    fn of(format: Format) -> (u32, u32, u32) {
        let block = block(format).expect("a known format");
        (block.bytes, block.width, block.height)
    }

    #[test]
    fn every_core_format_has_a_block() {
        assert_eq!(block(Format::UNDEFINED), None);
        for raw in Format::R4G4_UNORM_PACK8.as_raw()..=Format::ASTC_12X12_SRGB_BLOCK.as_raw() {
            let found = block(Format::from_raw(raw)).expect("a core format");
            assert!(found.bytes > 0 && found.width > 0 && found.height > 0, "format {raw}");
        }
        assert_eq!(block(Format::from_raw(185)), None);
    }

    #[test]
    fn names_that_tell_their_size_agree() {
        for raw in 1..=Format::E5B9G9R9_UFLOAT_PACK32.as_raw() {
            let format = Format::from_raw(raw);
            let name = format!("{format:?}");
            // R16G16B16A16_SFLOAT: the digits before the first underscore are bits.
            let channels = name.split('_').next().unwrap();
            let bits: u32 = channels
                .split(|letter: char| !letter.is_ascii_digit())
                .filter_map(|digits| digits.parse::<u32>().ok())
                .sum();
            assert_eq!(block(format).unwrap().bytes * 8, bits, "{name}");
        }
    }

    #[test]
    fn compressed_formats_are_stored_in_blocks() {
        assert_eq!(of(Format::BC1_RGB_UNORM_BLOCK), (8, 4, 4));
        assert_eq!(of(Format::BC4_SNORM_BLOCK), (8, 4, 4));
        assert_eq!(of(Format::BC7_SRGB_BLOCK), (16, 4, 4));
        assert_eq!(of(Format::ETC2_R8G8B8A1_SRGB_BLOCK), (8, 4, 4));
        assert_eq!(of(Format::EAC_R11G11_SNORM_BLOCK), (16, 4, 4));
        assert_eq!(of(Format::ASTC_4X4_SRGB_BLOCK), (16, 4, 4));
        assert_eq!(of(Format::ASTC_10X6_UNORM_BLOCK), (16, 10, 6));
        assert_eq!(of(Format::ASTC_12X12_SRGB_BLOCK), (16, 12, 12));
        assert_eq!(of(Format::ASTC_8X5_SFLOAT_BLOCK), (16, 8, 5));
        assert_eq!(of(Format::PVRTC1_2BPP_UNORM_BLOCK_IMG), (8, 8, 4));
        assert_eq!(of(Format::G8B8G8R8_422_UNORM), (4, 2, 1));
        assert_eq!(of(Format::D32_SFLOAT_S8_UINT), (5, 1, 1));
        assert_eq!(block(Format::G8_B8R8_2PLANE_420_UNORM), None);
    }

    #[test]
    fn blocks_at_the_edge_count_whole() {
        let extent = Extent3D { width: 5, height: 4, depth: 3 };
        assert_eq!(block(Format::R8G8B8A8_UNORM).unwrap().size_of(extent), Some(5 * 4 * 3 * 4));
        assert_eq!(block(Format::BC1_RGB_UNORM_BLOCK).unwrap().size_of(extent), Some(2 * 3 * 8));
        let huge = Extent3D { width: u32::MAX, height: u32::MAX, depth: 2 };
        assert_eq!(block(Format::R8_UNORM).unwrap().size_of(huge), None);
    }
}
