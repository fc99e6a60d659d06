//! Creates a resource once more, in memory that was chosen for it.

use ash::vk;
use vkmem_engine::{Allocation, Error, MemoryRequirements, PoolKey};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::{Buffers, Images, ResourceApi};
use crate::allocator::sharing::Direction;
use crate::driver::format;
use crate::driver::kept_info::{BufferLinks, ImageLinks, KeptImage, KeptInfo};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::{LayoutChange, TransferCommand, layout_aspects};

/// A resource that is to move: how it was created, its handle, and its new place.
#[derive(Clone, Copy, Debug)]
pub struct Relocation<'a> {
    /// How it was created.
    pub kept: &'a KeptInfo,
    /// The handle that it has until it moves.
    pub source: ResourceHandle,
    /// The memory that it moves to, which nothing else uses.
    pub destination: Allocation,
    /// The pool that it moves in: the new handle is created for what that pool's memory can be exported as, also on a
    /// way through other memory.
    pub pool: PoolKey,
    /// The layout that an image is in, and is in afterwards: with `UNDEFINED` its texels are not copied.
    pub layout: vk::ImageLayout,
}

impl DeviceAllocator {
    /// Creates the handles of resources that move and binds each to its destination: all, or none. The
    /// resources themselves are not touched.
    ///
    /// # Errors
    /// Those of creating and binding; [`Error::InvalidArgument`] if one does not fit its destination.
    ///
    /// # Safety
    /// The destinations lie in live memory, and nothing that is bound there is used once one of the new handles is.
    pub unsafe fn recreate(
        &self,
        relocations: &[Relocation<'_>],
    ) -> Result<Vec<ResourceHandle>, Error> {
        let mut made = Vec::with_capacity(relocations.len());
        for relocation in relocations {
            // SAFETY: the caller guarantees the destination.
            let handle = unsafe { self.recreate_one(relocation) };
            match handle {
                Ok(handle) => made.push(handle),
                Err(error) => {
                    // SAFETY: created here, and used by nothing.
                    unsafe { self.destroy_handles(&made) };
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// Destroys the handles of [`recreate`](Self::recreate).
    ///
    /// # Safety
    /// They are live, and the device does not use them.
    pub unsafe fn destroy_handles(&self, handles: &[ResourceHandle]) {
        for handle in handles {
            // SAFETY: the caller guarantees the handle; no memory is freed.
            drop(unsafe { self.destroy(*handle, None) });
        }
    }

    /// # Safety
    /// As for [`recreate`](Self::recreate).
    unsafe fn recreate_one(&self, it: &Relocation<'_>) -> Result<ResourceHandle, Error> {
        let export = self.export_types_of_pool(it.pool)?;
        match it.kept {
            KeptInfo::Buffer(kept) => {
                let mut links = BufferLinks::default();
                let info = kept.info(&mut links);
                // SAFETY: the create info lives; the caller guarantees the destination.
                let made = unsafe { self.recreate_as::<Buffers>(&info, export, &it.destination) };
                made.map(ResourceHandle::Buffer)
            }
            KeptInfo::Image(kept) => {
                let mut links = ImageLinks::default();
                let mut info = kept.info(&mut links);
                // Texels are copied into it, or are not wanted.
                info.initial_layout = vk::ImageLayout::UNDEFINED;
                // SAFETY: the create info lives; the caller guarantees the destination.
                let made = unsafe { self.recreate_as::<Images>(&info, export, &it.destination) };
                made.map(ResourceHandle::Image)
            }
        }
    }

    /// # Safety
    /// The create info is valid; the destination is live, and nothing is bound to it.
    unsafe fn recreate_as<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        export: u32,
        destination: &Allocation,
    ) -> Result<K::Handle, Error> {
        // SAFETY: the caller guarantees a valid create info.
        let (handle, is_shared_alone) =
            unsafe { K::create(self, info, export, Direction::Export)? };
        // SAFETY: created here.
        let mut needs = unsafe { K::requirements(&**self.driver(), handle) };
        needs.requires_dedicated |= is_shared_alone;
        let placed = if fits(destination, &needs) {
            // SAFETY: it fits; the caller guarantees that the memory is live and free.
            unsafe { self.bind_fitting::<K>(handle, destination) }
        } else {
            Err(Error::InvalidArgument("a resource does not fit the place it is to move to".into()))
        };
        if let Err(error) = placed {
            // SAFETY: created here, and used by nothing.
            return Err(unsafe { self.destroy_after::<K>(handle, error) });
        }
        Ok(handle)
    }
}

/// Whether a resource may lie in an allocation that is dedicated to no resource.
fn fits(have: &Allocation, needs: &MemoryRequirements) -> bool {
    !needs.requires_dedicated
        && needs.size <= have.size
        && have.offset.is_multiple_of(needs.alignment)
        && needs.memory_type_bits >> have.memory_type_index & 1 == 1
}

impl Relocation<'_> {
    /// Adds the commands that copy the contents to the new handle. They depend on nothing but what came
    /// before the submission.
    pub fn add_copies(&self, target: ResourceHandle, commands: &mut Vec<TransferCommand>) {
        match (self.kept, self.source, target) {
            (
                KeptInfo::Buffer(kept),
                ResourceHandle::Buffer(source),
                ResourceHandle::Buffer(target),
            ) => commands.push(TransferCommand::CopyBuffer {
                source,
                source_offset: 0,
                target,
                target_offset: 0,
                size: kept.size(),
            }),
            (
                KeptInfo::Image(kept),
                ResourceHandle::Image(source),
                ResourceHandle::Image(target),
            ) if self.layout != vk::ImageLayout::UNDEFINED => {
                let (format, old) = (kept.format(), self.layout);
                let after = layout_after(old);
                commands.extend(regions(kept).map(|region| TransferCommand::CopyImage {
                    source,
                    target,
                    region,
                    source_layouts: LayoutChange::of_layers(
                        format,
                        region.src_subresource,
                        old,
                        old,
                    ),
                    target_layouts: LayoutChange::of_layers(
                        format,
                        region.dst_subresource,
                        vk::ImageLayout::UNDEFINED,
                        after,
                    ),
                }));
            }
            _ => {}
        }
    }
}

/// The layout that a moved image is in, which was in another one before.
pub fn layout_after(before: vk::ImageLayout) -> vk::ImageLayout {
    match before {
        // Nothing can be brought into it.
        vk::ImageLayout::PREINITIALIZED => vk::ImageLayout::GENERAL,
        other => other,
    }
}

/// The regions of a copy of all of an image: one for each mip level with all layers, and for each plane.
fn regions(image: &KeptImage) -> impl Iterator<Item = vk::ImageCopy> + '_ {
    let planes = format::planes(image.format());
    let parts: Vec<(vk::ImageAspectFlags, u32, u32)> = if planes.is_empty() {
        vec![(layout_aspects(image.format()), 1, 1)]
    } else {
        let aspects = [
            vk::ImageAspectFlags::PLANE_0,
            vk::ImageAspectFlags::PLANE_1,
            vk::ImageAspectFlags::PLANE_2,
        ];
        planes.iter().zip(aspects).map(|(it, aspect)| (aspect, it.width, it.height)).collect()
    };
    (0..image.mip_levels()).flat_map(move |mip_level| {
        let of_level = |side: u32| (side >> mip_level).max(1);
        let vk::Extent3D { width, height, depth } = image.extent();
        let layer_count = image.array_layers();
        let region = move |&(aspect_mask, wide, high): &(vk::ImageAspectFlags, u32, u32)| {
            let part = vk::ImageSubresourceLayers {
                aspect_mask,
                mip_level,
                base_array_layer: 0,
                layer_count,
            };
            vk::ImageCopy {
                src_subresource: part,
                src_offset: vk::Offset3D::default(),
                dst_subresource: part,
                dst_offset: vk::Offset3D::default(),
                extent: vk::Extent3D {
                    width: of_level(width).div_ceil(wide),
                    height: of_level(height).div_ceil(high),
                    depth: of_level(depth),
                },
            }
        };
        parts.iter().map(region).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(info: vk::ImageCreateInfo<'_>) -> KeptImage {
        // SAFETY: no chain.
        unsafe { KeptImage::of(&info) }.expect("it can move")
    }

    fn extent(width: u32, height: u32, depth: u32) -> vk::Extent3D {
        vk::Extent3D { width, height, depth }
    }

    #[test]
    fn each_level_of_a_volume_has_its_depth() {
        let image = kept(
            vk::ImageCreateInfo::default()
                .image_type(vk::ImageType::TYPE_3D)
                .format(vk::Format::R8_UNORM)
                .extent(extent(5, 3, 9))
                .mip_levels(4)
                .array_layers(1),
        );
        let extents: Vec<_> = regions(&image).map(|it| it.extent).collect();
        let wanted = [extent(5, 3, 9), extent(2, 1, 4), extent(1, 1, 2), extent(1, 1, 1)];
        assert_eq!(extents, wanted);
    }

    #[test]
    fn a_region_has_all_layers_and_both_aspects() {
        let image = kept(
            vk::ImageCreateInfo::default()
                .format(vk::Format::D24_UNORM_S8_UINT)
                .extent(extent(8, 8, 1))
                .mip_levels(2)
                .array_layers(6),
        );
        let parts: Vec<_> = regions(&image).map(|it| it.src_subresource).collect();
        let both = vk::ImageAspectFlags::DEPTH | vk::ImageAspectFlags::STENCIL;
        assert!(parts.iter().all(|it| it.aspect_mask == both && it.layer_count == 6));
        assert_eq!(parts.iter().map(|it| it.mip_level).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn each_plane_is_a_region_of_its_own_size() {
        let image = kept(
            vk::ImageCreateInfo::default()
                .format(vk::Format::G8_B8R8_2PLANE_420_UNORM)
                .extent(extent(10, 6, 1))
                .mip_levels(1)
                .array_layers(1),
        );
        let found: Vec<_> =
            regions(&image).map(|it| (it.src_subresource.aspect_mask, it.extent)).collect();
        let wanted = [
            (vk::ImageAspectFlags::PLANE_0, extent(10, 6, 1)),
            (vk::ImageAspectFlags::PLANE_1, extent(5, 3, 1)),
        ];
        assert_eq!(found, wanted);
    }
}
