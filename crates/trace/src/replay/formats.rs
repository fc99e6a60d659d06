//! Bytes of images by their `VkFormat`.

/// Formats with one texel a block: first and last number, bytes of a texel.
const TEXELS: [(u32, u32, u64); 27] = [
    (1, 1, 1),
    (2, 8, 2),
    (9, 15, 1),
    (16, 22, 2),
    (23, 36, 3),
    (37, 69, 4),
    (70, 76, 2),
    (77, 83, 4),
    (84, 90, 6),
    (91, 97, 8),
    (98, 100, 4),
    (101, 103, 8),
    (104, 106, 12),
    (107, 109, 16),
    (110, 112, 8),
    (113, 115, 16),
    (116, 118, 24),
    (119, 121, 32),
    (122, 123, 4),
    (124, 124, 2),
    (125, 126, 4),
    (127, 127, 1),
    (128, 128, 3),
    (129, 129, 4),
    (130, 130, 5),
    // A4R4G4B4 and A4B4G4R4 with 16 bits.
    (1_000_340_000, 1_000_340_001, 2),
    (1_000_470_000, 1_000_470_000, 2),
];

/// Formats with blocks of 4 x 4 texels: first and last number, bytes of a block.
const BLOCKS: [(u32, u32, u64); 8] = [
    (131, 134, 8),
    (135, 138, 16),
    (139, 140, 8),
    (141, 146, 16),
    (147, 150, 8),
    (151, 152, 16),
    (153, 154, 8),
    (155, 156, 16),
];

/// Sides of the blocks of ASTC; numbers alternate between UNORM and SRGB, and a block has 16 bytes.
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

/// The first multi-planar format, `G8_B8_R8_3PLANE_420`, and the distance to those of 10, 12 and 16 bits.
const PLANES: [(u32, u64); 4] =
    [(1_000_156_002, 1), (1_000_156_012, 2), (1_000_156_022, 2), (1_000_156_029, 2)];

/// Bytes of a texel of a format that is not known: those of the largest one in common use.
const UNKNOWN: u64 = 16;

/// Returns the bytes of a tightly packed level of an image, or `None` if that is more than a `u64` counts.
pub(super) fn bytes_of_level(format: u32, [width, height, depth]: [u32; 3]) -> Option<u64> {
    let within = |first: u32, last: u32| (first..=last).contains(&format);
    let blocks = |across: u32, down: u32, bytes: u64| {
        let columns = u64::from(width.div_ceil(across));
        let rows = u64::from(height.div_ceil(down));
        (columns * rows).checked_mul(depth.into())?.checked_mul(bytes)
    };
    if let Some((.., bytes)) = TEXELS.iter().find(|(first, last, _)| within(*first, *last)) {
        return blocks(1, 1, *bytes);
    }
    if let Some((.., bytes)) = BLOCKS.iter().find(|(first, last, _)| within(*first, *last)) {
        return blocks(4, 4, *bytes);
    }
    if within(157, 184) {
        let (across, down) = ASTC[(format - 157) as usize / 2];
        return blocks(across, down, 16);
    }
    for (first, value) in PLANES {
        if within(first, first + 4) {
            // Chroma has two values for each 4, 2 or 1 texels.
            let (across, down) =
                [(2, 2), (2, 2), (2, 1), (2, 1), (1, 1)][(format - first) as usize];
            return blocks(1, 1, value)?.checked_add(blocks(across, down, 2 * value)?);
        }
    }
    blocks(1, 1, UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_all_kinds_of_formats() {
        let bytes = |format, extent| bytes_of_level(format, extent).expect("small");
        // R8G8B8A8, D24_S8, D32_S8.
        assert_eq!(bytes(37, [5, 4, 3]), 240);
        assert_eq!(bytes(129, [10, 10, 1]), 400);
        assert_eq!(bytes(130, [10, 10, 1]), 500);
        // BC1, BC7, ETC2 with alpha, EAC R11: edges count whole.
        assert_eq!(bytes(131, [5, 4, 1]), 16);
        assert_eq!(bytes(145, [4, 4, 1]), 16);
        assert_eq!(bytes(151, [8, 8, 1]), 64);
        assert_eq!(bytes(153, [4, 4, 2]), 16);
        // ASTC 10 x 6 and 12 x 12.
        assert_eq!(bytes(157 + 2 * 9, [20, 12, 1]), 64);
        assert_eq!(bytes(184, [12, 12, 1]), 16);
        // A frame of a video with 8 bits and with 10.
        assert_eq!(bytes(1_000_156_003, [1920, 1080, 1]), 1920 * 1080 * 3 / 2);
        assert_eq!(bytes(1_000_156_012, [1920, 1080, 1]), 1920 * 1080 * 3);
        assert_eq!(bytes(0, [2, 2, 1]), 64);
        assert_eq!(bytes_of_level(37, [u32::MAX, u32::MAX, 2]), None);
    }
}
