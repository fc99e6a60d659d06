//! Texels as numbers: what blits convert and filter.

use ash::vk::{Format, ImageAspectFlags};

use crate::driver::texel::{self, NumericFormat};

/// Red, green, blue, alpha.
pub(super) type Texel = [f64; 4];

/// What a texel reads as where its format has no such component.
const MISSING: Texel = [0.0, 0.0, 0.0, 1.0];

/// The components of a word from the lowest bit on: their bits, and which they are, by their place in [`Texel`].
type Fields = &'static [(u32, usize)];

/// Formats whose components share a word.
const PACKED: &[(Format, NumericFormat, Fields)] = &[
    (Format::B4G4R4A4_UNORM_PACK16, NumericFormat::Unorm, &[(4, 3), (4, 0), (4, 1), (4, 2)]),
    (Format::R5G6B5_UNORM_PACK16, NumericFormat::Unorm, &[(5, 2), (6, 1), (5, 0)]),
    (Format::A1R5G5B5_UNORM_PACK16, NumericFormat::Unorm, &[(5, 2), (5, 1), (5, 0), (1, 3)]),
    (Format::A2B10G10R10_UNORM_PACK32, NumericFormat::Unorm, &[(10, 0), (10, 1), (10, 2), (2, 3)]),
    (Format::A2B10G10R10_UINT_PACK32, NumericFormat::Uint, &[(10, 0), (10, 1), (10, 2), (2, 3)]),
];

/// How the bytes of a texel are read and written.
#[derive(Clone, Copy, Debug)]
enum Storage {
    /// Components of a number of bytes; red and blue may be exchanged.
    Components { count: usize, bytes: usize, swapped: bool },
    /// Bits of one word.
    Packed { bytes: usize, fields: Fields },
    /// `B10G11R11_UFLOAT_PACK32`
    SmallFloats,
    /// `E5B9G9R9_UFLOAT_PACK32`
    SharedExponent,
}

/// The kinds of numbers between which blits convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Uint,
    Sint,
}

/// The conversion between the bytes of a format's texels and numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec {
    storage: Storage,
    numeric: NumericFormat,
}

impl Codec {
    /// Returns the codec of a colour format without compression; `None` for others.
    pub(super) fn of(format: Format) -> Option<Self> {
        let packed = PACKED.iter().find(|it| it.0 == format);
        if let Some((_, numeric, fields)) = packed {
            let bits: u32 = fields.iter().map(|(bits, _)| bits).sum();
            let storage = Storage::Packed { bytes: bits as usize / 8, fields };
            return Some(Self { storage, numeric: *numeric });
        }
        let numeric = NumericFormat::Sfloat;
        match format {
            Format::B10G11R11_UFLOAT_PACK32 => {
                return Some(Self { storage: Storage::SmallFloats, numeric });
            }
            Format::E5B9G9R9_UFLOAT_PACK32 => {
                return Some(Self { storage: Storage::SharedExponent, numeric });
            }
            _ => {}
        }
        if texel::aspects(format) != ImageAspectFlags::COLOR {
            return None;
        }
        let components = texel::texels(format, ImageAspectFlags::COLOR)?.components?;
        let in_range = |first: Format, last: Format| {
            (first.as_raw()..=last.as_raw()).contains(&format.as_raw())
        };
        let swapped = in_range(Format::B8G8R8_UNORM, Format::B8G8R8_SRGB)
            || in_range(Format::B8G8R8A8_UNORM, Format::B8G8R8A8_SRGB);
        let (count, bytes) = (components.count as usize, components.bytes as usize);
        let storage = Storage::Components { count, bytes, swapped };
        Some(Self { storage, numeric: texel::numeric_format(format)? })
    }

    pub(super) fn kind(self) -> Kind {
        match self.numeric {
            NumericFormat::Uint => Kind::Uint,
            NumericFormat::Sint => Kind::Sint,
            _ => Kind::Float,
        }
    }

    /// Reads a texel.
    pub(super) fn decode(self, bytes: &[u8]) -> Texel {
        let mut found = MISSING;
        match self.storage {
            Storage::Components { count, bytes: size, swapped } => {
                for (at, component) in bytes.chunks_exact(size).take(count).enumerate() {
                    let to = place(at, swapped);
                    found[to] = self.component(word(component), 8 * size as u32, to);
                }
            }
            Storage::Packed { fields, .. } => {
                let mut rest = word(bytes);
                for (bits, to) in fields {
                    found[*to] = self.component(rest & ones(*bits), *bits, *to);
                    rest >>= bits;
                }
            }
            Storage::SmallFloats => {
                let all = word(bytes);
                found[0] = small_float(all & ones(11), 6);
                found[1] = small_float((all >> 11) & ones(11), 6);
                found[2] = small_float(all >> 22, 5);
            }
            Storage::SharedExponent => {
                let all = word(bytes);
                let scale = f64::from((all >> 27) as i32 - 15 - 9).exp2();
                for (at, value) in found.iter_mut().take(3).enumerate() {
                    *value = ((all >> (9 * at)) & ones(9)) as f64 * scale;
                }
            }
        }
        found
    }

    /// Writes a texel. `None` for formats that no device writes in blits.
    pub(super) fn encode(self, texel: Texel, bytes: &mut [u8]) -> Option<()> {
        match self.storage {
            Storage::Components { count, bytes: size, swapped } => {
                for (at, component) in bytes.chunks_exact_mut(size).take(count).enumerate() {
                    let from = place(at, swapped);
                    let value = self.bits(texel[from], 8 * size as u32, from);
                    component.copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
            Storage::Packed { bytes: size, fields } => {
                let (mut all, mut shift) = (0, 0);
                for (bits, from) in fields {
                    all |= self.bits(texel[*from], *bits, *from) << shift;
                    shift += bits;
                }
                bytes.copy_from_slice(&all.to_le_bytes()[..size]);
            }
            Storage::SmallFloats | Storage::SharedExponent => return None,
        }
        Some(())
    }

    /// Returns the number of a component of `bits` bits.
    fn component(self, raw: u64, bits: u32, place: usize) -> f64 {
        let signed = || ((raw << (64 - bits)) as i64 >> (64 - bits)) as f64;
        match self.numeric {
            NumericFormat::Srgb if place < 3 => from_srgb(raw as f64 / ones(bits) as f64),
            NumericFormat::Unorm | NumericFormat::Srgb => raw as f64 / ones(bits) as f64,
            NumericFormat::Snorm => (signed() / (ones(bits) >> 1) as f64).max(-1.0),
            NumericFormat::Uscaled | NumericFormat::Uint => raw as f64,
            NumericFormat::Sscaled | NumericFormat::Sint => signed(),
            NumericFormat::Sfloat => match bits {
                16 => half(raw),
                32 => f32::from_bits(raw as u32).into(),
                _ => f64::from_bits(raw),
            },
        }
    }

    /// Returns the bits of a component, the inverse of [`component`](Self::component).
    fn bits(self, value: f64, bits: u32, place: usize) -> u64 {
        let unorm = |value: f64| (value.clamp(0.0, 1.0) * ones(bits) as f64).round() as u64;
        let most = (ones(bits) >> 1) as f64;
        let signed = |value: f64| (value.round() as i64 as u64) & ones(bits);
        match self.numeric {
            NumericFormat::Srgb if place < 3 => unorm(to_srgb(value.clamp(0.0, 1.0))),
            NumericFormat::Unorm | NumericFormat::Srgb => unorm(value),
            NumericFormat::Snorm => signed(value.clamp(-1.0, 1.0) * most),
            NumericFormat::Uscaled | NumericFormat::Uint => {
                value.round().clamp(0.0, ones(bits) as f64) as u64
            }
            NumericFormat::Sscaled | NumericFormat::Sint => signed(value.clamp(-most - 1.0, most)),
            NumericFormat::Sfloat => match bits {
                16 => to_half(value),
                32 => (value as f32).to_bits().into(),
                _ => value.to_bits(),
            },
        }
    }
}

/// The place of a component in [`Texel`].
fn place(at: usize, swapped: bool) -> usize {
    if swapped && at != 1 && at != 3 { 2 - at } else { at }
}

fn ones(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// Reads a number of at most 8 bytes; all devices here have little-endian hosts.
fn word(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// Decodes the sRGB curve.
fn from_srgb(value: f64) -> f64 {
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// Encodes the sRGB curve.
fn to_srgb(value: f64) -> f64 {
    if value <= 0.003_130_8 { value * 12.92 } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 }
}

/// Reads a float without sign, of 5 bits of exponent and some of mantissa.
fn small_float(raw: u64, mantissa_bits: u32) -> f64 {
    let exponent = (raw >> mantissa_bits) as i32;
    let fraction = (raw & ones(mantissa_bits)) as f64 / f64::from(mantissa_bits).exp2();
    match exponent {
        0 => fraction * (-14_f64).exp2(),
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1.0 + fraction) * f64::from(exponent - 15).exp2(),
    }
}

/// Reads a float of 16 bits.
fn half(raw: u64) -> f64 {
    let value = small_float(raw & 0x7fff, 10);
    if raw & 0x8000 == 0 { value } else { -value }
}

/// Writes a float of 16 bits: the nearest, of two the even one.
fn to_half(value: f64) -> u64 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let size = value.abs();
    if size.is_nan() {
        return sign | 0x7e00;
    }
    if size >= 65_520.0 {
        return sign | 0x7c00;
    }
    // The steps between floats of one exponent.
    let exponent = (size.log2().floor() as i32).max(-14);
    let steps = (size / f64::from(exponent - 10).exp2()).round_ties_even();
    // Of the smallest exponent, those below 1024 steps are denormal; 2048 steps carry into the next one.
    sign | (steps as u64 + (((exponent + 14) as u64) << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(format: Format, bytes: &[u8], expected: Texel) {
        let codec = Codec::of(format).unwrap();
        let found = codec.decode(bytes);
        for (one, two) in found.iter().zip(expected) {
            assert!((one - two).abs() < 1e-6, "{format:?}: {found:?}");
        }
        let mut back = vec![0; bytes.len()];
        codec.encode(found, &mut back).unwrap();
        assert_eq!(back, bytes, "{format:?}");
    }

    #[test]
    fn texels_are_read_and_written() {
        round_trip(Format::R8G8B8A8_UNORM, &[255, 0, 51, 255], [1.0, 0.0, 0.2, 1.0]);
        round_trip(Format::B8G8R8A8_UNORM, &[255, 0, 51, 0], [0.2, 0.0, 1.0, 0.0]);
        round_trip(Format::A8B8G8R8_UNORM_PACK32, &[255, 0, 51, 0], [1.0, 0.0, 0.2, 0.0]);
        round_trip(Format::R8_SNORM, &[0x81], [-1.0, 0.0, 0.0, 1.0]);
        round_trip(Format::R8G8_UINT, &[200, 3], [200.0, 3.0, 0.0, 1.0]);
        round_trip(Format::R16_SINT, &[0xff, 0xff], [-1.0, 0.0, 0.0, 1.0]);
        round_trip(Format::R16_SFLOAT, &[0x00, 0x3c], [1.0, 0.0, 0.0, 1.0]);
        round_trip(Format::R16_SFLOAT, &[0x01, 0x80], [-5.960_464_5e-8, 0.0, 0.0, 1.0]);
        round_trip(Format::R32_SFLOAT, &1.5_f32.to_le_bytes(), [1.5, 0.0, 0.0, 1.0]);
        round_trip(Format::R5G6B5_UNORM_PACK16, &[0x1f, 0xf8], [1.0, 0.0, 1.0, 1.0]);
        round_trip(Format::A1R5G5B5_UNORM_PACK16, &[0x1f, 0x80], [0.0, 0.0, 1.0, 1.0]);
        round_trip(Format::B4G4R4A4_UNORM_PACK16, &[0x0f, 0xf0], [0.0, 0.0, 1.0, 1.0]);
        let word = (1_u32 << 30 | 1023 << 10).to_le_bytes();
        round_trip(Format::A2B10G10R10_UNORM_PACK32, &word, [0.0, 1.0, 0.0, 1.0 / 3.0]);
        let half = from_srgb(188.0 / 255.0);
        assert!((half - 0.5).abs() < 0.01);
        round_trip(Format::R8G8B8A8_SRGB, &[188, 0, 255, 128], [half, 0.0, 1.0, 128.0 / 255.0]);
    }

    #[test]
    fn every_half_survives() {
        for raw in (0..0x7c00_u64).chain(0x8000..0xfc00) {
            assert_eq!(to_half(half(raw)), raw, "{raw:#x}");
        }
        assert_eq!(to_half(65_504.0), 0x7bff);
        assert_eq!(to_half(65_519.9), 0x7bff);
        assert_eq!(to_half(65_520.0), 0x7c00);
        assert_eq!(to_half(f64::INFINITY), 0x7c00);
        assert!(half(to_half(f64::NAN)).is_nan());
    }

    #[test]
    fn floats_without_sign_are_read() {
        let codec = Codec::of(Format::B10G11R11_UFLOAT_PACK32).unwrap();
        // 1.0 has exponent 15.
        let word = (15_u32 << 6 | (16 << 6) << 11 | (15 << 5 | 16) << 22).to_le_bytes();
        assert_eq!(codec.decode(&word), [1.0, 2.0, 1.5, 1.0]);
        let codec = Codec::of(Format::E5B9G9R9_UFLOAT_PACK32).unwrap();
        let word = (16_u32 << 27 | 256 | 128 << 9 | 511 << 18).to_le_bytes();
        assert_eq!(codec.decode(&word), [1.0, 0.5, 511.0 / 256.0, 1.0]);
        assert!(codec.encode([0.0; 4], &mut [0; 4]).is_none());
        assert!(Codec::of(Format::BC1_RGB_UNORM_BLOCK).is_none());
        assert!(Codec::of(Format::D16_UNORM).is_none());
    }
}
