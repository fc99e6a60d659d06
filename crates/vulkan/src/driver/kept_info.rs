//! Create infos that are kept, with what is known of their `pNext` chains, so that a buffer or an image can
//! be created once more in another place.

use ash::vk;

use crate::driver::chain;
use crate::driver::submission::layout_aspects;

use vk::ExternalMemoryHandleTypeFlags as HandleTypes;

const BUFFER_TRANSFER: u64 = (vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
    | vk::BufferUsageFlags::TRANSFER_DST.as_raw()) as u64;

fn image_transfer() -> vk::ImageUsageFlags {
    vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST
}

/// A structure in the chain that would have to be copied, and is not known.
const UNKNOWN_STRUCT: &str = "its create info has a pNext struct whose contents are not known";
const EXPORTED: &str = "its memory is shared with others (VkExternalMemory*CreateInfo)";
const SPARSE: &str = "it is sparse: its memory is bound by the caller";
const PROTECTED: &str = "it is protected: its memory cannot be copied to memory that is not";

/// The queue families that share a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sharing {
    mode: vk::SharingMode,
    families: Box<[u32]>,
}

impl Sharing {
    /// # Safety
    /// With `CONCURRENT` sharing, `families` leads to `count` numbers.
    unsafe fn of(mode: vk::SharingMode, count: u32, families: *const u32) -> Self {
        let is_shared = mode == vk::SharingMode::CONCURRENT && count > 0 && !families.is_null();
        let families = if is_shared {
            // SAFETY: the caller guarantees the array, which Vulkan only reads with this mode.
            unsafe { std::slice::from_raw_parts(families, count as usize) }.into()
        } else {
            Box::default()
        };
        Self { mode, families }
    }
}

/// A `VkBufferCreateInfo` with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBuffer {
    flags: vk::BufferCreateFlags,
    size: u64,
    usage: u64,
    /// Whether the usage is in a `VkBufferUsageFlags2CreateInfo`.
    has_wide_usage: bool,
    sharing: Sharing,
    /// Handle types of a `VkExternalMemoryBufferCreateInfo`; 0 for none.
    handle_types: u32,
}

/// The structures that a [`KeptBuffer`] chains to its create info.
#[derive(Clone, Copy, Debug, Default)]
pub struct BufferLinks {
    usage: vk::BufferUsageFlags2CreateInfoKHR<'static>,
    external: vk::ExternalMemoryBufferCreateInfo<'static>,
}

// SAFETY: the pointers inside are set by `KeptBuffer::info`, and lead to what it borrows.
unsafe impl Send for BufferLinks {}

impl KeptBuffer {
    /// Keeps a create info, with the usages that a copy needs; or says why such a buffer cannot move.
    ///
    /// # Safety
    /// The create info is valid.
    pub unsafe fn of(info: &vk::BufferCreateInfo<'_>) -> Result<Self, &'static str> {
        // SAFETY: the caller guarantees a valid create info.
        let kept = unsafe { Self::of_any(info)? };
        if kept.handle_types == 0 { Ok(kept) } else { Err(EXPORTED) }
    }

    /// Keeps a create info as [`of`](Self::of) does, also that of a buffer whose memory is shared with others: for
    /// moves of which its owner tells them.
    ///
    /// # Safety
    /// The create info is valid.
    pub unsafe fn of_any(info: &vk::BufferCreateInfo<'_>) -> Result<Self, &'static str> {
        type Flags = vk::BufferCreateFlags;
        // SAFETY: the caller guarantees a valid chain.
        let read = unsafe { chain::of_buffer(info) };
        let sparse = Flags::SPARSE_BINDING | Flags::SPARSE_RESIDENCY | Flags::SPARSE_ALIASED;
        if info.flags.intersects(sparse) {
            return Err(SPARSE);
        }
        if info.flags.contains(Flags::PROTECTED) {
            return Err(PROTECTED);
        }
        if info.flags.contains(Flags::DEVICE_ADDRESS_CAPTURE_REPLAY) || read.has_capture_address {
            return Err("its device address was captured (opaqueCaptureAddress): it cannot change");
        }
        if read.has_others {
            return Err(UNKNOWN_STRUCT);
        }
        // SAFETY: the caller guarantees the array.
        let sharing = unsafe {
            let (count, families) = (info.queue_family_index_count, info.p_queue_family_indices);
            Sharing::of(info.sharing_mode, count, families)
        };
        let usage = read.wide_usage.unwrap_or(u64::from(info.usage.as_raw())) | BUFFER_TRANSFER;
        let has_wide_usage = read.wide_usage.is_some();
        let (flags, size, handle_types) = (info.flags, info.size, read.handle_types);
        Ok(Self { flags, size, usage, has_wide_usage, sharing, handle_types })
    }

    /// Returns the create info; `links` is overwritten, and becomes its chain where one is needed.
    pub fn info<'a>(&'a self, links: &'a mut BufferLinks) -> vk::BufferCreateInfo<'a> {
        *links = BufferLinks::default();
        let mut info = vk::BufferCreateInfo::default()
            .flags(self.flags)
            .size(self.size)
            .usage(vk::BufferUsageFlags::from_raw(self.usage as u32))
            .sharing_mode(self.sharing.mode)
            .queue_family_indices(&self.sharing.families);
        if self.has_wide_usage {
            links.usage.usage = vk::BufferUsageFlags2KHR::from_raw(self.usage);
            info = info.push_next(&mut links.usage);
        }
        if self.handle_types != 0 {
            links.external.handle_types = HandleTypes::from_raw(self.handle_types);
            info = info.push_next(&mut links.external);
        }
        info
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A `VkImageCreateInfo` with its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptImage {
    flags: vk::ImageCreateFlags,
    image_type: vk::ImageType,
    format: vk::Format,
    extent: vk::Extent3D,
    mip_levels: u32,
    array_layers: u32,
    samples: vk::SampleCountFlags,
    tiling: vk::ImageTiling,
    usage: vk::ImageUsageFlags,
    sharing: Sharing,
    initial_layout: vk::ImageLayout,
    stencil_usage: Option<vk::ImageUsageFlags>,
    view_formats: Option<Box<[vk::Format]>>,
    /// Handle types of a `VkExternalMemoryImageCreateInfo`; 0 for none.
    handle_types: u32,
}

/// The structures that a [`KeptImage`] chains to its create info.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageLinks {
    stencil_usage: vk::ImageStencilUsageCreateInfo<'static>,
    view_formats: vk::ImageFormatListCreateInfo<'static>,
    external: vk::ExternalMemoryImageCreateInfo<'static>,
}

// SAFETY: the pointers inside are set by `KeptImage::info`, and lead to what it borrows.
unsafe impl Send for ImageLinks {}

impl KeptImage {
    /// Keeps a create info, with the usages that a copy needs; or says why such an image cannot move.
    ///
    /// # Safety
    /// The create info is valid.
    pub unsafe fn of(info: &vk::ImageCreateInfo<'_>) -> Result<Self, &'static str> {
        // SAFETY: the caller guarantees a valid create info.
        let kept = unsafe { Self::of_any(info)? };
        if kept.handle_types == 0 { Ok(kept) } else { Err(EXPORTED) }
    }

    /// Keeps a create info as [`of`](Self::of) does, also that of an image whose memory is shared with others: for
    /// moves of which its owner tells them.
    ///
    /// # Safety
    /// The create info is valid.
    pub unsafe fn of_any(info: &vk::ImageCreateInfo<'_>) -> Result<Self, &'static str> {
        type Flags = vk::ImageCreateFlags;
        // SAFETY: the caller guarantees a valid chain.
        let read = unsafe { chain::of_image(info) };
        let sparse = Flags::SPARSE_BINDING | Flags::SPARSE_RESIDENCY | Flags::SPARSE_ALIASED;
        if info.flags.intersects(sparse) {
            return Err(SPARSE);
        }
        if info.flags.contains(Flags::PROTECTED) {
            return Err(PROTECTED);
        }
        if info.flags.contains(Flags::SUBSAMPLED_EXT) {
            return Err("it is subsampled: such an image cannot be copied");
        }
        let usage =
            info.usage | read.stencil_usage.map_or(info.usage, vk::ImageUsageFlags::from_raw);
        if usage.contains(vk::ImageUsageFlags::TRANSIENT_ATTACHMENT) {
            return Err("it is a TRANSIENT_ATTACHMENT: such an image cannot be copied");
        }
        if info.tiling == vk::ImageTiling::DRM_FORMAT_MODIFIER_EXT {
            return Err(
                "its layout in memory is fixed by a DRM format modifier, for others to use",
            );
        }
        if read.has_others {
            return Err(UNKNOWN_STRUCT);
        }
        // SAFETY: the caller guarantees the array.
        let sharing = unsafe {
            let (count, families) = (info.queue_family_index_count, info.p_queue_family_indices);
            Sharing::of(info.sharing_mode, count, families)
        };
        let stencil_usage =
            read.stencil_usage.map(|bits| vk::ImageUsageFlags::from_raw(bits) | image_transfer());
        let formats = read.view_formats.iter().map(|it| vk::Format::from_raw(*it));
        let view_formats = (!read.view_formats.is_empty()).then(|| formats.collect());
        Ok(Self {
            flags: info.flags,
            image_type: info.image_type,
            format: info.format,
            extent: info.extent,
            mip_levels: info.mip_levels,
            array_layers: info.array_layers,
            samples: info.samples,
            tiling: info.tiling,
            usage: info.usage | image_transfer(),
            sharing,
            initial_layout: info.initial_layout,
            stencil_usage,
            view_formats,
            handle_types: read.handle_types,
        })
    }

    /// Returns the create info; `links` is overwritten, and becomes its chain where one is needed.
    pub fn info<'a>(&'a self, links: &'a mut ImageLinks) -> vk::ImageCreateInfo<'a> {
        let mut info = vk::ImageCreateInfo::default()
            .flags(self.flags)
            .image_type(self.image_type)
            .format(self.format)
            .extent(self.extent)
            .mip_levels(self.mip_levels)
            .array_layers(self.array_layers)
            .samples(self.samples)
            .tiling(self.tiling)
            .usage(self.usage)
            .sharing_mode(self.sharing.mode)
            .queue_family_indices(&self.sharing.families)
            .initial_layout(self.initial_layout);
        *links = ImageLinks::default();
        if let Some(usage) = self.stencil_usage {
            links.stencil_usage.stencil_usage = usage;
            info = info.push_next(&mut links.stencil_usage);
        }
        if let Some(formats) = &self.view_formats {
            links.view_formats.view_format_count = formats.len() as u32;
            links.view_formats.p_view_formats = formats.as_ptr();
            info = info.push_next(&mut links.view_formats);
        }
        if self.handle_types != 0 {
            links.external.handle_types = HandleTypes::from_raw(self.handle_types);
            info = info.push_next(&mut links.external);
        }
        info
    }

    /// The format.
    pub fn format(&self) -> vk::Format {
        self.format
    }

    /// Width, height and depth in texels.
    pub fn extent(&self) -> vk::Extent3D {
        self.extent
    }

    /// The layout that it was created in.
    pub fn initial_layout(&self) -> vk::ImageLayout {
        self.initial_layout
    }

    /// The number of samples of a texel.
    pub fn samples(&self) -> vk::SampleCountFlags {
        self.samples
    }

    /// Whether only a queue with `GRAPHICS` copies it.
    pub fn needs_graphics(&self) -> bool {
        self.samples != vk::SampleCountFlags::TYPE_1
            || layout_aspects(self.format) != vk::ImageAspectFlags::COLOR
    }

    /// Number of mip levels.
    pub fn mip_levels(&self) -> u32 {
        self.mip_levels
    }

    /// Number of array layers.
    pub fn array_layers(&self) -> u32 {
        self.array_layers
    }
}

/// What is kept of a resource that can move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptInfo {
    /// Of a buffer.
    Buffer(KeptBuffer),
    /// Of an image.
    Image(KeptImage),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(info: &vk::BufferCreateInfo<'_>) -> Result<KeptBuffer, &'static str> {
        // SAFETY: the structures live.
        unsafe { KeptBuffer::of(info) }
    }

    fn kept_image(info: &vk::ImageCreateInfo<'_>) -> Result<KeptImage, &'static str> {
        // SAFETY: the structures live.
        unsafe { KeptImage::of(info) }
    }

    #[test]
    fn a_buffer_is_created_again_as_it_was_and_can_be_copied() {
        let families = [0, 2];
        let flags = vk::BufferUsageFlags::VERTEX_BUFFER;
        let info = vk::BufferCreateInfo::default()
            .size(77)
            .usage(flags)
            .sharing_mode(vk::SharingMode::CONCURRENT)
            .queue_family_indices(&families);
        let kept = kept(&info).expect("it can move");
        let mut links = BufferLinks::default();
        let again = kept.info(&mut links);
        assert_eq!((again.size, again.usage.as_raw()), (77, flags.as_raw() | 3));
        assert_eq!(again.queue_family_index_count, 2);
        assert!(again.p_next.is_null());
    }

    #[test]
    fn a_wide_usage_stays_in_its_struct() {
        let mut wide = vk::BufferUsageFlags2CreateInfoKHR::default()
            .usage(vk::BufferUsageFlags2KHR::from_raw(1 << 40));
        let info = vk::BufferCreateInfo::default().size(8).push_next(&mut wide);
        let kept = kept(&info).expect("it can move");
        let mut links = BufferLinks::default();
        // SAFETY: the chain is in `links`.
        assert_eq!(unsafe { chain::buffer_usage(&kept.info(&mut links)) }, 1 << 40 | 3);
    }

    #[test]
    fn the_chain_of_an_image_is_copied() {
        let formats = [vk::Format::R8G8B8A8_UNORM, vk::Format::R8G8B8A8_SRGB];
        let mut list = vk::ImageFormatListCreateInfo::default().view_formats(&formats);
        let mut stencil =
            vk::ImageStencilUsageCreateInfo::default().stencil_usage(vk::ImageUsageFlags::SAMPLED);
        let info = vk::ImageCreateInfo::default()
            .usage(vk::ImageUsageFlags::STORAGE)
            .push_next(&mut list)
            .push_next(&mut stencil);
        let kept = kept_image(&info).expect("it can move");
        let mut links = ImageLinks::default();
        let again = kept.info(&mut links);
        // SAFETY: the chain is in `links`.
        let (read, usage) = unsafe { (chain::of_image(&again), chain::image_usage(&again)) };
        assert_eq!(read.view_formats.len(), 2);
        assert_eq!(read.stencil_usage, Some(vk::ImageUsageFlags::SAMPLED.as_raw() | 3));
        assert!(usage.contains(image_transfer() | vk::ImageUsageFlags::STORAGE));
        assert!(!read.has_others);
    }

    #[test]
    fn shared_memory_moves_only_if_its_owner_says_so() {
        let types = HandleTypes::OPAQUE_FD;
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(types);
        let mut wide = vk::BufferUsageFlags2CreateInfoKHR::default()
            .usage(vk::BufferUsageFlags2KHR::from_raw(1 << 40));
        let info =
            vk::BufferCreateInfo::default().size(8).push_next(&mut external).push_next(&mut wide);
        assert_eq!(kept(&info), Err(EXPORTED));
        // SAFETY: the structures live.
        let any = unsafe { KeptBuffer::of_any(&info) }.expect("it can move");
        let mut links = BufferLinks::default();
        // SAFETY: the chain is in `links`.
        let read = unsafe { chain::of_buffer(&any.info(&mut links)) };
        assert_eq!(read.handle_types, types.as_raw());
        assert_eq!((read.wide_usage, read.has_others), (Some(1 << 40 | 3), false));

        let mut external = vk::ExternalMemoryImageCreateInfo::default().handle_types(types);
        let info = vk::ImageCreateInfo::default().push_next(&mut external);
        assert_eq!(kept_image(&info), Err(EXPORTED));
        // SAFETY: the structures live.
        let any = unsafe { KeptImage::of_any(&info) }.expect("it can move");
        let mut links = ImageLinks::default();
        // SAFETY: the chain is in `links`.
        let read = unsafe { chain::of_image(&any.info(&mut links)) };
        assert_eq!((read.handle_types, read.has_others), (types.as_raw(), false));
    }

    #[test]
    fn what_cannot_move_is_told_why() {
        let mut external = vk::ExternalMemoryBufferCreateInfo::default()
            .handle_types(vk::ExternalMemoryHandleTypeFlags::OPAQUE_FD);
        let mut captured =
            vk::BufferOpaqueCaptureAddressCreateInfo::default().opaque_capture_address(1);
        let mut unknown = vk::DedicatedAllocationBufferCreateInfoNV::default();
        let plain = vk::BufferCreateInfo::default().size(8);
        let flags = |flags| plain.flags(flags);
        for (info, why) in [
            (flags(vk::BufferCreateFlags::SPARSE_BINDING), "sparse"),
            (flags(vk::BufferCreateFlags::PROTECTED), "protected"),
            (flags(vk::BufferCreateFlags::DEVICE_ADDRESS_CAPTURE_REPLAY), "captured"),
            (plain.push_next(&mut external), "shared"),
            (plain.push_next(&mut captured), "captured"),
            (plain.push_next(&mut unknown), "not known"),
        ] {
            let refused = kept(&info).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
        let plain = vk::ImageCreateInfo::default();
        for (info, why) in [
            (plain.flags(vk::ImageCreateFlags::SPARSE_RESIDENCY), "sparse"),
            (plain.flags(vk::ImageCreateFlags::PROTECTED), "protected"),
            (plain.flags(vk::ImageCreateFlags::SUBSAMPLED_EXT), "subsampled"),
            (plain.usage(vk::ImageUsageFlags::TRANSIENT_ATTACHMENT), "TRANSIENT"),
            (plain.tiling(vk::ImageTiling::DRM_FORMAT_MODIFIER_EXT), "DRM"),
        ] {
            let refused = kept_image(&info).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
