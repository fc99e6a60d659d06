//! What resources require of a simulated device, where a trace says only what they are.

use vkmem_engine::{
    DeviceInfo, DeviceType, MemoryPropertyFlags, MemoryUsage, ResourceKind, profile_info,
};

use super::formats::bytes_of_level;
use crate::description::Description;
use crate::error::Format;
use crate::values::{BufferInfo, ImageInfo, Request, Resource};

/// Images above this many bytes prefer memory of their own on a discrete GPU.
const DEDICATED_IMAGE: u64 = 256 << 20;
/// Alignment of buffers in bytes, unless their usage asks for more.
const BUFFER_ALIGNMENT: u64 = 16;
/// Alignment of images of optimal and of linear tiling in bytes.
const IMAGE_ALIGNMENT: (u64, u64) = (4096, 256);
/// Rows of images of linear tiling are padded to this many bytes.
const ROW: u64 = 32;
/// `VK_BUFFER_CREATE_PROTECTED_BIT` and `VK_IMAGE_CREATE_PROTECTED_BIT`
const PROTECTED: (u32, u32) = (0x8, 0x800);
/// `VK_IMAGE_USAGE_TRANSIENT_ATTACHMENT_BIT`
const TRANSIENT: u64 = 0x40;
/// Acceleration structures and shader binding tables, and their alignment in bytes on all hardware.
const RAY_TRACING: (u64, u64) = (0x10_0400, 256);

/// Returns the device of a trace, or one that fits its kind.
pub(super) fn device_of(description: &Description) -> DeviceInfo {
    if let Some(device) = &description.device {
        return device.clone();
    }
    let name = match description.format {
        // Both record GPUs for computing.
        Format::PyTorch | Format::RmmCsv => "nvidia-h200",
        Format::VkMem | Format::VmaCsv => "discrete-8gib",
    };
    profile_info(name).expect("a profile of this library")
}

/// Completes a request of which the trace does not say all: its size in bytes, and alignment, memory types and kind of
/// resource. `None` if no memory has room for it, or nothing tells its size.
pub(super) fn complete(
    info: &DeviceInfo,
    format: Format,
    request: &Request,
    size: Option<u64>,
    buffer_size: Option<u64>,
) -> Option<(u64, Request)> {
    if let (Some(size), Some(_), Some(_)) = (size, request.alignment, request.memory_type_bits) {
        return Some((size, *request));
    }
    let mut complete = *request;
    let (least, protected, transient) = match &request.resource {
        Resource::Buffer(buffer) => {
            let alignment = buffer_alignment(info, buffer);
            (rounded(buffer_size?, alignment)?, buffer.flags & PROTECTED.0 != 0, false)
        }
        Resource::Image(image) => {
            let alignment = if image.tiling == 1 { IMAGE_ALIGNMENT.1 } else { IMAGE_ALIGNMENT.0 };
            let needs = rounded(image_bytes(image)?, alignment)?;
            if info.device_type == DeviceType::DiscreteGpu && needs.0 > DEDICATED_IMAGE {
                complete.prefers_dedicated = true;
            }
            (needs, image.flags & PROTECTED.1 != 0, image.usage & TRANSIENT != 0)
        }
        Resource::Stream(_) => {
            // Memory of CUDA: of the device, without kinds of resources.
            complete.usage = MemoryUsage::Unknown;
            complete.required_flags |= MemoryPropertyFlags::DEVICE_LOCAL;
            complete.kind = ResourceKind::Buffer;
            let alignment = if format == Format::PyTorch { 512 } else { 256 };
            (rounded(size?, alignment)?, false, false)
        }
        Resource::Unknown => ((size?, BUFFER_ALIGNMENT), false, false),
    };
    complete.alignment = request.alignment.or(Some(least.1));
    let bits = request.memory_type_bits.unwrap_or_else(|| types(info, protected, transient));
    complete.memory_type_bits = Some(bits);
    Some((size.unwrap_or(least.0), complete))
}

/// Returns a size rounded up to an alignment, and the alignment.
fn rounded(size: u64, alignment: u64) -> Option<(u64, u64)> {
    Some((size.max(1).checked_next_multiple_of(alignment)?, alignment))
}

fn buffer_alignment(info: &DeviceInfo, buffer: &BufferInfo) -> u64 {
    let limits = &info.limits;
    let at_least = [
        (0x10, limits.min_uniform_buffer_offset_alignment),
        (0x20, limits.min_storage_buffer_offset_alignment),
        (0xC, limits.min_texel_buffer_offset_alignment),
        RAY_TRACING,
    ];
    let used = at_least.into_iter().filter(|(usage, _)| buffer.usage & usage != 0);
    used.map(|(_, least)| least).fold(BUFFER_ALIGNMENT, u64::max)
}

/// Returns the bytes of all levels, layers and samples.
fn image_bytes(image: &ImageInfo) -> Option<u64> {
    let mut levels = 0_u64;
    // More levels than the bits of a side are no levels.
    for level in 0..image.mip_levels.min(32) {
        let side = |it: u32| (it >> level).max(1);
        let [width, height, depth] = image.extent.map(side);
        let bytes = if image.tiling == 1 {
            let row = bytes_of_level(image.format, [width, 1, 1])?.checked_next_multiple_of(ROW)?;
            row.checked_mul(height.into())?.checked_mul(depth.into())?
        } else {
            bytes_of_level(image.format, [width, height, depth])?
        };
        levels = levels.checked_add(bytes)?;
    }
    // The bit of a number of samples is the number itself.
    levels.checked_mul(image.array_layers.into())?.checked_mul(image.samples.max(1).into())
}

fn types(info: &DeviceInfo, protected: bool, transient: bool) -> u32 {
    let usable = info.types.iter().enumerate().filter(|(_, it)| {
        it.flags.contains(MemoryPropertyFlags::PROTECTED) == protected
            && (transient || !it.flags.contains(MemoryPropertyFlags::LAZILY_ALLOCATED))
    });
    usable.fold(0, |bits, (index, _)| bits | 1 << index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(resource: Resource, buffer_size: Option<u64>) -> (u64, Option<u64>, Option<u32>) {
        let info = profile_info("discrete-8gib").expect("a profile");
        let request = Request { resource, ..Request::default() };
        let (size, it) =
            complete(&info, Format::VmaCsv, &request, None, buffer_size).expect("it has room");
        (size, it.alignment, it.memory_type_bits)
    }

    #[test]
    fn requirements_of_resources() {
        let info = profile_info("discrete-8gib").expect("a profile");
        let all = types(&info, false, false);
        let buffer = |usage| Resource::Buffer(BufferInfo { usage, ..BufferInfo::default() });
        assert_eq!(needs(buffer(0x80), Some(100)), (112, Some(16), Some(all)));
        let uniform = info.limits.min_uniform_buffer_offset_alignment;
        assert_eq!(needs(buffer(0x10), Some(1)), (uniform, Some(uniform), Some(all)));
        let image = ImageInfo {
            format: 37,
            extent: [128, 64, 1],
            mip_levels: 2,
            array_layers: 3,
            samples: 1,
            ..ImageInfo::default()
        };
        let bytes = (128 * 64 * 4 + 64 * 32 * 4) * 3_u64;
        let expected = bytes.next_multiple_of(4096);
        assert_eq!(needs(Resource::Image(image), None), (expected, Some(4096), Some(all)));
        let linear =
            ImageInfo { tiling: 1, extent: [1, 7, 1], mip_levels: 1, array_layers: 1, ..image };
        assert_eq!(needs(Resource::Image(linear), None), (256, Some(256), Some(all)));
    }

    #[test]
    fn what_has_no_size_is_not_guessed() {
        let info = profile_info("discrete-8gib").expect("a profile");
        let of = |resource, size| {
            let request = Request { resource, ..Request::default() };
            complete(&info, Format::RmmCsv, &request, size, None)
        };
        assert_eq!(of(Resource::Unknown, None), None);
        assert_eq!(of(Resource::Buffer(BufferInfo::default()), None), None);
        let huge =
            ImageInfo { extent: [u32::MAX; 3], mip_levels: u32::MAX, ..ImageInfo::default() };
        assert_eq!(of(Resource::Image(huge), None), None);
        let (size, request) = of(Resource::Stream(1), Some(1000)).expect("it has a size");
        assert_eq!((size, request.alignment), (1000, Some(256)));
    }
}
