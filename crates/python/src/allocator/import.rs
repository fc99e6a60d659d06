//! Import of external memory.

use ash::vk;
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vkmem_engine::{
    Allocation as EngineAllocation, AllocationCreateFlags, Allocator as Engine, Error,
    ImportRequest, MemoryPropertyFlags,
};

use super::Allocator;
use super::create::IMPORTED;
use crate::arguments::create_info::Built;
use crate::arguments::numbers::unsigned;
use crate::errors::invalid;
use crate::interop::import::{ImportKeywords, Importing};
use crate::interpreter::detach;
use crate::lifetime::create::CreatedResource;
use crate::objects::allocation::Allocation;
use crate::objects::allocation_create_info::Keywords;
use crate::objects::buffer::Buffer;
use crate::objects::image::Image;
use crate::objects::resource::ResourceObject;

/// Raises for keywords that an import cannot have: imported memory is bound at once.
fn check_plain(py: Python<'_>, keywords: &Keywords) -> PyResult<()> {
    if keywords.create.flags.contains(AllocationCreateFlags::DONT_BIND) {
        return Err(invalid(py, "DONT_BIND and an import contradict each other"));
    }
    Ok(())
}

/// Returns the function that imports memory, with the GIL released: an import always calls the driver.
fn import_without_gil(
    py: Python<'_>,
) -> impl FnMut(&Engine, &ImportRequest) -> Result<EngineAllocation, Error> {
    move |engine, request| detach(py, || engine.import(request))
}

impl Allocator {
    fn import_memory(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        import: ImportKeywords,
    ) -> PyResult<Py<Allocation>> {
        keywords.refuse_movable(py, IMPORTED)?;
        keywords.refuse_losable(py, IMPORTED)?;
        let nothing = || invalid(py, "nothing to import");
        let importing = import.finish(py)?.ok_or_else(nothing)?;
        let no_size = || invalid(py, "an address alone has no size: give it as well");
        let size = importing.import.size.ok_or_else(no_size)?;
        let (allocator, import) = (&self.state.device_allocator, &importing.import);
        let made = self.attempt(py, || {
            // SAFETY: the caller guarantees the handle; host memory is held below.
            unsafe {
                allocator.import_memory(size, import, &keywords.create, &mut import_without_gil(py))
            }
        })?;
        self.imported(py, keywords, CreatedResource::memory(made), Allocation, importing)
    }

    fn imported<T: PyClass<BaseType = ResourceObject>>(
        &self,
        py: Python<'_>,
        mut keywords: Keywords,
        made: CreatedResource,
        object: T,
        importing: Importing,
    ) -> PyResult<Py<T>> {
        if importing.is_host_memory() {
            // Its type is one that the host sees on every device.
            keywords.create.required_flags |= MemoryPropertyFlags::HOST_VISIBLE;
        }
        let made = self.finish(py, keywords, made, object)?;
        let object = made.bind(py).as_super();
        if importing.holds_memory() {
            // From then on the resource refers to another Python object.
            ResourceObject::track(object);
        }
        importing.done(py, &object.get().resource)?;
        Ok(made)
    }

    /// Creates a buffer in imported memory: `create_buffer` with one of the `import_` keywords.
    pub(super) fn import_buffer(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        built: &Built<vk::BufferCreateInfo<'static>>,
        importing: Importing,
    ) -> PyResult<Py<Buffer>> {
        check_plain(py, &keywords)?;
        let info = &built.info;
        let (allocator, create) = (&self.state.device_allocator, &keywords.create);
        let (buffer, allocation) = self.attempt(py, || {
            // SAFETY: created here, or a struct of the caller that interop has checked; the caller guarantees
            // the handle, and host memory is held below.
            unsafe {
                allocator.import_buffer(
                    info,
                    &importing.import,
                    create,
                    &mut import_without_gil(py),
                )
            }
        })?;
        self.imported(
            py,
            keywords,
            CreatedResource::buffer(buffer, allocation, info),
            Buffer,
            importing,
        )
    }

    /// Creates an image in imported memory: `create_image` with one of the `import_` keywords.
    pub(super) fn import_image(
        &self,
        py: Python<'_>,
        keywords: Keywords,
        built: &Built<vk::ImageCreateInfo<'static>>,
        importing: Importing,
    ) -> PyResult<Py<Image>> {
        check_plain(py, &keywords)?;
        let info = &built.info;
        let (allocator, create) = (&self.state.device_allocator, &keywords.create);
        let (image, allocation) = self.attempt(py, || {
            // SAFETY: created here, or a struct of the caller that interop has checked; the caller guarantees
            // the handle, and host memory is held below.
            unsafe {
                allocator.import_image(info, &importing.import, create, &mut import_without_gil(py))
            }
        })?;
        let made = CreatedResource::image(image, allocation, info);
        self.imported(py, keywords, made, Image::of(info), importing)
    }
}

#[pymethods]
impl Allocator {
    /// Imports memory that was exported as a file descriptor (`VkImportMemoryFdInfoKHR`).
    ///
    /// `size` is that of the whole exported `VkDeviceMemory`, in bytes (`allocation.device_memory_size`).
    /// `handle_type` is `ExternalMemoryHandleType.OPAQUE_FD` by default, or `DMA_BUF_EXT`. The memory of an
    /// opaque descriptor has to be of the type it was exported from, `memory_type_index`, which can be left
    /// out if only one type is possible. The other keywords are those of an allocation; there is no `pool`.
    ///
    /// On success the descriptor is consumed; on any failure the caller still owns it. The memory counts
    /// towards the heap of its type. To create a buffer or an image in it in one call, see the keyword
    /// `import_fd` of `create_buffer`.
    ///
    /// Raises `FeatureNotPresentError` without `VK_KHR_external_memory_fd`, `InvalidArgumentError` (not open,
    /// or rejected by the driver), and what `allocate_memory` raises.
    #[pyo3(signature = (fd, size, **keywords))]
    fn import_memory_fd(
        &self,
        py: Python<'_>,
        fd: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let mut import = ImportKeywords::fd(fd)?;
        import.set_size(unsigned(size, "size")?);
        let keywords = read("import_memory_fd", keywords, &mut import)?;
        self.import_memory(py, keywords, import)
    }

    /// Imports memory that was exported as a Win32 handle (`VkImportMemoryWin32HandleInfoKHR`).
    ///
    /// Arguments are those of `import_memory_fd`, but the caller keeps the handle, and closes it (unless it
    /// is of a KMT type). `handle_type` is `ExternalMemoryHandleType.OPAQUE_WIN32` by default.
    ///
    /// Raises `FeatureNotPresentError` without `VK_KHR_external_memory_win32`, and what `import_memory_fd`
    /// raises.
    #[pyo3(signature = (handle, size, **keywords))]
    fn import_memory_win32_handle(
        &self,
        py: Python<'_>,
        handle: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let mut import = ImportKeywords::win32_handle(handle)?;
        import.set_size(unsigned(size, "size")?);
        let keywords = read("import_memory_win32_handle", keywords, &mut import)?;
        self.import_memory(py, keywords, import)
    }

    /// Imports memory of this process (`VkImportMemoryHostPointerInfoEXT`).
    ///
    /// `data` is any object with a writable, contiguous buffer, such as an `mmap.mmap` or a NumPy array,
    /// which is held until the allocation is freed; or an address with a `size`, which the caller keeps
    /// valid. Address and size are multiples of `device.min_imported_host_pointer_alignment`. The memory
    /// counts towards the heap of its memory type, though it takes none of it.
    ///
    /// Raises `FeatureNotPresentError` without `VK_EXT_external_memory_host`.
    #[pyo3(signature = (data, size = None, **keywords))]
    fn import_host_pointer(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        size: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Allocation>> {
        let _inside = self.state.enter(py)?;
        let mut import = ImportKeywords::host_pointer(data)?;
        if let Some(size) = size {
            import.set_size(unsigned(size, "size")?);
        }
        let keywords = read("import_host_pointer", keywords, &mut import)?;
        self.import_memory(py, keywords, import)
    }
}

fn read(
    function: &str,
    keywords: Option<&Bound<'_, PyDict>>,
    import: &mut ImportKeywords,
) -> PyResult<Keywords> {
    Keywords::read(function, keywords, |key, value| match key {
        "handle_type" | "memory_type_index" => import.take_detail(key, value),
        _ => Ok(false),
    })
}
