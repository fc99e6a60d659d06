//! Methods with any number of keywords that use CPython's vectorcall convention (`METH_FASTCALL`).
//!
//! PyO3 passes the arguments of a method with `**keywords` in a tuple, which is created, unpacked and freed
//! for each call: a twelfth of the instructions of `create_buffer` and `destroy` together.

use std::any::Any;
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{Borrowed, PyTypeInfo, ffi};

/// A method with at most `N` positional arguments and any number of keywords.
pub trait FastMethod<const N: usize> {
    /// The class of the method.
    type Class: PyTypeInfo;
    /// The name of the method.
    const NAME: &'static CStr;
    /// Names of the positional arguments, which may be passed as keywords, too.
    const POSITIONAL: [&'static str; N];
    /// Signature in the form that `inspect` parses, and docstring.
    const DOC: &'static CStr;

    /// Handles the usual call without keywords; `None`, without any effect, if it is not such a call.
    /// References to Python objects that it drops have to be bound (`Bound`): PyO3 does not see here that the
    /// GIL is held, and would defer the drop of any other reference.
    fn plain_call<'py>(
        slf: &Bound<'py, Self::Class>,
        positional: [Option<&Bound<'py, PyAny>>; N],
    ) -> Option<PyResult<Py<PyAny>>>;

    /// Handles every other call. `keywords` is `None` if there are none.
    fn call<'py>(
        slf: &Bound<'py, Self::Class>,
        positional: [Option<&Bound<'py, PyAny>>; N],
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Py<PyAny>>;
}

/// Adds the method to its class.
pub fn add<M: FastMethod<N>, const N: usize>(py: Python<'_>) -> PyResult<()> {
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<M, N> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: M::DOC.as_ptr(),
    }));
    let class = py.get_type::<M::Class>();
    // SAFETY: the descriptor refers to the class, which lives as long, and the definition is never freed.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(M::NAME.to_string_lossy(), method)
}

/// Entry point of the method for CPython.
///
/// # Safety
/// To be called by CPython: under the GIL, on an instance of the class, with `count` positional arguments
/// followed by those that `names`, a tuple or null, has the names of.
unsafe extern "C" fn enter<M: FastMethod<N>, const N: usize>(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller holds the GIL until this returns.
    let py = unsafe { Python::assume_attached() };
    let call = || -> PyResult<Py<PyAny>> {
        // SAFETY: the descriptor has checked the class, and the caller keeps the object alive.
        let slf = unsafe { Borrowed::from_ptr(py, slf).cast_unchecked::<M::Class>() };
        let count = count as usize;
        if count > N {
            return Err(too_many::<M, N>(py, count));
        }
        let mut positional = [None; N];
        for (index, place) in positional.iter_mut().enumerate().take(count) {
            // SAFETY: one of `count` arguments, which the caller keeps alive.
            let argument = unsafe { Borrowed::from_ptr(py, *arguments.add(index)) };
            *place = Some(argument).filter(|it| !it.is_none());
        }
        if names.is_null()
            && let Some(done) = M::plain_call(&slf, positional.each_ref().map(|it| it.as_deref()))
        {
            return done;
        }
        // SAFETY: a tuple or null, which the caller keeps alive.
        let names = unsafe { Borrowed::from_ptr_or_opt(py, names) };
        let keywords = match names {
            None => None,
            Some(names) => {
                let keywords = PyDict::new(py);
                for (index, name) in names.cast::<PyTuple>()?.iter().enumerate() {
                    // SAFETY: there is one argument for each name, after the positional ones.
                    let value = unsafe { Borrowed::from_ptr(py, *arguments.add(count + index)) };
                    let place = M::POSITIONAL.iter().position(|it| is_named(&name, it));
                    match place {
                        Some(place) if place < count => return Err(given_twice::<M, N>(py, place)),
                        Some(place) => positional[place] = Some(value).filter(|it| !it.is_none()),
                        None => keywords.set_item(name, value)?,
                    }
                }
                (!keywords.is_empty()).then_some(keywords)
            }
        };
        let positional = positional.each_ref().map(|it| it.as_deref());
        // From here on PyO3 sees that the GIL is held.
        Python::attach(|_| M::call(&slf, positional, keywords.as_ref()))
    };
    // Returns only a pointer: a larger result would be copied on return, and stall on store forwarding.
    let call = || call().map_or_else(|error| raise(py, error), Py::into_ptr);
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|panic| raise(py, PanicException::new_err((what_it_said(&*panic),))))
}

#[cold]
fn raise(py: Python<'_>, error: PyErr) -> *mut ffi::PyObject {
    error.restore(py);
    ptr::null_mut()
}

#[cold]
fn too_many<M: FastMethod<N>, const N: usize>(py: Python<'_>, count: usize) -> PyErr {
    let class =
        py.get_type::<M::Class>().name().map_or_else(|_| String::new(), |it| it.to_string());
    let name = M::NAME.to_string_lossy();
    PyTypeError::new_err(format!(
        "{class}.{name}() takes from 0 to {N} positional arguments but {count} were given"
    ))
}

fn is_named(name: &Bound<'_, PyAny>, wanted: &str) -> bool {
    name.cast::<PyString>().is_ok_and(|name| name == wanted)
}

#[cold]
fn given_twice<M: FastMethod<N>, const N: usize>(py: Python<'_>, place: usize) -> PyErr {
    let class =
        py.get_type::<M::Class>().name().map_or_else(|_| String::new(), |it| it.to_string());
    let (name, argument) = (M::NAME.to_string_lossy(), M::POSITIONAL[place]);
    PyTypeError::new_err(format!("{class}.{name}() got multiple values for argument '{argument}'"))
}

fn what_it_said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic from Rust").to_string()
}
