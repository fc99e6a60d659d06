//! `queue_lock=` of `Device.wrap`: a context manager of the caller that is entered around each submission.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::{CallError, DeviceError};
use vkmem_vulkan::{QUEUE_LOCK, QUEUE_UNLOCK, QueueLock};

use crate::arguments::callback::current;
use crate::errors::{keep_raised, use_after_free};
use crate::interpreter::try_attach;
use crate::process::forks::in_one_process;

/// `VK_ERROR_UNKNOWN`
const UNKNOWN: i32 = -13;

/// The caller's lock; `None` after the cycle collector has cleared it.
#[derive(Debug)]
pub struct OwnersLock(Mutex<Option<Py<PyAny>>, rank::Callback>);

impl OwnersLock {
    /// Takes an object that can be used in a `with` statement; raises `TypeError` for any other.
    pub fn new(object: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        Self::named(object, "queue_lock")
    }

    /// Takes the lock of a keyword.
    pub fn named(object: &Bound<'_, PyAny>, keyword: &str) -> PyResult<Arc<Self>> {
        // Looks at the class, as `with` does: `threading.Lock` without parentheses is not a lock.
        let class = object.get_type();
        if class.hasattr("__enter__")? && class.hasattr("__exit__")? {
            return Ok(Arc::new(Self(Mutex::new(Some(object.clone().unbind())))));
        }
        let kind = class.name()?;
        Err(PyTypeError::new_err(format!(
            "{keyword} must be a context manager, as threading.Lock(), not {kind}"
        )))
    }

    /// Traverses the lock, for the cycle collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // If another thread holds the mutex, the object is reachable, and so is the lock.
        match self.0.try_lock() {
            Some(object) => visit.call(&*object),
            None => Ok(()),
        }
    }

    /// Removes the lock, for the cycle collector: nothing can be submitted any more.
    pub fn clear(&self) {
        let object = self.0.lock().take();
        drop(object);
    }

    /// Calls a method of the lock's class, as `with` does; an error has the `name`.
    fn call(&self, method: &str, exception: &[()], name: &'static str) -> Result<(), CallError> {
        let called = try_attach(|py| {
            let Some(lock) = current(py, &self.0) else {
                return Err(use_after_free(py, "the queue_lock of the device was collected"));
            };
            let mut arguments = vec![lock.clone()];
            arguments.extend(exception.iter().map(|()| py.None().into_bound(py)));
            let arguments = PyTuple::new(py, arguments)?;
            let run = || lock.get_type().getattr(method)?.call1(arguments);
            in_one_process(py, run)?.map(drop)
        });
        // After interpreter exit there is no exception.
        let called = called.map_or_else(|| Err(None), |called| called.map_err(Some));
        called.map_err(|raised| {
            keep_raised(raised);
            DeviceError::Other(UNKNOWN).of(name)
        })
    }
}

impl QueueLock for OwnersLock {
    fn lock(&self) -> Result<(), CallError> {
        self.call("__enter__", &[], QUEUE_LOCK)
    }

    fn unlock(&self) -> Result<(), CallError> {
        self.call("__exit__", &[(); 3], QUEUE_UNLOCK)
    }
}
