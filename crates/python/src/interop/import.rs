//! Import of external memory: its keywords, and what has to be kept while it is used.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};
use vkmem_engine::{MemoryImport, words};
use vkmem_vulkan::Import;
use vkmem_vulkan::external::{FD_TYPES, HOST_TYPES, WIN32_TYPES};

use super::handle_types::{HOST_ALLOCATION, OPAQUE_FD, OPAQUE_WIN32, check_one_of, handle_type};
use crate::arguments::numbers::{unsigned, unsigned_32};
use crate::errors::invalid;
use crate::lifetime::host_buffer::HeldBuffer;
use crate::lifetime::ownership::Resource;
use crate::memory::mapping::Mapping;
use crate::package::{OS_CLOSE, OS_FSTAT};

/// The source of imported memory.
enum Source {
    /// A file descriptor, closed here after the import has succeeded.
    Fd(i32),
    /// A Win32 handle, which the caller keeps.
    Win32(u64),
    /// Host memory: the buffer of a Python object, if there is one, held until the allocation is freed;
    /// address and size.
    Host(Option<HeldBuffer>, u64, Option<u64>),
}

/// The import keywords of a call.
#[derive(Default)]
pub struct ImportKeywords {
    source: Option<Source>,
    handle_type: Option<u32>,
    size: Option<u64>,
    offset: Option<u64>,
    memory_type_index: Option<u32>,
    /// The keyword that named the source, and the first detail keyword.
    named: Option<&'static str>,
    beside: Option<String>,
}

/// An import that was read from keywords, and what its success changes.
pub struct Importing {
    /// The import for the driver.
    pub import: Import,
    fd: Option<i32>,
    held: Option<HeldBuffer>,
}

impl ImportKeywords {
    /// Reads the argument of `import_memory_fd`.
    pub fn fd(fd: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self::default();
        read.name("fd", Source::Fd(open_fd(fd, "fd")?))?;
        Ok(read)
    }

    /// Reads the argument of `import_memory_win32_handle`.
    pub fn win32_handle(handle: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut read = Self::default();
        read.name("handle", Source::Win32(win32_handle(handle, "handle")?))?;
        Ok(read)
    }

    /// Reads the argument of `import_host_pointer`.
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

    /// Sets the size of the whole memory object, in bytes.
    pub fn set_size(&mut self, size: u64) {
        self.size = Some(size);
    }

    /// Reads a keyword of `create_buffer` or `create_image`; returns false if it is unknown.
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

    /// Reads a keyword of the calls that only import memory; returns false if it is unknown.
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

    /// Returns the import; `None` if no source was named.
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
                // For an address without a size it is what the resource requires.
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
    /// Whether it is memory of this process.
    pub fn is_host_memory(&self) -> bool {
        self.import.memory.handle_type & HOST_TYPES != 0
    }

    /// Returns whether memory of a Python object is held.
    pub fn holds_memory(&self) -> bool {
        self.held.is_some()
    }

    /// To be called after the import has succeeded: closes a file descriptor, as the driver has a
    /// duplicate, and lets the resource hold the host memory until it is released.
    pub fn done(self, py: Python<'_>, resource: &Resource) -> PyResult<()> {
        if let Some(held) = self.held {
            resource.hold(held);
        }
        if let Some(fd) = self.fd {
            // The device has a reference of its own.
            OS_CLOSE.get(py)?.call1((fd,))?;
        }
        Ok(())
    }
}

fn open_fd(value: &Bound<'_, PyAny>, name: &str) -> PyResult<i32> {
    let py = value.py();
    // True is an int in Python, and a valid descriptor in C.
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
    let held = HeldBuffer::of(value, name, &py.get_type::<Mapping>())?;
    let (address, length) = (held.address(), held.len());
    if length == 0 {
        return Err(invalid(py, format!("{name} has no bytes to import")));
    }
    Ok(Source::Host(Some(held), address, Some(length)))
}
