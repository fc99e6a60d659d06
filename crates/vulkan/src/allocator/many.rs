//! Creation of many buffers or images with their memory, all or none.

use ash::vk;
use vkmem_engine::recording::set_subjects;
use vkmem_engine::{Allocation, AllocationCreateFlags, AllocationCreateInfo, Error, FailedItem};

use crate::allocator::DeviceAllocator;
use crate::allocator::resource_api::{Buffers, Images, ResourceApi};
use crate::allocator::sharing::Direction;
use crate::driver::contract::Driver;

/// Handles that are destroyed when this is dropped, unless [`keep`](Self::keep) is called.
struct Created<'a, K: ResourceApi> {
    driver: &'a dyn Driver,
    handles: Vec<K::Handle>,
}

impl<K: ResourceApi> Created<'_, K> {
    fn keep(mut self) -> Vec<K::Handle> {
        std::mem::take(&mut self.handles)
    }
}

impl<K: ResourceApi> Drop for Created<'_, K> {
    fn drop(&mut self) {
        for &handle in &self.handles {
            // SAFETY: the handle was created here and is not used elsewhere.
            unsafe { K::destroy(self.driver, handle) };
        }
    }
}

impl DeviceAllocator {
    /// Creates buffers, allocates their memory and binds them. A failure undoes all of them.
    ///
    /// # Errors
    /// The errors of [`create_buffer`](Self::create_buffer), with the index of the buffer.
    ///
    /// # Safety
    /// Each of `infos` is valid for `vkCreateBuffer`.
    pub unsafe fn create_buffers(
        &self,
        infos: &[vk::BufferCreateInfo<'_>],
        create_info: &AllocationCreateInfo,
    ) -> Result<Vec<(vk::Buffer, Allocation)>, FailedItem> {
        // SAFETY: the caller guarantees valid infos.
        unsafe { self.create_many::<Buffers>(infos, create_info) }
    }

    /// Creates images, allocates their memory and binds them; see
    /// [`create_buffers`](Self::create_buffers).
    ///
    /// # Errors
    /// The errors of [`create_image`](Self::create_image), with the index of the image.
    ///
    /// # Safety
    /// Each of `infos` is valid for `vkCreateImage`.
    pub unsafe fn create_images(
        &self,
        infos: &[vk::ImageCreateInfo<'_>],
        create_info: &AllocationCreateInfo,
    ) -> Result<Vec<(vk::Image, Allocation)>, FailedItem> {
        // SAFETY: the caller guarantees valid infos.
        unsafe { self.create_many::<Images>(infos, create_info) }
    }

    unsafe fn create_many<K: ResourceApi>(
        &self,
        infos: &[K::Info<'_>],
        create_info: &AllocationCreateInfo,
    ) -> Result<Vec<(K::Handle, Allocation)>, FailedItem> {
        let driver: &dyn Driver = &**self.driver();
        let export =
            self.export_types(create_info).map_err(|error| FailedItem { index: 0, error })?;
        let none = |_| FailedItem { index: 0, error: Error::TooManyItems(infos.len()) };
        let (mut requests, mut handles) = (Vec::new(), Vec::new());
        requests.try_reserve_exact(infos.len()).map_err(none)?;
        handles.try_reserve_exact(infos.len()).map_err(none)?;
        // All are checked before the first one is created: an impossible batch makes no driver call.
        for (index, info) in infos.iter().enumerate() {
            // SAFETY: the caller guarantees a valid create info.
            let request = unsafe { self.request_of::<K>(info, create_info) };
            requests.push(request.map_err(|error| FailedItem { index, error })?);
        }
        for (index, info) in infos.iter().enumerate() {
            // SAFETY: the caller guarantees valid create infos.
            let checked = unsafe { K::check_before(self, info) };
            checked.map_err(|error| FailedItem { index, error })?;
        }
        let mut created: Created<'_, K> = Created { driver, handles };
        for (index, (info, request)) in infos.iter().zip(&mut requests).enumerate() {
            // SAFETY: the caller guarantees a valid create info.
            let handle =
                unsafe { self.create_handle::<K>(info, request, export, Direction::Export) };
            created.handles.push(handle.map_err(|error| FailedItem { index, error })?);
        }
        set_subjects(|| infos.iter().map(|info| K::subject(info)));
        let allocations = self.engine().allocate_many(&requests)?;
        if !create_info.flags.contains(AllocationCreateFlags::DONT_BIND) {
            for (index, (&handle, it)) in created.handles.iter().zip(&allocations).enumerate() {
                // SAFETY: both are live, and the offset has the alignment that the driver requires.
                if let Err(error) = unsafe { self.bind_fitting::<K>(handle, it) } {
                    // Resources are destroyed before their memory is freed.
                    drop(created);
                    let ids: Vec<_> = allocations.iter().map(|it| it.id).collect();
                    drop(self.engine().free_many(&ids));
                    return Err(FailedItem { index, error });
                }
            }
        }
        Ok(created.keep().into_iter().zip(allocations).collect())
    }
}
