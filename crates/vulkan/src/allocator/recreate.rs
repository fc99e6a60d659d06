//! Creates a resource once more, in memory that was chosen for it.

use ash::vk;
use vkmem_engine::{Allocation, Error, MemoryRequirements};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::{Buffers, Images, ResourceApi};
use crate::driver::kept_info::{BufferLinks, ImageLinks, KeptInfo};
use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::TransferCommand;
use crate::allocator::sharing::Direction;

/// A resource that is to move: how it was created, its handle, and its new place.
#[derive(Clone, Copy, Debug)]
pub struct Relocation<'a> {
    /// How it was created.
    pub kept: &'a KeptInfo,
    /// The handle that it has until it moves.
    pub source: ResourceHandle,
    /// The memory that it moves to, which nothing else uses.
    pub destination: Allocation,
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
    /// The destinations are live, and nothing is bound to them.
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
        match it.kept {
            KeptInfo::Buffer(kept) => {
                let mut links = BufferLinks::default();
                let info = kept.info(&mut links);
                // SAFETY: the create info lives; the caller guarantees the destination.
                let made = unsafe { self.recreate_as::<Buffers>(&info, &it.destination) };
                made.map(ResourceHandle::Buffer)
            }
            KeptInfo::Image(kept) => {
                let mut links = ImageLinks::default();
                let mut info = kept.info(&mut links);
                // Texels are copied into it, or are not wanted.
                info.initial_layout = vk::ImageLayout::UNDEFINED;
                // SAFETY: the create info lives; the caller guarantees the destination.
                let made = unsafe { self.recreate_as::<Images>(&info, &it.destination) };
                made.map(ResourceHandle::Image)
            }
        }
    }

    /// # Safety
    /// The create info is valid; the destination is live, and nothing is bound to it.
    unsafe fn recreate_as<K: ResourceApi>(
        &self,
        info: &K::Info<'_>,
        destination: &Allocation,
    ) -> Result<K::Handle, Error> {
        // SAFETY: the caller guarantees a valid create info; the memory is not shared.
        let (handle, _) = unsafe { K::create(self, info, 0, Direction::Export)? };
        // SAFETY: created here.
        let needs = unsafe { K::requirements(&**self.driver(), handle) };
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

/// Whether a resource may lie in an allocation.
fn fits(have: &Allocation, needs: &MemoryRequirements) -> bool {
    needs.size <= have.size
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
            _ => {}
        }
    }
}
