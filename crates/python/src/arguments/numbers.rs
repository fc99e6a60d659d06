//! Numbers, flags and handles from Python; the error for any other value is one line.

use std::sync::OnceLock;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyString, PyType};
use vkmem_engine::words::with_article;

use crate::errors::invalid;
use crate::interpreter::is_ending;
use crate::package::{FLAGS, NUMBER_OF_NAMES, TO_INT};
use crate::process::forks::in_one_process;

/// A function that returns whether an object is of a class of this package that stands for a handle.
pub type IsHandle = fn(&Bound<'_, PyAny>) -> bool;

static IS_HANDLE: OnceLock<IsHandle> = OnceLock::new();

/// Sets the function that recognises handles; once, before any argument is read.
pub fn set_handles(is_handle: IsHandle) {
    IS_HANDLE.get_or_init(|| is_handle);
}

/// Returns whether a value is an object of this package: as a number it is its Vulkan handle, and as a
/// sequence the bytes of a buffer, so it is never meant as one.
pub fn is_handle(value: &Bound<'_, PyAny>) -> bool {
    IS_HANDLE.get().is_some_and(|is_handle| is_handle(value))
}

/// Reads a non-negative integer: a size, an offset, flags of any binding.
#[inline]
pub fn unsigned(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return value.extract::<u64>().map_err(|error| no_unsigned(value, name, error));
    }
    refuse_handle(value, name)?;
    in_one_process(value.py(), || value.extract::<u64>())?
        .map_err(|error| no_unsigned(value, name, error))
}

/// Raises for an object that is an integer only where a binding expects a handle: a `Buffer` has `__index__`,
/// which as a size or an offset would be a meaningless number.
pub fn refuse_handle(value: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    if !IS_HANDLE.get().is_some_and(|is_handle| is_handle(value)) {
        return Ok(());
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("{name} must be a number, not {kind}")))
}

/// Reads a number with a fraction, such as a share.
pub fn real(value: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
    refuse_handle(value, name)?;
    of_type(value, name, "a number")
}

/// Reads a non-negative integer; fast for `int` and classes derived from it.
#[inline(always)]
fn of_int(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    // SAFETY: a valid object, and the GIL is held. Sets an exception for any other object.
    let number = unsafe { ffi::PyLong_AsUnsignedLongLong(value.as_ptr()) };
    if number != u64::MAX { Ok(number) } else { largest_or_none(value, name) }
}

/// Reads a value for which `PyLong_AsUnsignedLongLong` returned `u64::MAX`: that number, or an error.
#[cold]
fn largest_or_none(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    // SAFETY: the GIL is held. The second attempt sets the exception again, if there was one.
    unsafe { ffi::PyErr_Clear() };
    unsigned(value, name)
}

/// Reads a value that is not an integer; `what` describes the type in errors, such as `a bool`.
pub fn of_type<T>(value: &Bound<'_, PyAny>, name: &str, what: &str) -> PyResult<T>
where
    T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>,
{
    let py = value.py();
    in_one_process(py, || value.extract::<T>())?.map_err(|error| {
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        match value.get_type().name() {
            Ok(kind) => PyTypeError::new_err(format!("{name} must be {what}, not {kind}")),
            Err(theirs) => theirs,
        }
    })
}

#[cold]
fn no_unsigned(value: &Bound<'_, PyAny>, name: &str, error: PyErr) -> PyErr {
    let py = value.py();
    if error.is_instance_of::<PyOverflowError>(py) {
        out_of_range(value, name).unwrap_or_else(|theirs| theirs)
    } else if error.is_instance_of::<PyTypeError>(py) {
        match value.get_type().name() {
            Ok(kind) => PyTypeError::new_err(format!("{name} must be an integer, not {kind}")),
            Err(theirs) => theirs,
        }
    } else {
        // The exception of the value's own conversion.
        error
    }
}

/// Returns the exception for an integer that is negative or has more than 64 bits.
fn out_of_range(value: &Bound<'_, PyAny>, name: &str) -> PyResult<PyErr> {
    let number = value.call_method0("__index__")?;
    let bits: u64 = number.call_method0("bit_length")?.extract()?;
    // Thousands of digits are of no use, and Python refuses to convert them.
    let shown =
        if bits <= 128 { number.str()?.to_string() } else { format!("a number of {bits} bits") };
    let why = if number.lt(0)? { "must not be negative" } else { "does not fit 64 bits" };
    Ok(invalid(value.py(), format!("{name} is {shown}; it {why}")))
}

/// Reads an integer that is 0 where it is left out.
pub fn unsigned_or_zero(value: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<u64> {
    value.map_or(Ok(0), |value| unsigned(value, name))
}

/// Reads a non-negative integer of 32 bits.
#[inline]
pub fn unsigned_32(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u32> {
    narrow(value, name, unsigned(value, name)?)
}

/// Returns a number that was read from a value as 32 bits; raises if it has more.
#[inline(always)]
fn narrow(value: &Bound<'_, PyAny>, name: &str, number: u64) -> PyResult<u32> {
    u32::try_from(number).map_err(|_| too_wide(value, name, number))
}

#[cold]
fn too_wide(value: &Bound<'_, PyAny>, name: &str, number: u64) -> PyErr {
    invalid(value.py(), format!("{name} is {number}; it does not fit 32 bits"))
}

/// Reads a handle of any Vulkan binding with `vk_mem.interop`; `type_name` is Vulkan's, such as `VkBuffer`,
/// and `keyword` the argument's name.
pub fn handle(value: &Bound<'_, PyAny>, type_name: &str, keyword: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return unsigned(value, keyword);
    }
    let py = value.py();
    let number = in_one_process(py, || TO_INT.get(py)?.call1((value, type_name, keyword)))??;
    unsigned(&number, keyword)
}

/// Reads a handle of any Vulkan binding; raises for a null handle.
pub fn live_handle(value: &Bound<'_, PyAny>, type_name: &str, keyword: &str) -> PyResult<u64> {
    match handle(value, type_name, keyword)? {
        0 => Err(invalid(value.py(), format!("{keyword}: a null handle is no {type_name}"))),
        handle => Ok(handle),
    }
}

/// Returns bits or a number as a class of `vk_mem.flags`; numbers without a name there stay integers.
pub fn flags<'py>(py: Python<'py>, class: &str, bits: u64) -> PyResult<Bound<'py, PyAny>> {
    let named = FLAGS.get(py, class)?.call1((bits,));
    match named {
        // At interpreter exit the module `enum` loses its contents.
        Err(error) if error.is_instance_of::<PyValueError>(py) || is_ending() => {
            Ok(bits.into_pyobject(py)?.into_any())
        }
        named => named,
    }
}

/// A class of `vk_mem.flags` that an argument must be of.
pub struct FlagClass {
    name: &'static str,
    /// The class, once a member of it was seen: its name is looked up and compared once.
    known: PyOnceLock<Py<PyType>>,
    /// Numbers of the texts that were read: programs repeat few of them, and reading one takes microseconds.
    texts: PyOnceLock<Py<PyDict>>,
}

/// Texts that a class remembers at most; each of them has [`LONGEST_TEXT`] characters at most.
const MOST_TEXTS: usize = 256;
const LONGEST_TEXT: usize = 200;

impl FlagClass {
    const fn new(name: &'static str) -> Self {
        Self { name, known: PyOnceLock::new(), texts: PyOnceLock::new() }
    }

    /// Returns whether a value is of the class, as far as the class is known.
    #[inline]
    fn has(&self, value: &Bound<'_, PyAny>) -> bool {
        let known = self.known.get(value.py());
        known.is_some_and(|it| value.get_type_ptr() == it.as_ptr().cast())
    }

    /// Returns the number of a text that was read before. Only of a `str` itself: comparing others runs their code.
    fn number_of(&self, text: &Bound<'_, PyString>) -> Option<u64> {
        let known = self.texts.get(text.py())?.bind(text.py()).get_item(text);
        known.ok()??.extract().ok()
    }

    /// Remembers the number of a text.
    fn remember(&self, text: &Bound<'_, PyString>, number: &Bound<'_, PyAny>) -> PyResult<()> {
        let texts = self.texts.get_or_init(text.py(), || PyDict::new(text.py()).unbind());
        let texts = texts.bind(text.py());
        if texts.len() < MOST_TEXTS && text.len()? <= LONGEST_TEXT {
            texts.set_item(text, number)?;
        }
        Ok(())
    }
}

pub static BUFFER_USAGE: FlagClass = FlagClass::new("BufferUsage");
pub static IMAGE_USAGE: FlagClass = FlagClass::new("ImageUsage");
pub static FORMAT: FlagClass = FlagClass::new("Format");
pub static MEMORY_USAGE: FlagClass = FlagClass::new("MemoryUsage");
pub static ALLOCATION_CREATE_FLAGS: FlagClass = FlagClass::new("AllocationCreateFlags");
pub static MEMORY_PROPERTY_FLAGS: FlagClass = FlagClass::new("MemoryPropertyFlags");
pub static QUEUE_FLAGS: FlagClass = FlagClass::new("QueueFlags");
pub static HANDLE_TYPE: FlagClass = FlagClass::new("ExternalMemoryHandleType");
pub static BUFFER_CREATE_FLAGS: FlagClass = FlagClass::new("BufferCreateFlags");
pub static IMAGE_CREATE_FLAGS: FlagClass = FlagClass::new("ImageCreateFlags");
pub static IMAGE_TYPE: FlagClass = FlagClass::new("ImageType");
pub static IMAGE_TILING: FlagClass = FlagClass::new("ImageTiling");
pub static FILTER: FlagClass = FlagClass::new("Filter");
pub static IMAGE_ASPECT: FlagClass = FlagClass::new("ImageAspect");
pub static IMAGE_LAYOUT: FlagClass = FlagClass::new("ImageLayout");
pub static SAMPLE_COUNT: FlagClass = FlagClass::new("SampleCount");
pub static SHARING_MODE: FlagClass = FlagClass::new("SharingMode");
pub static MEMORY_HEAP_FLAGS: FlagClass = FlagClass::new("MemoryHeapFlags");
pub static MOVE_OPERATION: FlagClass = FlagClass::new("DefragmentationMoveOperation");
pub static DEVICE_FAULT_ADDRESS_TYPE: FlagClass = FlagClass::new("DeviceFaultAddressType");
pub static DEVICE_TYPE: FlagClass = FlagClass::new("DeviceType");

/// Returns the name of the class of `vk_mem.flags` that a value is of, if any.
fn flag_class(value: &Bound<'_, PyAny>) -> Option<String> {
    let class = value.get_type();
    let ours = class.module().is_ok_and(|it| it.to_string().starts_with("vk_mem.flags"));
    ours.then(|| class.name().map_or(String::new(), |name| name.to_string()))
}

/// Reads a member of a class of `vk_mem.flags`, a plain integer of any binding, or names as texts. Another
/// class of this package raises: arguments were probably mixed up.
#[inline(always)]
pub fn of_class(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<u32> {
    narrow(value, name, wide_of_class(value, name, class)?)
}

/// Reads a member of a class of `vk_mem.flags` with 64 bits, as [`of_class`] does.
#[inline(always)]
pub fn wide_of_class(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<u64> {
    if !class.has(value) && !value.is_exact_instance_of::<PyInt>() {
        return of_another(value, name, class);
    }
    of_int(value, name)
}

/// Reads a flag whose class is not known, and which is not a plain integer.
#[cold]
fn of_another(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<u64> {
    let text = value.cast_exact::<PyString>().ok();
    if let Some(number) = text.and_then(|it| class.number_of(it)) {
        return Ok(number);
    }
    check_class(value, name, class)?;
    if !may_be_names(value) {
        return unsigned(value, name);
    }
    let py = value.py();
    let look_up = || NUMBER_OF_NAMES.get(py)?.call1((value, class.name, name));
    let number = in_one_process(py, look_up)??;
    if let Some(text) = text {
        class.remember(text, &number)?;
    }
    unsigned(&number, name)
}

/// Returns whether a value is a text, or has items and is not a number.
fn may_be_names(value: &Bound<'_, PyAny>) -> bool {
    let has = |name| value.hasattr(name).unwrap_or(false);
    value.is_instance_of::<PyString>() || (has("__iter__") && !has("__index__"))
}

#[cold]
fn check_class(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<()> {
    let Some(given) = flag_class(value) else { return Ok(()) };
    if given != class.name {
        let wanted = class.name;
        let instead = match given.as_str() {
            _ if name != "usage" => "",
            "BufferUsage" => "; what a buffer is used for is buffer_usage=",
            "ImageUsage" => "; what an image is used for is image_usage=",
            _ => "",
        };
        return Err(PyTypeError::new_err(format!(
            "{name} is {}; it takes {wanted}{instead}",
            with_article(&given)
        )));
    }
    class.known.get_or_init(value.py(), || value.get_type().unbind());
    Ok(())
}

/// Reads a size or an offset; raises for a member of any class of `vk_mem.flags`.
#[inline(always)]
pub fn quantity(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return of_int(value, name);
    }
    no_plain_quantity(value, name)
}

#[cold]
fn no_plain_quantity(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    match flag_class(value) {
        Some(given) => Err(PyTypeError::new_err(format!(
            "{name} is {}; it takes a number",
            with_article(&given)
        ))),
        None => unsigned(value, name),
    }
}
