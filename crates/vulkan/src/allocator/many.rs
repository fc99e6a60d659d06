//! Create, allocate and bind many resources in one call, all or none.

use ash::vk;
use vkmem_engine::{Allocation, AllocationCreateFlags, AllocationCreateInfo, Error, FailedItem};

use crate::allocator::DeviceAllocator;
use crate::allocator::kind::{Buffers, Images, Kind};
use crate::allocator::sharing::Direction;
use crate::driver::contract::Driver;

/// Resources that are destroyed again unless [`keep`](Self::keep) is called.
struct Created<'a, K: Kind> {
    driver: &'a dyn Driver,
    handles: Vec<K::Handle>,
}

impl<K: Kind> Created<'_, K> {
    fn keep(mut self) -> Vec<K::Handle> {
        std::mem::take(&mut self.handles)
    }
}

impl<K: Kind> Drop for Created<'_, K> {
    fn drop(&mut self) {
        for &handle in &self.handles {
            // SAFETY: made here; nobody else has seen it.
            unsafe { K::destroy(self.driver, handle) };
        }
    }
}

impl DeviceAllocator {
    /// Creates buffers, allocates their memory and binds them. A failure says which one it was, and
    /// leaves nothing of any behind.
    ///
    /// # Safety
    /// Each of `infos` is what `vkCreateBuffer` accepts.
    pub unsafe fn create_buffers(
        &self,
        infos: &[vk::BufferCreateInfo<'_>],
        create_info: &AllocationCreateInfo,
    ) -> Result<Vec<(vk::Buffer, Allocation)>, FailedItem> {
        // SAFETY: the caller vouches for the infos.
        unsafe { self.create_many::<Buffers>(infos, create_info) }
    }

    /// The same of images.
    ///
    /// # Safety
    /// Each of `infos` is what `vkCreateImage` accepts.
    pub unsafe fn create_images(
        &self,
        infos: &[vk::ImageCreateInfo<'_>],
        create_info: &AllocationCreateInfo,
    ) -> Result<Vec<(vk::Image, Allocation)>, FailedItem> {
        // SAFETY: the caller vouches for the infos.
        unsafe { self.create_many::<Images>(infos, create_info) }
    }

    unsafe fn create_many<K: Kind>(
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
        // All of them before the first one is made: a batch that cannot be made calls no driver.
        for (index, info) in infos.iter().enumerate() {
            // SAFETY: the caller vouches for the info.
            let request = unsafe { K::request(self, info, create_info) };
            requests.push(request.map_err(|error| FailedItem { index, error })?);
        }
        for (index, info) in infos.iter().enumerate() {
            // SAFETY: as above.
            let checked = unsafe { K::check_before(self, info) };
            checked.map_err(|error| FailedItem { index, error })?;
        }
        let mut created: Created<'_, K> = Created { driver, handles };
        for (index, (info, request)) in infos.iter().zip(&mut requests).enumerate() {
            // SAFETY: the caller vouches for the info.
            let handle =
                unsafe { self.create_handle::<K>(info, request, export, Direction::Export) };
            created.handles.push(handle.map_err(|error| FailedItem { index, error })?);
        }
        let allocations = self.engine().allocate_many(&requests)?;
        if !create_info.flags.contains(AllocationCreateFlags::DONT_BIND) {
            for (index, (&handle, it)) in created.handles.iter().zip(&allocations).enumerate() {
                // SAFETY: both are live, the offset is aligned as the driver asked.
                if let Err(error) = unsafe { self.bind_fitting::<K>(handle, it) } {
                    // What is bound goes before its memory.
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
