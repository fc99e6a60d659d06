//! Create, allocate and bind in one call.

mod alias;
pub(crate) mod import;
mod kind;
mod many;

use std::sync::Arc;

use ash::vk;
use vkmem_engine::{
    Allocation, AllocationCreateFlags, AllocationCreateInfo, AllocationId, AllocationRequest,
    Allocator, AllocatorOptions, CacheHint, DedicatedTarget, DeviceError, Error,
    MemoryRequirements, PoolId, Release, ResourceKind, ResourceUse,
};

use crate::driver::chain;
use crate::driver::contract::Driver;
use crate::driver::disjoint::{plane_count, together};
use crate::driver::external::Direction;
use crate::driver::image_format::ImageFormats;
use crate::host::cache_hints::expect_at;
use kind::{Buffers, Images, Kind};
use vkmem_engine::words::counted;

/// An engine and the device it serves.
pub struct DeviceAllocator {
    engine: Allocator,
    driver: Arc<dyn Driver>,
    image_formats: ImageFormats,
}

/// How the engine is asked for memory: `Allocator::allocate`, or what lets a caller come between, to let
/// go of its own locks before the slow way.
pub trait Allocate: FnOnce(&Allocator, &AllocationRequest) -> Result<Allocation, Error> {}

impl<F: FnOnce(&Allocator, &AllocationRequest) -> Result<Allocation, Error>> Allocate for F {}

impl DeviceAllocator {
    /// Holds nothing yet.
    pub fn new(driver: Arc<dyn Driver>, options: &AllocatorOptions) -> Result<Self, Error> {
        let engine = Allocator::new(driver.clone(), options)?;
        Ok(Self { engine, driver, image_formats: ImageFormats::default() })
    }

    /// The engine.
    pub fn engine(&self) -> &Allocator {
        &self.engine
    }

    /// The device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    pub(crate) fn image_formats(&self) -> &ImageFormats {
        &self.image_formats
    }

    /// Creates a buffer, allocates its memory and binds it (`vmaCreateBuffer`). A failure leaves
    /// nothing behind.
    ///
    /// # Safety
    /// `info` is what `vkCreateBuffer` accepts.
    #[inline(always)]
    pub unsafe fn create_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(vk::Buffer, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { self.create::<Buffers>(info, create_info, allocate) }
    }

    /// Creates an image, allocates its memory and binds it (`vmaCreateImage`). A failure leaves
    /// nothing behind.
    ///
    /// # Safety
    /// `info` is what `vkCreateImage` accepts.
    pub unsafe fn create_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(vk::Image, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        unsafe { self.create::<Images>(info, create_info, allocate) }
    }

    /// Destroys a buffer and frees its memory (`vmaDestroyBuffer`); what the driver has to do for the
    /// second is in the [`Release`]. An error, if there was no such memory any more.
    ///
    /// # Safety
    /// The buffer is live, this device's, and the device is done with it.
    #[inline]
    pub unsafe fn destroy_buffer(
        &self,
        buffer: vk::Buffer,
        allocation: AllocationId,
        hint: CacheHint,
    ) -> Result<Release, Error> {
        expect_at(hint.0);
        // It comes while the engine works.
        expect_at(ash::vk::Handle::as_raw(buffer));
        // SAFETY: the caller vouches for the buffer.
        self.engine.free_around(allocation, || unsafe { self.driver.destroy_buffer(buffer) })
    }

    /// Inlined, as are its parts: what each gives is stored in parts, and to copy it as a whole would wait
    /// for these stores.
    ///
    /// # Safety
    /// The info is what its creating command accepts.
    #[inline(always)]
    unsafe fn create<K: Kind>(
        &self,
        info: &K::Info<'_>,
        create_info: &AllocationCreateInfo,
        allocate: impl Allocate,
    ) -> Result<(K::Handle, Allocation), Error> {
        // SAFETY: the caller vouches for the info.
        let mut request = unsafe { K::request(self, info, create_info)? };
        let (export, direction) = (self.export_types(create_info)?, Direction::Export);
        // SAFETY: as above.
        let handle = unsafe { self.create_handle::<K>(info, &mut request, export, direction)? };
        let allocated = allocate(&self.engine, &request);
        // SAFETY: made here.
        let (handle, allocation) = unsafe { self.or_destroy::<K>(handle, allocated)? };
        if request.create_info.flags.contains(AllocationCreateFlags::DONT_BIND) {
            return Ok((handle, allocation));
        }
        // SAFETY: resource and memory are live, the offset is aligned as the driver asked.
        unsafe { self.bind_or_undo::<K>(handle, allocation) }
    }

    /// What the memory of a request is to be exported as: what was asked for, and what its pool
    /// exports anyway.
    #[inline(always)]
    pub(crate) fn export_types(&self, create_info: &AllocationCreateInfo) -> Result<u32, Error> {
        match (create_info.export_handle_types, create_info.pool) {
            (0, None) => Ok(0),
            (asked, pool) => self.checked_export_types(asked, pool),
        }
    }

    fn checked_export_types(&self, asked: u32, pool: Option<PoolId>) -> Result<u32, Error> {
        let types = match pool {
            Some(pool) => asked | self.engine.pool_info(pool)?.export_handle_types,
            None => asked,
        };
        if types != 0 {
            self.check_export(types)?;
        }
        Ok(types)
    }

    /// The request of a buffer, but for the requirements that the driver gives.
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
        // SAFETY: the caller vouches for the chain.
        let usage = unsafe { chain::buffer_usage(info) };
        if usage >> u32::BITS != 0 && !self.driver.has_wide_buffer_usage() {
            return Err(Error::FeatureNotPresent(format!(
                "a buffer usage of {usage:#x} has more than 32 bits: that needs VK_KHR_maintenance5 or \
                 Vulkan 1.4, which is not enabled on this device"
            )));
        }
        Ok(request(create_info, ResourceKind::Buffer, buffer_use(usage)))
    }

    /// The request of an image, but for the requirements that the driver gives.
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
        // Drivers do not check it; some abort.
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
        // SAFETY: the caller vouches for the chain.
        let usage = unsafe { chain::image_usage(info) };
        Ok(request(create_info, image_kind(info.tiling), image_use(usage)))
    }

    /// Memory for a buffer that the caller made.
    ///
    /// # Safety
    /// The buffer is live and this device's.
    pub unsafe fn request_for_buffer(
        &self,
        buffer: vk::Buffer,
        create_info: &AllocationCreateInfo,
    ) -> AllocationRequest {
        let mut request = request(create_info, ResourceKind::Buffer, ResourceUse::Unknown);
        // SAFETY: the caller vouches for the buffer.
        request.requirements = unsafe { self.driver.buffer_requirements(buffer) };
        request.dedicated = Some(DedicatedTarget::Buffer(ash::vk::Handle::as_raw(buffer)));
        request
    }

    /// Memory for an image that the caller made. Its tiling cannot be asked for, so it shares pages
    /// with nothing unless `tiling` is given.
    ///
    /// # Safety
    /// The image is live and this device's.
    pub unsafe fn request_for_image(
        &self,
        image: vk::Image,
        tiling: Option<vk::ImageTiling>,
        create_info: &AllocationCreateInfo,
    ) -> AllocationRequest {
        let kind = tiling.map_or(ResourceKind::ImageUnknown, image_kind);
        let mut request = request(create_info, kind, ResourceUse::Unknown);
        // SAFETY: the caller vouches for the image.
        request.requirements = unsafe { self.driver.image_requirements(image) };
        request.dedicated = Some(DedicatedTarget::Image(ash::vk::Handle::as_raw(image)));
        request
    }

    /// Memory for planes of a disjoint image that the caller made, and where each starts in it.
    ///
    /// # Safety
    /// The image is live, this device's, and has the planes.
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
            // SAFETY: the caller vouches for the image and its planes.
            let of_plane = unsafe { self.driver.plane_requirements(image, *plane) };
            needs.push(of_plane.map_err(|error| match error {
                DeviceError::FeatureNotPresent => Error::FeatureNotPresent(
                    "planes of images need Vulkan 1.1 or VK_KHR_get_memory_requirements2".into(),
                ),
                other => other.of("vkGetImageMemoryRequirements2").into(),
            })?);
        }
        let (whole, offsets) = together(&needs);
        if whole.memory_type_bits == 0 {
            return Err(Error::FeatureNotPresent(
                "the planes have no memory type in common: allocate them one by one".into(),
            ));
        }
        request.requirements = whole;
        Ok((request, offsets))
    }

    /// The memory type that a buffer would get; makes no buffer where the device can tell without.
    ///
    /// # Safety
    /// `info` is what `vkCreateBuffer` accepts.
    pub unsafe fn find_memory_type_for_buffer(
        &self,
        info: &vk::BufferCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<u32, Error> {
        // SAFETY: the caller vouches for the chain.
        let request = unsafe { self.buffer_request(info, create_info)? };
        let export = self.export_types(create_info)?;
        let (mut info, mut link) = (*info, vk::ExternalMemoryBufferCreateInfo::default());
        // SAFETY: the caller vouches for the create info; the link lives as long as the info.
        let needs = unsafe {
            self.share_buffer(&mut info, &mut link, export, Direction::Export)?;
            self.driver.buffer_requirements_of_info(&info)
        };
        // Where a call is needed that can fail, it is that of a buffer for a moment.
        let needs = needs.map_err(|error| error.of(Buffers::CREATE))?;
        let bits = needs.memory_type_bits;
        self.engine.find_memory_type_index(bits, create_info, request.resource_use)
    }

    /// The memory type that an image would get.
    ///
    /// # Safety
    /// `info` is what `vkCreateImage` accepts.
    pub unsafe fn find_memory_type_for_image(
        &self,
        info: &vk::ImageCreateInfo<'_>,
        create_info: &AllocationCreateInfo,
    ) -> Result<u32, Error> {
        // SAFETY: the caller vouches for the chain.
        let request = unsafe { self.image_request(info, create_info)? };
        let export = self.export_types(create_info)?;
        let (mut info, mut link) = (*info, vk::ExternalMemoryImageCreateInfo::default());
        // SAFETY: the caller vouches for the create info; the link lives as long as the info.
        let needs = unsafe {
            self.share_image(&mut info, &mut link, export, Direction::Export)?;
            self.check_image_format(&info)?;
            self.driver.image_requirements_of_info(&info)
        };
        let needs = needs.map_err(|error| error.of(Images::CREATE))?;
        let bits = needs.memory_type_bits;
        self.engine.find_memory_type_index(bits, create_info, request.resource_use)
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

/// What an image of a tiling is to its neighbours.
pub fn image_kind(tiling: vk::ImageTiling) -> ResourceKind {
    match tiling {
        vk::ImageTiling::OPTIMAL => ResourceKind::ImageOptimal,
        vk::ImageTiling::LINEAR => ResourceKind::ImageLinear,
        // A DRM format modifier may mean either.
        _ => ResourceKind::ImageUnknown,
    }
}
