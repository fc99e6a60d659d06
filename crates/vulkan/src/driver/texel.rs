//! What one texel of a format holds: its aspects, and its components as numbers of the host.

use ash::vk::{Format, ImageAspectFlags};

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
const SINGLE: [(Format, u32, u32, ComponentKind); 11] = [
    (Format::D16_UNORM, 1, 2, ComponentKind::Unsigned),
    (Format::D32_SFLOAT, 1, 4, ComponentKind::Float),
    (Format::S8_UINT, 1, 1, ComponentKind::Unsigned),
    (Format::A8_UNORM_KHR, 1, 1, ComponentKind::Unsigned),
    (Format::R10X6_UNORM_PACK16, 1, 2, ComponentKind::Unsigned),
    (Format::R10X6G10X6_UNORM_2PACK16, 2, 2, ComponentKind::Unsigned),
    (Format::R10X6G10X6B10X6A10X6_UNORM_4PACK16, 4, 2, ComponentKind::Unsigned),
    (Format::R12X4_UNORM_PACK16, 1, 2, ComponentKind::Unsigned),
    (Format::R12X4G12X4_UNORM_2PACK16, 2, 2, ComponentKind::Unsigned),
    (Format::R12X4G12X4B12X4A12X4_UNORM_4PACK16, 4, 2, ComponentKind::Unsigned),
    (Format::R16G16_S10_5_NV, 2, 2, ComponentKind::Signed),
];

/// The components of a format of one plane.
fn components(format: Format) -> Option<Components> {
    let place = |first: Format, length: i32| {
        let place = format.as_raw() - first.as_raw();
        (0..length).contains(&place).then_some(place)
    };
    for (first, count, bytes) in SEVEN {
        let Some(place) = place(first, 7) else { continue };
        let kind = match place {
            1 | 3 | 5 => ComponentKind::Signed,
            6 if bytes == 2 => ComponentKind::Float,
            _ => ComponentKind::Unsigned,
        };
        return Some(Components { count, bytes, kind });
    }
    for (first, count, bytes) in THREE {
        let Some(place) = place(first, 3) else { continue };
        let kinds = [ComponentKind::Unsigned, ComponentKind::Signed, ComponentKind::Float];
        return Some(Components { count, bytes, kind: kinds[place as usize] });
    }
    let (_, count, bytes, kind) = *SINGLE.iter().find(|it| it.0 == format)?;
    Some(Components { count, bytes, kind })
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
}
