//! Requests to the engine for buffers and images; invalid create infos are rejected before a driver sees
//! them.

use ash::vk;
use vkmem_engine::words::counted;
use vkmem_engine::{
    AllocationCreateInfo, AllocationRequest, DedicatedTarget, DeviceError, Error,
    MemoryRequirements, ResourceKind, ResourceUse,
};

use crate::allocator::DeviceAllocator;
use crate::allocator::image_limits::check;
use crate::driver::chain;
use crate::driver::disjoint::{combined_requirements, plane_count};
use crate::driver::image_format::ImageFormatInfo;

impl DeviceAllocator {
    /// Returns the request of a buffer, without the driver's requirements.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    #[inline(always)]
    pub(crate) unsafe fn buffer_request(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error> {
        if info.size == 0 {
            return Err(Error::InvalidArgument("a buffer of size 0".into()));
        }
        if info.flags.intersects(
            vk::BufferCreateFlags::SPARSE_BINDING | vk::BufferCreateFlags::SPARSE_RESIDENCY,
        ) {
            return Err(Error::InvalidArgument(
                "a sparse buffer is not bound to one allocation: create it yourself".into(),
            ));
        }
        self.engine.check_size(info.size)?;
        // SAFETY: the caller guarantees a valid chain.
        let usage = unsafe { chain::buffer_usage(info) };
        if usage >> u32::BITS != 0 && !self.driver.has_wide_buffer_usage() {
            return Err(Error::FeatureNotPresent(format!(
                "a buffer usage of {usage:#x} has more than 32 bits: that needs VK_KHR_maintenance5 or \
                 Vulkan 1.4, which is not enabled on this device"
            )));
        }
        Ok(request(create_info, ResourceKind::Buffer, buffer_use(usage)))
    }

    /// Returns the request of an image, without the driver's requirements.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    pub(crate) unsafe fn image_request(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<AllocationRequest, Error> {
        let extent = info.extent;
        if extent.width == 0 || extent.height == 0 || extent.depth == 0 {
            return Err(Error::InvalidArgument(format!(
                "an image of {} x {} x {} texels",
                extent.width, extent.height, extent.depth
            )));
        }
        if info.mip_levels == 0 || info.array_layers == 0 {
            return Err(Error::InvalidArgument("an image without mip levels or layers".into()));
        }
        // Drivers do not check this; some abort.
        let most = extent.width.max(extent.height).max(extent.depth).ilog2() + 1;
        if info.mip_levels > most {
            return Err(Error::InvalidArgument(format!(
                "{} of an image of {} x {} x {} texels, which has {most} at most",
                counted(info.mip_levels, "mip level"),
                extent.width,
                extent.height,
                extent.depth
            )));
        }
        if info.flags.intersects(
            vk::ImageCreateFlags::SPARSE_BINDING | vk::ImageCreateFlags::SPARSE_RESIDENCY,
        ) {
            return Err(Error::InvalidArgument(
                "a sparse image is not bound to one allocation: create it yourself".into(),
            ));
        }
        if info.flags.contains(vk::ImageCreateFlags::DISJOINT) && plane_count(info) == 0 {
            return Err(Error::InvalidArgument(format!(
                "a disjoint image of {:?}: that format has no planes to bind one by one",
                info.format
            )));
        }
        // SAFETY: the caller guarantees a valid chain.
        let usage = unsafe { chain::image_usage(info) };
        Ok(request(create_info, image_kind(info.tiling), image_use(usage)))
    }

    /// Rejects an image that the device cannot have. Queries the driver once for each kind of image.
    ///
    /// # Safety
    /// The `pNext` chain is valid.
    pub(crate) unsafe fn check_image_format(
        &self,
        info: &vk::ImageCreateInfo<'_>,
    ) -> Result<(), Error> {
        if info.usage.contains(vk::ImageUsageFlags::HOST_TRANSFER_EXT)
            && self.driver().host_image_copy().is_none()
        {
            return Err(Error::FeatureNotPresent(
                "usage HOST_TRANSFER needs the feature hostImageCopy (Vulkan 1.4 or \
                 VK_EXT_host_image_copy), which the device was not created with"
                    .into(),
            ));
        }
        // SAFETY: the caller guarantees a valid chain.
        let Some((mut kind, handle_types)) = (unsafe { ImageFormatInfo::of(info) }) else {
            return Ok(());
        };
        let ask = |kind: &ImageFormatInfo| self.driver().image_format_properties(kind);
        // With several handle types, each of them has to allow the image.
        let mut rest = handle_types;
        loop {
            kind.handle_type = rest & rest.wrapping_neg();
            rest &= !kind.handle_type;
            check(info, &kind, self.image_formats().find(&kind, ask))?;
            if rest == 0 {
                return Ok(());
            }
        }
    }

    /// Returns the request for a buffer that the caller created.
    ///
    /// # Safety
    /// The buffer is live and belongs to this device.
    pub unsafe fn request_for_buffer(
        &self,
        buffer: vk::Buffer,
        create_info: &AllocationCreateInfo,
    ) -> AllocationRequest {
        let mut request = request(create_info, ResourceKind::Buffer, ResourceUse::Unknown);
        // SAFETY: the caller guarantees a valid buffer.
        request.requirements = unsafe { self.driver.buffer_requirements(buffer) };
        request.dedicated = Some(DedicatedTarget::Buffer(ash::vk::Handle::as_raw(buffer)));
        request
    }

    /// Returns the request for an image that the caller created. Vulkan cannot be queried for its tiling,
    /// so it shares pages with nothing unless `tiling` is given.
    ///
    /// # Safety
    /// The image is live and belongs to this device.
    pub unsafe fn request_for_image(
        &self,
        image: vk::Image,
        tiling: Option<vk::ImageTiling>,
        create_info: &AllocationCreateInfo,
    ) -> AllocationRequest {
        let kind = tiling.map_or(ResourceKind::ImageUnknown, image_kind);
        let mut request = request(create_info, kind, ResourceUse::Unknown);
        // SAFETY: the caller guarantees a valid image.
        request.requirements = unsafe { self.driver.image_requirements(image) };
        request.dedicated = Some(DedicatedTarget::Image(ash::vk::Handle::as_raw(image)));
        request
    }

    /// Returns the request for planes of a disjoint image that the caller created, and the offset in
    /// bytes of each plane.
    ///
    /// # Errors
    /// [`Error::FeatureNotPresent`] without `VK_KHR_get_memory_requirements2`, or if the planes have no
    /// memory type in common.
    ///
    /// # Safety
    /// The image is live, belongs to this device, and has the planes.
    pub unsafe fn request_for_planes(
        &self,
        image: vk::Image,
        planes: &[u32],
        tiling: Option<vk::ImageTiling>,
        create_info: &AllocationCreateInfo,
    ) -> Result<(AllocationRequest, Vec<u64>), Error> {
        let kind = tiling.map_or(ResourceKind::ImageUnknown, image_kind);
        let mut request = request(create_info, kind, ResourceUse::Unknown);
        let mut needs = Vec::with_capacity(planes.len());
        for plane in planes {
            // SAFETY: the caller guarantees a valid image and its planes.
            let of_plane = unsafe { self.driver.plane_requirements(image, *plane) };
            needs.push(of_plane.map_err(|error| match error {
                DeviceError::FeatureNotPresent => Error::FeatureNotPresent(
                    "planes of images need Vulkan 1.1 or VK_KHR_get_memory_requirements2".into(),
                ),
                other => other.of("vkGetImageMemoryRequirements2").into(),
            })?);
        }
        let (whole, offsets) = combined_requirements(&needs);
        if whole.memory_type_bits == 0 {
            return Err(Error::FeatureNotPresent(
                "the planes have no memory type in common: allocate them one by one".into(),
            ));
        }
        request.requirements = whole;
        Ok((request, offsets))
    }
}

#[inline(always)]
fn request(
    create_info: &AllocationCreateInfo,
    kind: ResourceKind,
    resource_use: ResourceUse,
) -> AllocationRequest {
    let requirements = MemoryRequirements {
        size: 0,
        alignment: 1,
        memory_type_bits: 0,
        prefers_dedicated: false,
        requires_dedicated: false,
    };
    let create_info = *create_info;
    AllocationRequest { requirements, create_info, kind, resource_use, dedicated: None }
}

fn buffer_use(usage: u64) -> ResourceUse {
    let transfer = vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
    if usage & !u64::from(transfer.as_raw()) == 0 {
        ResourceUse::TransferOnly
    } else {
        ResourceUse::Device
    }
}

fn image_use(usage: vk::ImageUsageFlags) -> ResourceUse {
    let transfer = vk::ImageUsageFlags::TRANSFER_SRC | vk::ImageUsageFlags::TRANSFER_DST;
    if transfer.contains(usage) { ResourceUse::TransferOnly } else { ResourceUse::Device }
}

/// Returns the kind of an image with a tiling, for `bufferImageGranularity`.
pub fn image_kind(tiling: vk::ImageTiling) -> ResourceKind {
    match tiling {
        vk::ImageTiling::OPTIMAL => ResourceKind::ImageOptimal,
        vk::ImageTiling::LINEAR => ResourceKind::ImageLinear,
        // A DRM format modifier may mean either.
        _ => ResourceKind::ImageUnknown,
    }
}
