//! What one texel of a format holds: its aspects, and its components as numbers of the host.

use ash::vk::{Extent3D, Format, ImageAspectFlags};

use super::format::{self, FormatBlock};

/// How a component is read as a number. Normalized and scaled components are read as the integers that
/// they are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentKind {
    /// UNORM, USCALED, UINT, SRGB.
    Unsigned,
    /// SNORM, SSCALED, SINT.
    Signed,
    /// SFLOAT.
    Float,
}

/// How the bits of a component stand for a number: Vulkan's numeric formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumericFormat {
    /// From 0 to 1.
    Unorm,
    /// From -1 to 1.
    Snorm,
    /// Unsigned integers that are read as floats.
    Uscaled,
    /// Signed integers that are read as floats.
    Sscaled,
    /// Unsigned integers.
    Uint,
    /// Signed integers.
    Sint,
    /// From 0 to 1 on the sRGB curve; alpha is `Unorm`.
    Srgb,
    /// Floats.
    Sfloat,
}

impl NumericFormat {
    fn kind(self) -> ComponentKind {
        match self {
            Self::Unorm | Self::Uscaled | Self::Uint | Self::Srgb => ComponentKind::Unsigned,
            Self::Snorm | Self::Sscaled | Self::Sint => ComponentKind::Signed,
            Self::Sfloat => ComponentKind::Float,
        }
    }
}

/// The components of a texel, all of one size, in the order in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components {
    /// 1 to 4.
    pub count: u32,
    /// Bytes of one: 1, 2, 4 or 8.
    pub bytes: u32,
    /// What they are.
    pub kind: ComponentKind,
}

/// The texels of one aspect of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AspectTexels {
    /// The unit of storage. For a plane, its width and height are the texels of the image that share one
    /// texel of the plane.
    pub block: FormatBlock,
    /// `None` if the block is packed, compressed, or has components of different sizes.
    pub components: Option<Components>,
}

/// The first of seven formats in Vulkan's order: UNORM, SNORM, USCALED, SSCALED, UINT, SINT, and SRGB
/// (1 byte) or SFLOAT (2 bytes). With the number of components and the bytes of one.
const SEVEN: [(Format, u32, u32); 11] = [
    (Format::R8_UNORM, 1, 1),
    (Format::R8G8_UNORM, 2, 1),
    (Format::R8G8B8_UNORM, 3, 1),
    (Format::B8G8R8_UNORM, 3, 1),
    (Format::R8G8B8A8_UNORM, 4, 1),
    (Format::B8G8R8A8_UNORM, 4, 1),
    (Format::A8B8G8R8_UNORM_PACK32, 4, 1),
    (Format::R16_UNORM, 1, 2),
    (Format::R16G16_UNORM, 2, 2),
    (Format::R16G16B16_UNORM, 3, 2),
    (Format::R16G16B16A16_UNORM, 4, 2),
];

/// The first of three formats in Vulkan's order: UINT, SINT, SFLOAT.
const THREE: [(Format, u32, u32); 8] = [
    (Format::R32_UINT, 1, 4),
    (Format::R32G32_UINT, 2, 4),
    (Format::R32G32B32_UINT, 3, 4),
    (Format::R32G32B32A32_UINT, 4, 4),
    (Format::R64_UINT, 1, 8),
    (Format::R64G64_UINT, 2, 8),
    (Format::R64G64B64_UINT, 3, 8),
    (Format::R64G64B64A64_UINT, 4, 8),
];

/// Formats by themselves. Components of 10 and 12 bits have a word of 16 bits each.
const SINGLE: [(Format, u32, u32, NumericFormat); 11] = [
    (Format::D16_UNORM, 1, 2, NumericFormat::Unorm),
    (Format::D32_SFLOAT, 1, 4, NumericFormat::Sfloat),
    (Format::S8_UINT, 1, 1, NumericFormat::Uint),
    (Format::A8_UNORM_KHR, 1, 1, NumericFormat::Unorm),
    (Format::R10X6_UNORM_PACK16, 1, 2, NumericFormat::Unorm),
    (Format::R10X6G10X6_UNORM_2PACK16, 2, 2, NumericFormat::Unorm),
    (Format::R10X6G10X6B10X6A10X6_UNORM_4PACK16, 4, 2, NumericFormat::Unorm),
    (Format::R12X4_UNORM_PACK16, 1, 2, NumericFormat::Unorm),
    (Format::R12X4G12X4_UNORM_2PACK16, 2, 2, NumericFormat::Unorm),
    (Format::R12X4G12X4B12X4A12X4_UNORM_4PACK16, 4, 2, NumericFormat::Unorm),
    (Format::R16G16_S10_5_NV, 2, 2, NumericFormat::Sscaled),
];

/// The components of a format of one plane, and what they stand for. `None` for packed and compressed formats.
fn typed(format: Format) -> Option<(Components, NumericFormat)> {
    use NumericFormat as N;
    let place = |first: Format, length: i32| {
        let place = format.as_raw() - first.as_raw();
        (0..length).contains(&place).then_some(place as usize)
    };
    let found = |count, bytes, numeric: N| {
        Some((Components { count, bytes, kind: numeric.kind() }, numeric))
    };
    for (first, count, bytes) in SEVEN {
        let Some(place) = place(first, 7) else { continue };
        let last = if bytes == 2 { N::Sfloat } else { N::Srgb };
        let all = [N::Unorm, N::Snorm, N::Uscaled, N::Sscaled, N::Uint, N::Sint, last];
        return found(count, bytes, all[place]);
    }
    for (first, count, bytes) in THREE {
        let Some(place) = place(first, 3) else { continue };
        return found(count, bytes, [N::Uint, N::Sint, N::Sfloat][place]);
    }
    let (_, count, bytes, numeric) = *SINGLE.iter().find(|it| it.0 == format)?;
    found(count, bytes, numeric)
}

fn components(format: Format) -> Option<Components> {
    typed(format).map(|(components, _)| components)
}

/// Returns what the components of a format stand for, if it has one plane and [`texels`] knows its components.
pub fn numeric_format(format: Format) -> Option<NumericFormat> {
    typed(format).map(|(_, numeric)| numeric)
}

/// The aspects of a format that a subresource of an image is named by, the first one first: colour, or
/// depth and stencil, or planes.
pub fn aspects(format: Format) -> ImageAspectFlags {
    match format {
        Format::D16_UNORM | Format::X8_D24_UNORM_PACK32 | Format::D32_SFLOAT => {
            ImageAspectFlags::DEPTH
        }
        Format::S8_UINT => ImageAspectFlags::STENCIL,
        Format::D16_UNORM_S8_UINT | Format::D24_UNORM_S8_UINT | Format::D32_SFLOAT_S8_UINT => {
            ImageAspectFlags::DEPTH | ImageAspectFlags::STENCIL
        }
        _ => match format::planes(format).len() {
            0 => ImageAspectFlags::COLOR,
            count => {
                let all = (1 << count) - 1;
                ImageAspectFlags::from_raw(ImageAspectFlags::PLANE_0.as_raw() * all)
            }
        },
    }
}

/// The index of a plane that an aspect names; 0 for colour, depth and stencil.
pub fn plane_of(aspect: ImageAspectFlags) -> usize {
    let first = ImageAspectFlags::PLANE_0.as_raw().trailing_zeros();
    aspect.as_raw().trailing_zeros().saturating_sub(first) as usize
}

/// The texels of an aspect that [`aspects`] names. `None` for a format that is not known, and for one of
/// depth and stencil, whose arrangement in memory is the driver's.
pub fn texels(format: Format, aspect: ImageAspectFlags) -> Option<AspectTexels> {
    if aspects(format) == ImageAspectFlags::DEPTH | ImageAspectFlags::STENCIL {
        return None;
    }
    let planes = format::planes(format);
    let Some(luma) = planes.first() else {
        return Some(AspectTexels {
            block: format::block(format)?,
            components: components(format),
        });
    };
    let plane = planes.get(plane_of(aspect))?;
    let count = plane.bytes / luma.bytes;
    let components = Components { count, bytes: luma.bytes, kind: ComponentKind::Unsigned };
    let block = FormatBlock { bytes: plane.bytes, width: plane.width, height: plane.height };
    Some(AspectTexels { block, components: Some(components) })
}

/// The texels of one aspect in copies between images and buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiedTexels {
    /// The block of texels in a buffer. Offsets and extents of a copy are in texels of the aspect, of which a
    /// plane has fewer than the image.
    pub block: FormatBlock,
    /// Bytes of a block that the copy defines: the upper 8 bits of a depth of 24 bits are undefined.
    pub used: u32,
    /// Bytes of a block in an image without padding.
    pub(crate) stored: u32,
    /// Texels of the image in a row that share one of the aspect.
    width: u32,
    /// Texels of the image in a column that share one of the aspect.
    height: u32,
}

impl CopiedTexels {
    /// Returns the extent of an aspect in its own texels, from that of the image or of one of its mip levels.
    pub fn extent(&self, of_image: Extent3D) -> Extent3D {
        Extent3D {
            width: of_image.width.div_ceil(self.width),
            height: of_image.height.div_ceil(self.height),
            depth: of_image.depth,
        }
    }

    /// Returns the bytes that a part of an aspect takes in a buffer without gaps. `None` on overflow.
    pub fn size_of(&self, extent: Extent3D) -> Option<u64> {
        self.block.size_of(extent)
    }
}

/// The bytes of a depth in a buffer, those of them that are defined, and its bytes in an image.
fn depth(format: Format) -> (u32, u32, u32) {
    match format {
        Format::D16_UNORM | Format::D16_UNORM_S8_UINT => (2, 2, 2),
        Format::X8_D24_UNORM_PACK32 => (4, 3, 4),
        Format::D24_UNORM_S8_UINT => (4, 3, 3),
        _ => (4, 4, 4),
    }
}

/// Returns how one aspect of a format, of those that [`aspects`] names, is copied between images and buffers
/// ("Depth/Stencil Aspect Copy Table" of Vulkan). `None` for a format that is not known, and where the format has
/// not that aspect or several are named.
pub fn copied(format: Format, aspect: ImageAspectFlags) -> Option<CopiedTexels> {
    if aspect.as_raw().count_ones() != 1 || !aspects(format).contains(aspect) {
        return None;
    }
    let texel = |bytes| FormatBlock { bytes, width: 1, height: 1 };
    if aspect == ImageAspectFlags::DEPTH {
        let (bytes, used, stored) = depth(format);
        return Some(CopiedTexels { block: texel(bytes), used, stored, width: 1, height: 1 });
    }
    if aspect == ImageAspectFlags::STENCIL {
        return Some(CopiedTexels { block: texel(1), used: 1, stored: 1, width: 1, height: 1 });
    }
    let block = texels(format, aspect)?.block;
    let (bytes, is_plane) = (block.bytes, aspect != ImageAspectFlags::COLOR);
    let (block, width, height) =
        if is_plane { (texel(bytes), block.width, block.height) } else { (block, 1, 1) };
    Some(CopiedTexels { block, used: bytes, stored: bytes, width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bits of each channel and the end of the name, as `([8, 8, 8, 8], "UNORM")`.
    fn name(format: Format) -> (Vec<u32>, String) {
        let name = format!("{format:?}");
        let mut parts = name.split('_');
        let channels = parts.next().unwrap();
        let bits = channels
            .split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok());
        (bits.collect(), parts.next().unwrap_or_default().into())
    }

    fn channels_are_odd(format: Format) -> bool {
        name(format).0.is_empty() || format == Format::X8_D24_UNORM_PACK32
    }

    #[test]
    fn components_agree_with_the_names_of_formats() {
        for raw in 1..=Format::D32_SFLOAT_S8_UINT.as_raw() {
            let format = Format::from_raw(raw);
            let (bits, kind) = name(format);
            // Bits that nobody uses stand before those of depth.
            let is_packed = format!("{format:?}").contains("PACK16") || channels_are_odd(format);
            let equal = bits.iter().all(|it| *it == bits[0]) && [8, 16, 32, 64].contains(&bits[0]);
            let is_combined = format!("{format:?}").matches("UINT").count() == 1
                && format!("{format:?}").contains("_S8");
            let found = components(format);
            assert_eq!(found.is_some(), !is_packed && equal && !is_combined, "{format:?}");
            let Some(found) = found else { continue };
            assert_eq!(
                (found.count as usize, found.bytes * 8),
                (bits.len(), bits[0]),
                "{format:?}"
            );
            let block = format::block(format).unwrap();
            assert_eq!(found.count * found.bytes, block.bytes, "{format:?}");
            let wanted = match kind.as_str() {
                "SNORM" | "SSCALED" | "SINT" => ComponentKind::Signed,
                "SFLOAT" => ComponentKind::Float,
                _ => ComponentKind::Unsigned,
            };
            assert_eq!(found.kind, wanted, "{format:?}");
        }
    }

    #[test]
    fn planes_have_values_of_one_size() {
        let of = |format, plane: u32| {
            let aspect = ImageAspectFlags::from_raw(ImageAspectFlags::PLANE_0.as_raw() << plane);
            let found = texels(format, aspect).unwrap();
            let components = found.components.unwrap();
            (components.count, components.bytes, found.block.width, found.block.height)
        };
        assert_eq!(of(Format::G8_B8R8_2PLANE_420_UNORM, 0), (1, 1, 1, 1));
        assert_eq!(of(Format::G8_B8R8_2PLANE_420_UNORM, 1), (2, 1, 2, 2));
        assert_eq!(of(Format::G16_B16_R16_3PLANE_422_UNORM, 2), (1, 2, 2, 1));
    }

    #[test]
    fn aspects_of_formats() {
        let planes = ImageAspectFlags::PLANE_0 | ImageAspectFlags::PLANE_1;
        assert_eq!(aspects(Format::R8G8B8A8_SRGB), ImageAspectFlags::COLOR);
        assert_eq!(aspects(Format::D32_SFLOAT), ImageAspectFlags::DEPTH);
        assert_eq!(aspects(Format::S8_UINT), ImageAspectFlags::STENCIL);
        assert_eq!(aspects(Format::G8_B8R8_2PLANE_420_UNORM), planes);
        assert_eq!(plane_of(ImageAspectFlags::PLANE_2), 2);
        assert_eq!(plane_of(ImageAspectFlags::COLOR), 0);
        let both = ImageAspectFlags::DEPTH | ImageAspectFlags::STENCIL;
        assert_eq!(aspects(Format::D24_UNORM_S8_UINT), both);
        assert_eq!(texels(Format::D24_UNORM_S8_UINT, ImageAspectFlags::DEPTH), None);
    }

    #[test]
    fn aspects_are_copied_in_texels_of_their_own() {
        let of = |format, aspect| {
            let found = copied(format, aspect).unwrap();
            let extent = found.extent(Extent3D { width: 10, height: 6, depth: 1 });
            (found.block.bytes, found.used, extent.width, extent.height)
        };
        let (depth, stencil) = (ImageAspectFlags::DEPTH, ImageAspectFlags::STENCIL);
        assert_eq!(of(Format::D24_UNORM_S8_UINT, depth), (4, 3, 10, 6));
        assert_eq!(of(Format::X8_D24_UNORM_PACK32, depth), (4, 3, 10, 6));
        assert_eq!(of(Format::D16_UNORM_S8_UINT, depth), (2, 2, 10, 6));
        assert_eq!(of(Format::D32_SFLOAT_S8_UINT, stencil), (1, 1, 10, 6));
        let second = ImageAspectFlags::PLANE_1;
        assert_eq!(of(Format::G8_B8R8_2PLANE_420_UNORM, second), (2, 2, 5, 3));
        assert_eq!(of(Format::G16_B16_R16_3PLANE_422_UNORM, second), (2, 2, 5, 6));
        let blocks = copied(Format::ASTC_6X5_UNORM_BLOCK, ImageAspectFlags::COLOR).unwrap();
        assert_eq!(blocks.size_of(Extent3D { width: 10, height: 6, depth: 1 }), Some(4 * 16));
        assert_eq!(copied(Format::D24_UNORM_S8_UINT, depth | stencil), None);
        assert_eq!(copied(Format::R8_UNORM, depth), None);
        assert_eq!(copied(Format::UNDEFINED, ImageAspectFlags::COLOR), None);
        assert_eq!(copied(Format::G8_B8R8_2PLANE_420_UNORM, ImageAspectFlags::COLOR), None);
        // What an image stores of all aspects is what its whole block takes.
        for raw in 1..=Format::D32_SFLOAT_S8_UINT.as_raw() {
            let format = Format::from_raw(raw);
            let stored: u32 = [ImageAspectFlags::COLOR, depth, stencil]
                .iter()
                .filter_map(|aspect| copied(format, *aspect))
                .map(|it| it.stored)
                .sum();
            assert_eq!(stored, format::block(format).unwrap().bytes, "{format:?}");
        }
    }

    #[test]
    fn numeric_formats_agree_with_the_names_of_formats() {
        for raw in 1..=Format::D32_SFLOAT.as_raw() {
            let format = Format::from_raw(raw);
            let Some(found) = numeric_format(format) else { continue };
            let (_, kind) = name(format);
            assert_eq!(format!("{found:?}").to_uppercase(), kind, "{format:?}");
        }
    }
}
