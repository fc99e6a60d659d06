//! Numbers, flags and handles from Python, with one clear line for what is none.

use std::sync::OnceLock;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyString, PyType};
use vkmem_engine::words::with_article;

use crate::errors::invalid;
use crate::interpreter::is_ending;
use crate::package::{FLAGS, NUMBER_OF_NAMES, TO_INT};
use crate::process::forks::in_one_process;

/// Says of an object whether it is of a class of this package that stands for a handle.
pub type IsHandle = fn(&Bound<'_, PyAny>) -> bool;

static IS_HANDLE: OnceLock<IsHandle> = OnceLock::new();

/// Tells which classes stand for handles; once, before anything is read.
pub fn set_handles(is_handle: IsHandle) {
    IS_HANDLE.get_or_init(|| is_handle);
}

/// A non-negative integer: a size, an offset, flags of any binding.
#[inline]
pub fn unsigned(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return value.extract::<u64>().map_err(|error| no_unsigned(value, name, error));
    }
    refuse_handle(value, name)?;
    in_one_process(value.py(), || value.extract::<u64>())?
        .map_err(|error| no_unsigned(value, name, error))
}

/// An exception for what is a number only where a binding wants a handle: a `Buffer` has `__index__`, and as
/// a size or an offset that would be any number.
pub fn refuse_handle(value: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    if !IS_HANDLE.get().is_some_and(|is_handle| is_handle(value)) {
        return Ok(());
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("{name} must be a number, not {kind}")))
}

/// A number with a fraction, as a share of something.
pub fn real(value: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
    refuse_handle(value, name)?;
    of_type(value, name, "a number")
}

/// The same, at once if the value is of Python's `int` or of a class derived from it.
#[inline(always)]
fn of_int(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    // SAFETY: an object of Python's, and the interpreter is held. It raises for any other object.
    let number = unsafe { ffi::PyLong_AsUnsignedLongLong(value.as_ptr()) };
    if number != u64::MAX { Ok(number) } else { largest_or_none(value, name) }
}

/// What reads as the largest number: that, or none that it could read.
#[cold]
fn largest_or_none(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    // SAFETY: the interpreter is held. What was raised, if anything, comes of the second attempt again.
    unsafe { ffi::PyErr_Clear() };
    unsigned(value, name)
}

/// A keyword of another type than an integer: `what` it must be, as `a bool`.
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
        // Whatever the value's own `__index__` raised.
        error
    }
}

/// What to raise for an integer that is negative or has more than 64 bits.
fn out_of_range(value: &Bound<'_, PyAny>, name: &str) -> PyResult<PyErr> {
    let number = value.call_method0("__index__")?;
    let bits: u64 = number.call_method0("bit_length")?.extract()?;
    // Thousands of digits help nobody, and Python refuses to write them.
    let shown =
        if bits <= 128 { number.str()?.to_string() } else { format!("a number of {bits} bits") };
    let why = if number.lt(0)? { "must not be negative" } else { "does not fit 64 bits" };
    Ok(invalid(value.py(), format!("{name} is {shown}; it {why}")))
}

/// The same for 32 bits.
#[inline]
pub fn unsigned_32(value: &Bound<'_, PyAny>, name: &str) -> PyResult<u32> {
    narrow(value, name, unsigned(value, name)?)
}

/// A number that was read from a value, if it fits 32 bits.
#[inline(always)]
fn narrow(value: &Bound<'_, PyAny>, name: &str, number: u64) -> PyResult<u32> {
    u32::try_from(number).map_err(|_| too_wide(value, name, number))
}

#[cold]
fn too_wide(value: &Bound<'_, PyAny>, name: &str, number: u64) -> PyErr {
    invalid(value.py(), format!("{name} is {number}; it does not fit 32 bits"))
}

/// A handle of any Vulkan binding, as `vk_mem.interop` reads it; `type_name` is that of Vulkan, as
/// `VkBuffer`, and `keyword` the argument's.
pub fn handle(value: &Bound<'_, PyAny>, type_name: &str, keyword: &str) -> PyResult<u64> {
    if value.is_exact_instance_of::<PyInt>() {
        return unsigned(value, keyword);
    }
    let py = value.py();
    let number = in_one_process(py, || TO_INT.get(py)?.call1((value, type_name, keyword)))??;
    unsigned(&number, keyword)
}

/// The same, but null is refused.
pub fn live_handle(value: &Bound<'_, PyAny>, type_name: &str, keyword: &str) -> PyResult<u64> {
    match handle(value, type_name, keyword)? {
        0 => Err(invalid(value.py(), format!("{keyword}: a null handle is no {type_name}"))),
        handle => Ok(handle),
    }
}

/// Bits or a number as a class of `vk_mem.flags`; numbers that have no name there stay numbers.
pub fn flags<'py>(py: Python<'py>, class: &str, bits: u64) -> PyResult<Bound<'py, PyAny>> {
    let named = FLAGS.get(py, class)?.call1((bits,));
    match named {
        // At the end of the interpreter the module `enum` loses what it needs.
        Err(error) if error.is_instance_of::<PyValueError>(py) || is_ending() => {
            Ok(bits.into_pyobject(py)?.into_any())
        }
        named => named,
    }
}

/// A class of `vk_mem.flags` that arguments are checked against.
pub struct FlagClass {
    name: &'static str,
    /// The class itself, as soon as one of it was seen: names are looked up and compared once.
    known: PyOnceLock<Py<PyType>>,
}

impl FlagClass {
    const fn new(name: &'static str) -> Self {
        Self { name, known: PyOnceLock::new() }
    }

    /// Whether a value is known to be of it.
    #[inline]
    fn has(&self, value: &Bound<'_, PyAny>) -> bool {
        let known = self.known.get(value.py());
        known.is_some_and(|it| value.get_type_ptr() == it.as_ptr().cast())
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
pub static IMAGE_ASPECT: FlagClass = FlagClass::new("ImageAspect");
pub static IMAGE_LAYOUT: FlagClass = FlagClass::new("ImageLayout");
pub static SAMPLE_COUNT: FlagClass = FlagClass::new("SampleCount");
pub static SHARING_MODE: FlagClass = FlagClass::new("SharingMode");
pub static MEMORY_HEAP_FLAGS: FlagClass = FlagClass::new("MemoryHeapFlags");
pub static DEVICE_TYPE: FlagClass = FlagClass::new("DeviceType");

/// The class of `vk_mem.flags` that a value is of, if it is of one.
fn flag_class(value: &Bound<'_, PyAny>) -> Option<String> {
    let class = value.get_type();
    let ours = class.module().is_ok_and(|it| it.to_string().starts_with("vk_mem.flags"));
    ours.then(|| class.name().map_or(String::new(), |name| name.to_string()))
}

/// Bits or a number of a class of `vk_mem.flags`, a plain integer of any binding, or names as texts. Another
/// class of this package means that arguments were mixed up.
#[inline(always)]
pub fn of_class(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<u32> {
    narrow(value, name, wide_of_class(value, name, class)?)
}

/// The same of a class that has 64 bits.
#[inline(always)]
pub fn wide_of_class(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<u64> {
    if !class.has(value) && !value.is_exact_instance_of::<PyInt>() {
        return of_another(value, name, class);
    }
    of_int(value, name)
}

/// Reads a flag that is neither known to be of the class nor a plain integer.
#[cold]
fn of_another(value: &Bound<'_, PyAny>, name: &str, class: &FlagClass) -> PyResult<u64> {
    check_class(value, name, class)?;
    if !may_be_names(value) {
        return unsigned(value, name);
    }
    let py = value.py();
    let look_up = || NUMBER_OF_NAMES.get(py)?.call1((value, class.name, name));
    unsigned(&in_one_process(py, look_up)??, name)
}

/// A text, or something with items that is no number.
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

/// A number that no class of `vk_mem.flags` can be.
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
