//! [`RequirementRules`]: the memory requirements that a simulated driver reports.

use ash::vk;
use vkmem_engine::{DeviceInfo, DeviceType, MemoryPropertyFlags, MemoryRequirements};

use crate::driver::disjoint::combined_requirements;
use crate::driver::format::{self, FormatBlock, FormatPlane};
use crate::driver::image_format::{ImageFormatInfo, ImageFormatProperties, ImageSupport};
use vkmem_engine::words::{bytes, counted};

/// Images above this many bytes prefer dedicated memory on a discrete GPU.
const DEDICATED_IMAGE_SIZE: u64 = 256 << 20;

/// Alignment in bytes of acceleration structures and shader binding tables, on all hardware.
const RAY_TRACING_ALIGNMENT: u64 = 256;

/// Bytes per texel of formats without a known block: those of the largest texel in common use.
const UNKNOWN_TEXEL_BYTES: u64 = 16;

const TOO_MANY_BYTES: &str = "an image of more bytes than a u64 counts";

/// The rules for memory requirements of create infos. All sizes and alignments are in bytes; sizes are
/// rounded up to the alignment, as drivers do.
///
/// | profile | buffer | image below / from a size | linear image | types of optimal images |
/// | --- | --- | --- | --- | --- |
/// | `nvidia-h200` | 16 | 1 KiB / 64 KiB from 128 KiB | 256 | 0 and 1, as measured |
/// | `lavapipe` | 64 | 64 | 64 | all |
/// | `discrete-8gib` | 16 | 1 KiB / 64 KiB from 128 KiB | 256 | all |
/// | `discrete-8gib-bar` | 16 | 4 KiB / 64 KiB from 64 KiB | 256 | all |
/// | `integrated` | 64 | 4 KiB / 64 KiB from 1 MiB | 64 | all |
/// | `raspberry-pi` | 256 | 4 KiB | 256 | all |
/// | `moltenvk` | 16 | 256 / 16 KiB from 16 KiB | 256 | all; linear images only type 1 |
/// | `non-coherent`, others | 16 | 4 KiB | 256 | all |
///
/// | profile | longest side, 1D and 2D | 3D | layers | samples |
/// | --- | --- | --- | --- | --- |
/// | `nvidia-h200` | 32,768 | 16,384 | 2,048 | 1, 2, 4, 8 |
/// | `lavapipe` | 16,384 | 4,096 | 2,048 | 1, 4 |
/// | `discrete-8gib`, `discrete-8gib-bar` | 16,384 | 8,192 | 8,192 | 1, 2, 4, 8 |
/// | `integrated` | 16,384 | 2,048 | 2,048 | 1, 2, 4, 8, 16 |
/// | `raspberry-pi` | 4,096 | 4,096 | 2,048 | 1, 4 |
/// | `moltenvk` | 16,384 | 2,048 | 2,048 | 1, 2, 4 |
/// | `non-coherent`, others | 16,384 | 2,048 | 2,048 | 1, 2, 4, 8 |
///
/// An image of linear tiling has one level, one layer and one sample; its rows are padded to 32 bytes.
///
/// "All" leaves out lazily allocated types, which only images with `TRANSIENT_ATTACHMENT` usage may
/// use, and protected ones, which resources use that are created protected, and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequirementRules {
    /// Minimum alignment of buffers in bytes; some usages raise it to the limits of the device.
    pub buffer_alignment: u64,
    /// Alignment in bytes of optimally tiled images below `large_image_size`.
    pub small_image_alignment: u64,
    /// Alignment in bytes of optimally tiled images from `large_image_size` on.
    pub large_image_alignment: u64,
    /// Size in bytes from which on an image is large.
    pub large_image_size: u64,
    /// Alignment in bytes of linearly tiled images.
    pub linear_image_alignment: u64,
    /// Bit i: buffers may use memory type i.
    pub buffer_types: u32,
    /// Bit i: optimally tiled images may use memory type i.
    pub optimal_image_types: u32,
    /// Bit i: linearly tiled images may use memory type i.
    pub linear_image_types: u32,
    /// Images above this many bytes prefer dedicated memory; `None`: no image does.
    pub dedicated_image_size: Option<u64>,
    /// Maximum side of a 1D or 2D image in texels.
    pub max_image_side: u32,
    /// Maximum side of a 3D image in texels.
    pub max_volume_side: u32,
    /// Maximum number of array layers of a 1D or 2D image.
    pub max_image_layers: u32,
    /// `VkSampleCountFlags` of optimally tiled 2D images.
    pub sample_counts: u32,
    /// Whether images may be filtered and blitted in the formats that desktop devices support beyond those
    /// that Vulkan makes mandatory: 16 bits UNORM, linear filters of 32-bit floats, and the like.
    pub has_desktop_formats: bool,
}

impl RequirementRules {
    /// Returns the rules of a profile of the simulated device.
    pub fn of_profile(name: &str, info: &DeviceInfo) -> Self {
        let general = Self::of_device(info);
        match name {
            "nvidia-h200" => Self {
                small_image_alignment: 1024,
                large_image_size: 128 << 10,
                large_image_alignment: 64 << 10,
                optimal_image_types: 0b11,
                max_image_side: 32_768,
                max_volume_side: 16_384,
                ..general
            },
            "lavapipe" => Self {
                buffer_alignment: 64,
                small_image_alignment: 64,
                large_image_alignment: 64,
                linear_image_alignment: 64,
                max_volume_side: 4096,
                sample_counts: 1 | 4,
                has_desktop_formats: true,
                ..general
            },
            "discrete-8gib" => Self {
                small_image_alignment: 1024,
                large_image_size: 128 << 10,
                large_image_alignment: 64 << 10,
                max_volume_side: 8192,
                max_image_layers: 8192,
                ..general
            },
            "discrete-8gib-bar" => Self {
                large_image_size: 64 << 10,
                large_image_alignment: 64 << 10,
                max_volume_side: 8192,
                max_image_layers: 8192,
                ..general
            },
            "integrated" => Self {
                buffer_alignment: 64,
                large_image_size: 1 << 20,
                large_image_alignment: 64 << 10,
                linear_image_alignment: 64,
                sample_counts: 1 | 2 | 4 | 8 | 16,
                has_desktop_formats: true,
                ..general
            },
            "raspberry-pi" => Self {
                buffer_alignment: 256,
                max_image_side: 4096,
                max_volume_side: 4096,
                sample_counts: 1 | 4,
                ..general
            },
            "moltenvk" => Self {
                small_image_alignment: 256,
                large_image_size: 16 << 10,
                large_image_alignment: 16 << 10,
                linear_image_types: 0b10,
                sample_counts: 1 | 2 | 4,
                ..general
            },
            _ => general,
        }
    }

    /// Returns the rules of a device outside of the profiles.
    pub fn of_device(info: &DeviceInfo) -> Self {
        let all = u32::MAX >> (32 - info.types.len());
        let discrete = info.device_type == DeviceType::DiscreteGpu;
        Self {
            buffer_alignment: 16,
            small_image_alignment: 4096,
            large_image_alignment: 4096,
            large_image_size: u64::MAX,
            linear_image_alignment: 256,
            buffer_types: all,
            optimal_image_types: all,
            linear_image_types: all,
            dedicated_image_size: discrete.then_some(DEDICATED_IMAGE_SIZE),
            max_image_side: 16_384,
            max_volume_side: 2048,
            max_image_layers: 2048,
            sample_counts: 1 | 2 | 4 | 8,
            has_desktop_formats: discrete,
        }
    }

    /// Returns the limits of a kind of image.
    pub(super) fn image_format(&self, kind: &ImageFormatInfo) -> ImageSupport {
        let format = vk::Format::from_raw(kind.format);
        let flags = vk::ImageCreateFlags::from_raw(kind.flags);
        let image_type = vk::ImageType::from_raw(kind.image_type);
        let linear = kind.tiling == vk::ImageTiling::LINEAR.as_raw();
        let flat = image_type == vk::ImageType::TYPE_2D;
        let cube = flags.contains(vk::ImageCreateFlags::CUBE_COMPATIBLE);
        if cube && !flat {
            return ImageSupport::None;
        }
        let (side, volume) = (self.max_image_side, self.max_volume_side);
        let (max_extent, max_array_layers) = match image_type {
            vk::ImageType::TYPE_1D => ((side, 1, 1), self.max_image_layers),
            vk::ImageType::TYPE_2D => ((side, side, 1), self.max_image_layers),
            _ => ((volume, volume, volume), 1),
        };
        let is_compressed = format::block(format).is_some_and(|it| it.width > 1 || it.height > 1);
        let is_single = linear || cube || !flat || is_compressed;
        let longest = if image_type == vk::ImageType::TYPE_3D { volume } else { side };
        ImageSupport::UpTo(ImageFormatProperties {
            max_extent,
            max_mip_levels: if linear { 1 } else { longest.ilog2() + 1 },
            max_array_layers: if linear { 1 } else { max_array_layers },
            sample_counts: if is_single { 1 } else { self.sample_counts },
        })
    }

    /// Returns the requirements of a buffer. `Err` says why it cannot exist.
    pub(super) fn buffer(
        &self,
        info: &DeviceInfo,
        buffer: &BufferShape,
    ) -> Result<MemoryRequirements, String> {
        if buffer.size == 0 {
            return Err("a buffer of size zero".into());
        }
        if buffer.usage == 0 {
            return Err("a buffer without usage".into());
        }
        let mut alignment = self.buffer_alignment;
        let mut at_least = |usages: vk::BufferUsageFlags, least: u64| {
            if buffer.usage & u64::from(usages.as_raw()) != 0 {
                alignment = alignment.max(least);
            }
        };
        let limits = &info.limits;
        at_least(vk::BufferUsageFlags::UNIFORM_BUFFER, limits.min_uniform_buffer_offset_alignment);
        at_least(vk::BufferUsageFlags::STORAGE_BUFFER, limits.min_storage_buffer_offset_alignment);
        at_least(
            vk::BufferUsageFlags::UNIFORM_TEXEL_BUFFER | vk::BufferUsageFlags::STORAGE_TEXEL_BUFFER,
            limits.min_texel_buffer_offset_alignment,
        );
        at_least(
            vk::BufferUsageFlags::ACCELERATION_STRUCTURE_STORAGE_KHR
                | vk::BufferUsageFlags::SHADER_BINDING_TABLE_KHR,
            RAY_TRACING_ALIGNMENT,
        );
        let protected = buffer.flags.contains(vk::BufferCreateFlags::PROTECTED);
        Ok(MemoryRequirements {
            size: round_up(buffer.size, alignment)?,
            alignment,
            memory_type_bits: usable(info, self.buffer_types, protected, false),
            prefers_dedicated: false,
            requires_dedicated: false,
        })
    }

    /// Returns the requirements of an image. `Err` says why it cannot exist.
    pub(super) fn image(
        &self,
        info: &DeviceInfo,
        image: &ImageShape,
    ) -> Result<MemoryRequirements, String> {
        image.check()?;
        let planes = format::planes(image.format);
        if !image.flags.contains(vk::ImageCreateFlags::DISJOINT) {
            let bytes = image.bytes(None).ok_or(TOO_MANY_BYTES)?;
            return self.image_of(info, image, bytes);
        }
        if planes.is_empty() {
            return Err("a disjoint image of a format without planes".into());
        }
        let all: Vec<_> = (0..planes.len())
            .map(|plane| self.plane(info, image, plane as u32))
            .collect::<Result<_, _>>()?;
        Ok(combined_requirements(&all).0)
    }

    /// Returns the requirements of one plane of a disjoint image. `Err` says why there is none.
    pub(super) fn plane(
        &self,
        info: &DeviceInfo,
        image: &ImageShape,
        plane: u32,
    ) -> Result<MemoryRequirements, String> {
        let planes = format::planes(image.format);
        let Some(of_plane) = planes.get(plane as usize) else {
            return Err(format!("plane {plane} of an image of {}", counted(planes.len(), "plane")));
        };
        if !image.flags.contains(vk::ImageCreateFlags::DISJOINT) {
            return Err(format!("plane {plane} of an image that is not disjoint"));
        }
        let bytes = image.bytes(Some(*of_plane)).ok_or(TOO_MANY_BYTES)?;
        self.image_of(info, image, bytes)
    }

    fn image_of(
        &self,
        info: &DeviceInfo,
        image: &ImageShape,
        bytes: u64,
    ) -> Result<MemoryRequirements, String> {
        let linear = image.tiling == vk::ImageTiling::LINEAR;
        let alignment = if linear {
            self.linear_image_alignment
        } else if bytes >= self.large_image_size {
            self.large_image_alignment
        } else {
            self.small_image_alignment
        };
        let types = if linear { self.linear_image_types } else { self.optimal_image_types };
        let protected = image.flags.contains(vk::ImageCreateFlags::PROTECTED);
        let transient = image.usage.contains(vk::ImageUsageFlags::TRANSIENT_ATTACHMENT);
        let size = round_up(bytes, alignment)?;
        Ok(MemoryRequirements {
            size,
            alignment,
            memory_type_bits: usable(info, types, protected, transient),
            prefers_dedicated: self.dedicated_image_size.is_some_and(|limit| size > limit),
            requires_dedicated: false,
        })
    }
}

/// The stored part of a `VkBufferCreateInfo`.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferShape {
    pub(super) size: u64,
    /// `VkBufferUsageFlags2`
    pub(super) usage: u64,
    pub(super) flags: vk::BufferCreateFlags,
}

/// The stored part of a `VkImageCreateInfo`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImageShape {
    pub(super) flags: vk::ImageCreateFlags,
    pub(super) image_type: vk::ImageType,
    pub(super) format: vk::Format,
    pub(super) extent: vk::Extent3D,
    pub(super) mip_levels: u32,
    pub(super) array_layers: u32,
    pub(super) samples: vk::SampleCountFlags,
    pub(super) tiling: vk::ImageTiling,
    pub(super) usage: vk::ImageUsageFlags,
    pub(super) layout: vk::ImageLayout,
}

impl ImageShape {
    pub(super) fn of(info: &vk::ImageCreateInfo<'_>) -> Self {
        Self {
            flags: info.flags,
            image_type: info.image_type,
            format: info.format,
            extent: info.extent,
            mip_levels: info.mip_levels,
            array_layers: info.array_layers,
            samples: info.samples,
            tiling: info.tiling,
            usage: info.usage,
            layout: info.initial_layout,
        }
    }

    /// Checks the rules of `VkImageCreateInfo` that a caller violates by leaving a field at zero.
    fn check(&self) -> Result<(), String> {
        let vk::Extent3D { width, height, depth } = self.extent;
        let largest = width.max(height).max(depth);
        let flat = match self.image_type {
            vk::ImageType::TYPE_1D => height == 1 && depth == 1,
            vk::ImageType::TYPE_2D => depth == 1,
            _ => true,
        };
        let wrong = if width == 0 || height == 0 || depth == 0 {
            "without extent"
        } else if !flat {
            "with more dimensions than its type"
        } else if self.mip_levels == 0 || self.mip_levels > largest.ilog2() + 1 {
            "with no mip level, or more than halving its extent gives"
        } else if self.array_layers == 0 {
            "without array layers"
        } else if self.samples.as_raw().count_ones() != 1 {
            "without one sample count"
        } else if self.usage.is_empty() {
            "without usage"
        } else if self.format == vk::Format::UNDEFINED {
            "without a format"
        } else if !matches!(
            self.layout,
            vk::ImageLayout::UNDEFINED | vk::ImageLayout::PREINITIALIZED
        ) {
            "whose initial layout is neither undefined nor preinitialized"
        } else {
            return Ok(());
        };
        Err(format!("an image {wrong}"))
    }

    /// Returns the bytes of all levels, layers and samples, tightly packed but for the rows of linear
    /// tiling; of one plane if given. `None` on overflow.
    fn bytes(&self, plane: Option<FormatPlane>) -> Option<u64> {
        let plane =
            plane.map(|FormatPlane { bytes, width, height }| FormatBlock { bytes, width, height });
        let block = plane.or_else(|| format::block(self.format));
        let is_known = block.is_some() || !format::planes(self.format).is_empty();
        let mut levels = 0_u64;
        for level in 0..self.mip_levels {
            let extent = self.extent_of(level);
            let bytes = match block {
                _ if self.tiling == vk::ImageTiling::LINEAR && is_known => {
                    self.linear_bytes(plane, level)?
                }
                Some(block) => block.size_of(extent)?,
                None => u64::from(extent.width)
                    .checked_mul(extent.height.into())?
                    .checked_mul(extent.depth.into())?
                    .checked_mul(UNKNOWN_TEXEL_BYTES)?,
            };
            levels = levels.checked_add(bytes)?;
        }
        // The bit of a sample count is the count itself.
        levels.checked_mul(self.array_layers.into())?.checked_mul(self.samples.as_raw().into())
    }
}

fn round_up(size: u64, alignment: u64) -> Result<u64, String> {
    let rounded = size.checked_next_multiple_of(alignment);
    rounded.ok_or_else(|| format!("{}, more than any memory", bytes(size)))
}

/// Returns the allowed memory types without those reserved for protected or transient resources.
fn usable(info: &DeviceInfo, allowed: u32, protected: bool, transient: bool) -> u32 {
    let types = info.types.iter().enumerate().filter(|(index, memory_type)| {
        allowed & (1 << index) != 0
            && memory_type.flags.contains(MemoryPropertyFlags::PROTECTED) == protected
            && (transient || !memory_type.flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED))
    });
    types.fold(0, |bits, (index, _)| bits | 1 << index)
}
