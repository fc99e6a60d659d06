//! What an upload reads: any array, whatever its elements and their order.

use std::ops::Range;

use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};
use vkmem_vulkan::{Stopped, StridedArray, Target, copy_bytes};

use super::overlap::{meet, temporary};
use super::state::{Kept, hold_contiguous};
use crate::arguments::plain::PlainBuffer;
use crate::errors::{IntoPyResult, invalid};
use crate::interpreter::try_attach;
use crate::package::ARRAY_SOURCE;

/// The bytes of an array in C's order.
pub enum Source {
    /// They lie one behind the other.
    Contiguous(Box<PlainBuffer>),
    /// They do not.
    Strided(Box<PlainBuffer>, StridedArray),
    /// They are of another type, and converted piece by piece by NumPy.
    Converted {
        /// `convert(first byte, bytes, address)`
        convert: Py<PyAny>,
        /// Bytes of all.
        size: usize,
        /// Bytes of one element.
        item: usize,
        /// Where the array lies.
        bounds: Range<usize>,
    },
    /// Copied before, as one element is larger than a piece.
    Owned(Vec<u8>),
}

/// What converts an array, the bytes that it becomes, those of one element, and where the array lies.
type Conversion = (Py<PyAny>, usize, usize, (usize, usize));

fn is_layout(py: Python<'_>, error: &PyErr) -> bool {
    // NumPy has a ValueError where the standard library has a BufferError.
    error.is_instance_of::<PyBufferError>(py) || error.is_instance_of::<PyValueError>(py)
}

impl Source {
    /// Reads an argument. `dtype` is what its elements are to become.
    #[inline]
    pub fn read(
        object: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        name: &str,
    ) -> PyResult<Self> {
        if dtype.is_some() {
            return Self::through_numpy(object, dtype, name);
        }
        match hold_contiguous(object, false) {
            Ok(buffer) => Ok(Self::Contiguous(buffer)),
            Err(why) => Self::read_otherwise(object, why, name),
        }
    }

    #[cold]
    fn read_otherwise(object: &Bound<'_, PyAny>, why: PyErr, name: &str) -> PyResult<Self> {
        let py = object.py();
        if is_layout(py, &why) {
            return Self::strided(object, name);
        }
        if !why.is_instance_of::<PyTypeError>(py) {
            return Err(why);
        }
        let offers = |attribute| object.hasattr(attribute).unwrap_or(false);
        if offers("__cuda_array_interface__")
            || offers("__array__")
            || offers("__dlpack__")
            || offers("__array_interface__")
        {
            return Self::through_numpy(object, None, name);
        }
        // SAFETY: reads the type of a live object.
        if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 1 {
            return Err(PyTypeError::new_err(format!("{name}: {}", why.value(py))));
        }
        let kind = object.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "{name}: a value of type {kind} is no array: pass numpy.asarray(value), or anything with the buffer protocol, __array__ or DLPack"
        )))
    }

    fn strided(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let py = object.py();
        let mut buffer = Box::new(PlainBuffer::none());
        buffer.hold_strided(object).map_err(|why| {
            let text = why.value(py);
            if is_layout(py, &why) {
                invalid(py, format!("{name} cannot be read: {text}"))
            } else if why.is_instance_of::<PyTypeError>(py) {
                PyTypeError::new_err(format!("{name}: {text}"))
            } else {
                why
            }
        })?;
        let (shape, strides) = buffer.layout();
        let array = StridedArray::new(buffer.address(), buffer.item_size(), &shape, &strides);
        Ok(Self::Strided(buffer, array))
    }

    /// NumPy's view of it, or what converts it.
    #[cold]
    fn through_numpy(
        object: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        name: &str,
    ) -> PyResult<Self> {
        let py = object.py();
        let found = ARRAY_SOURCE.get(py)?.call1((object, dtype, name))?;
        let (array, converted): (Bound<'_, PyAny>, Option<Conversion>) = found.extract()?;
        if let Some((convert, size, item, (start, end))) = converted {
            return Ok(Self::Converted { convert, size, item, bounds: start..end });
        }
        match hold_contiguous(&array, false) {
            Ok(buffer) => Ok(Self::Contiguous(buffer)),
            Err(why) if is_layout(py, &why) => Self::strided(&array, name),
            Err(why) => Err(why),
        }
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Contiguous(buffer) => buffer.len(),
            Self::Strided(_, array) => array.size(),
            Self::Converted { size, .. } => *size,
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// Where its bytes lie, if one behind the other.
    pub fn address(&self) -> Option<usize> {
        match self {
            Self::Contiguous(buffer) => Some(buffer.address()),
            Self::Owned(bytes) => Some(bytes.as_ptr().expose_provenance()),
            Self::Strided(..) | Self::Converted { .. } => None,
        }
    }

    /// Bytes that stay together.
    pub fn grain(&self) -> u64 {
        match self {
            Self::Contiguous(_) | Self::Owned(_) => 1,
            Self::Strided(buffer, _) => buffer.item_size() as u64,
            Self::Converted { item, .. } => *item as u64,
        }
    }

    /// Returns the source itself, or a copy as single bytes if its elements are larger than `most` bytes.
    pub fn with_grain(self, py: Python<'_>, most: u64) -> PyResult<Self> {
        if self.grain() <= most {
            return Ok(self);
        }
        self.copied(py)
    }

    /// Returns the source itself, or a copy of its bytes if it lies in a range of addresses that is written to.
    pub fn apart_from(self, py: Python<'_>, written: Option<Range<usize>>) -> PyResult<Self> {
        match (&written, self.bounds()) {
            (Some(written), Some(read)) if meet(written, &read) => self.copied(py),
            _ => Ok(self),
        }
    }

    /// From the lowest address that is read to behind the highest one; `None` if the memory is its own.
    fn bounds(&self) -> Option<Range<usize>> {
        match self {
            Self::Contiguous(buffer) => Some(buffer.address()..buffer.address() + buffer.len()),
            Self::Strided(_, array) => Some(array.bounds()),
            Self::Converted { bounds, .. } => Some(bounds.clone()),
            Self::Owned(_) => None,
        }
    }

    fn copied(self, py: Python<'_>) -> PyResult<Self> {
        let mut bytes = temporary(self.size()).or_raise(py)?;
        let reader = self.reader();
        let (size, to) = (self.size(), bytes.as_mut_ptr().expose_provenance());
        // SAFETY: as long as the source.
        let done = unsafe { reader.fill(0, size, to) };
        reader.raised()?;
        match done {
            Ok(()) => Ok(Self::Owned(bytes)),
            Err(_) => Err(invalid(py, "the array could not be read")),
        }
    }

    /// What reads it from any thread while it is held.
    pub fn reader(&self) -> Reader<'_> {
        let kind = match self {
            Self::Contiguous(_) | Self::Owned(_) => {
                ReaderKind::Contiguous(self.address().unwrap_or_default())
            }
            Self::Strided(_, array) => ReaderKind::Strided(array),
            Self::Converted { convert, .. } => ReaderKind::Converted(convert),
        };
        Reader { kind, raised: Mutex::new(None) }
    }

    /// Its memory, for a transfer that reads it later.
    pub fn into_kept(self) -> Option<Kept> {
        match self {
            Self::Contiguous(buffer) => Some(Kept::new(buffer)),
            _ => None,
        }
    }
}

enum ReaderKind<'a> {
    Contiguous(usize),
    Strided(&'a StridedArray),
    Converted(&'a Py<PyAny>),
}

/// Reads a source, and knows what its conversion has raised.
pub struct Reader<'a> {
    kind: ReaderKind<'a>,
    raised: Mutex<Option<PyErr>, rank::TransferFailure>,
}

impl Reader<'_> {
    /// Whether one thread alone may read it.
    pub fn is_serial(&self) -> bool {
        matches!(self.kind, ReaderKind::Converted(_))
    }

    /// Copies bytes from an offset on to an address.
    ///
    /// # Safety
    /// The range lies in the source, which is held, and the target is valid for writing.
    pub unsafe fn fill(&self, from: usize, length: usize, to: usize) -> Result<(), Stopped> {
        match self.kind {
            // SAFETY: of the caller.
            ReaderKind::Contiguous(start) => unsafe {
                copy_bytes(start + from, to, length, Target::InUse);
            },
            // SAFETY: of the caller.
            ReaderKind::Strided(array) => unsafe { array.gather(from, length, to) },
            ReaderKind::Converted(convert) => {
                let done = try_attach(|py| convert.call1(py, (from, length, to)).map(drop));
                match done {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        *self.raised.lock() = Some(error);
                        return Err(Stopped::Interrupted);
                    }
                    None => return Err(Stopped::Interrupted),
                }
            }
        }
        Ok(())
    }

    /// The exception that a conversion has raised.
    pub fn raised(&self) -> PyResult<()> {
        self.raised.lock().take().map_or(Ok(()), Err)
    }
}
