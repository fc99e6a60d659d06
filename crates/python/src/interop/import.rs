//! Memory from outside: the keywords that name it, and what has to stay while it is used.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};
use vkmem_engine::{Error, MemoryImport, MemoryOf};
use vkmem_vulkan::Import;
use vkmem_vulkan::external::{FD_TYPES, HOST_TYPES, WIN32_TYPES, names_of_types};

use crate::arguments::numbers::{HANDLE_TYPE, of_class, unsigned, unsigned_32};
use crate::errors::{IntoPyResult, invalid};
use crate::lifetime::host_buffer::HeldBuffer;
use crate::lifetime::ownership::Resource;
use crate::objects::resource::ResourceObject;
use crate::package::{OS_CLOSE, OS_FSTAT};
use vkmem_engine::words;

const OPAQUE_FD: u32 = 0x1;
const OPAQUE_WIN32: u32 = 0x2;
const HOST_ALLOCATION: u32 = 0x80;

/// Where imported memory comes from.
enum Source {
    /// Open, and closed here once everything has worked.
    Fd(i32),
    /// Stays the caller's.
    Win32(u64),
    /// Stays while the import lives.
    Host(Option<HeldBuffer>, u64, Option<u64>),
}

/// The keywords of a call that can import.
#[derive(Default)]
pub struct ImportKeywords {
    source: Option<Source>,
    handle_type: Option<u32>,
    size: Option<u64>,
    offset: Option<u64>,
    memory_type_index: Option<u32>,
    /// Which keyword named the source, and which stood beside it.
    named: Option<&'static str>,
    beside: Option<String>,
}

/// An import that was read, and who has to hear of its success.
pub struct Importing {
    /// For the device.
    pub import: Import,
    fd: Option<i32>,
    held: Option<HeldBuffer>,
}

impl ImportKeywords {
    /// Of a call that names the memory by itself.
    pub fn fd(fd: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self::default();
        read.name("fd", Source::Fd(open_fd(fd, "fd")?))?;
        Ok(read)
    }

    /// The same for a Win32 handle.
    pub fn win32_handle(handle: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self::default();
        read.name("handle", Source::Win32(win32_handle(handle, "handle")?))?;
        Ok(read)
    }

    /// The same for memory of the host.
    pub fn host_pointer(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self::default();
        read.name("data", host_memory(data, "data")?)?;
        Ok(read)
    }

    fn name(&mut self, key: &'static str, source: Source) -> PyResult<()> {
        if let Some(other) = self.named {
            return Err(PyTypeError::new_err(format!("{key}= and {other}= name two memories")));
        }
        (self.named, self.source) = (Some(key), Some(source));
        Ok(())
    }

    /// Bytes of the whole memory object.
    pub fn set_size(&mut self, size: u64) {
        self.size = Some(size);
    }

    /// Takes a keyword of `create_buffer` and `create_image`; whether it knew it.
    pub fn take(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let known = matches!(
            key,
            "import_fd"
                | "import_win32_handle"
                | "import_host_pointer"
                | "import_handle_type"
                | "import_size"
                | "import_offset"
                | "import_memory_type_index"
        );
        if !known || value.is_none() {
            return Ok(known);
        }
        match key {
            "import_fd" => self.name("import_fd", Source::Fd(open_fd(value, key)?))?,
            "import_win32_handle" => {
                self.name("import_win32_handle", Source::Win32(win32_handle(value, key)?))?;
            }
            "import_host_pointer" => self.name("import_host_pointer", host_memory(value, key)?)?,
            _ => {
                self.take_detail(&key["import_".len()..], value)?;
                self.beside = Some(key.into());
            }
        }
        Ok(true)
    }

    /// Takes a keyword of the calls that import memory alone.
    pub fn take_detail(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key {
            "handle_type" | "memory_type_index" if value.is_none() => {}
            "handle_type" => self.handle_type = Some(handle_type(value)?),
            "size" => self.size = Some(unsigned(value, "import_size")?),
            "offset" => self.offset = Some(unsigned(value, "import_offset")?),
            "memory_type_index" => self.memory_type_index = Some(unsigned_32(value, key)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What to import; `None` if nothing was named.
    pub fn finish(self, py: Python<'_>) -> PyResult<Option<Importing>> {
        let Some(source) = self.source else {
            return match self.beside {
                Some(key) => Err(invalid(
                    py,
                    format!(
                        "{key}= says how to import; import_fd=, import_win32_handle= or \
                         import_host_pointer= says what"
                    ),
                )),
                None => Ok(None),
            };
        };
        let (usual, allowed) = match source {
            Source::Fd(_) => (OPAQUE_FD, FD_TYPES),
            Source::Win32(_) => (OPAQUE_WIN32, WIN32_TYPES),
            Source::Host(..) => (HOST_ALLOCATION, HOST_TYPES),
        };
        let handle_type = self.handle_type.unwrap_or(usual);
        check_one_of(py, handle_type, allowed)?;
        let mut size = self.size;
        let (handle, fd, held) = match source {
            Source::Fd(fd) => (u64::from(fd.unsigned_abs()), Some(fd), None),
            Source::Win32(handle) => (handle, None, None),
            Source::Host(held, address, length) => {
                if let (Some(size), Some(length)) = (size, length)
                    && size > length
                {
                    return Err(invalid(
                        py,
                        format!("a size of {size}, of {}", words::bytes(length)),
                    ));
                }
                // Of an address alone it is what the resource needs.
                size = size.or(length);
                (address, None, held)
            }
        };
        let import = Import {
            memory: MemoryImport { handle_type, handle },
            size,
            offset: self.offset.unwrap_or(0),
            memory_type_index: self.memory_type_index,
        };
        Ok(Some(Importing { import, fd, held }))
    }
}

impl Importing {
    /// Everything has worked: a file descriptor is the driver's now, and host memory stays until the
    /// resource is released.
    pub fn done(self, object: &Bound<'_, ResourceObject>) -> PyResult<()> {
        let py = object.py();
        if let Some(held) = self.held {
            object.get().resource.hold(held);
            ResourceObject::track(object);
        }
        if let Some(fd) = self.fd {
            // The device has a reference of its own.
            OS_CLOSE.get(py)?.call1((fd,))?;
        }
        Ok(())
    }
}

/// `ExternalMemoryHandleType`
pub fn handle_type(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    of_class(value, "handle_type", &HANDLE_TYPE)
}

/// An exception unless it is one of the allowed types.
pub fn check_one_of(py: Python<'_>, handle_type: u32, allowed: u32) -> PyResult<()> {
    if handle_type.count_ones() == 1 && handle_type & allowed != 0 {
        return Ok(());
    }
    let (given, allowed) = (names_of_types(handle_type), names_of_types(allowed));
    let allowed = allowed.replace('|', ", ");
    Err(invalid(py, format!("handle_type is {given}; here it is one of {allowed}")))
}

fn open_fd(value: &Bound<'_, PyAny>, name: &str) -> PyResult<i32> {
    let py = value.py();
    // True is an int in Python, and descriptor 1 in C.
    if !value.is_instance_of::<PyInt>() || value.is_instance_of::<PyBool>() {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{name} must be an integer, not {kind}")));
    }
    let number = unsigned(value, name)?;
    let fd = i32::try_from(number)
        .map_err(|_| invalid(py, format!("{name} is {number}; it is no file descriptor")))?;
    let found = OS_FSTAT.get(py)?.call1((fd,));
    found
        .map(|_| fd)
        .map_err(|why| invalid(py, format!("{name} is {fd}, which is not open: {}", why.value(py))))
}

fn win32_handle(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    match unsigned(value, name)? {
        0 => Err(invalid(value.py(), format!("{name} is 0; that is no Win32 handle"))),
        handle => Ok(handle),
    }
}

fn host_memory(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Source> {
    let py = value.py();
    if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() {
        return match unsigned(value, name)? {
            0 => Err(invalid(py, format!("{name}: address 0 is no memory"))),
            address => Ok(Source::Host(None, address, None)),
        };
    }
    let held = HeldBuffer::of(value, name)?;
    let (address, length) = (held.address(), held.len());
    if length == 0 {
        return Err(invalid(py, format!("{name} has no bytes to import")));
    }
    Ok(Source::Host(Some(held), address, Some(length)))
}

/// Bytes of the memory object of a resource, and the handle types that it was allocated for.
pub fn memory_of(py: Python<'_>, resource: &Resource) -> PyResult<MemoryOf> {
    resource.allocator.device.check_process(py)?;
    resource.allocator.engine().memory_of(resource.allocation.id).or_raise(py)
}

/// Checks that the memory of a resource can be exported so.
fn check_export(
    py: Python<'_>,
    resource: &Resource,
    handle_type: u32,
    allowed: u32,
) -> PyResult<()> {
    check_one_of(py, handle_type, allowed)?;
    let allocator = &resource.allocator.device_allocator;
    allocator.check_handle_types(handle_type).or_raise(py)?;
    let exported = memory_of(py, resource)?.export_handle_types;
    if exported & handle_type == 0 {
        let (what, name) = (resource.describe(), names_of_types(handle_type));
        return Err(invalid(
            py,
            format!(
                "{what} was not allocated to be exported as {name}: create it, or its pool, with \
                 export_handle_types=ExternalMemoryHandleType.{name}"
            ),
        ));
    }
    Ok(())
}

/// `export_fd(handle_type=OPAQUE_FD)`
pub fn export_fd(
    py: Python<'_>,
    resource: &Resource,
    handle_type: Option<&Bound<'_, PyAny>>,
) -> PyResult<i32> {
    let _pin = resource.enter(py)?;
    let handle_type = handle_type.map_or(Ok(OPAQUE_FD), self::handle_type)?;
    check_export(py, resource, handle_type, FD_TYPES)?;
    let external = resource.allocator.device_allocator.driver().external();
    let memory = resource.allocation.memory;
    // SAFETY: the memory is live, pinned, and was allocated for this type, whose extension is on.
    let exported = py.detach(|| unsafe { external.export_fd(memory, handle_type) });
    exported.map_err(|error| Error::from(error.of("vkGetMemoryFdKHR"))).or_raise(py)
}

/// `export_win32_handle(handle_type=OPAQUE_WIN32)`
pub fn export_win32_handle(
    py: Python<'_>,
    resource: &Resource,
    handle_type: Option<&Bound<'_, PyAny>>,
) -> PyResult<u64> {
    let _pin = resource.enter(py)?;
    let handle_type = handle_type.map_or(Ok(OPAQUE_WIN32), self::handle_type)?;
    check_export(py, resource, handle_type, WIN32_TYPES)?;
    let external = resource.allocator.device_allocator.driver().external();
    let memory = resource.allocation.memory;
    // SAFETY: the memory is live, pinned, and was allocated for this type, whose extension is on.
    let exported = py.detach(|| unsafe { external.export_win32_handle(memory, handle_type) });
    exported.map_err(|error| Error::from(error.of("vkGetMemoryWin32HandleKHR"))).or_raise(py)
}
