//! Touches of many resources.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi::{Py_ssize_t, PyList_GetItem, PyObject, PyTuple_GetItem};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::errors::invalid;
use crate::lifetime::losable::Losable;
use crate::lifetime::ownership::AllocatorState;
use crate::objects::resource::ResourceObject;

/// Resources of a row.
const ROW: usize = 32;

type Object<'a, 'py> = Borrowed<'a, 'py, PyAny>;

/// Returns an item of a list or a tuple as a borrowed reference; null with an exception if there is none.
type GetItem = unsafe extern "C" fn(*mut PyObject, Py_ssize_t) -> *mut PyObject;

/// Touches resources.
///
/// Object, resource, extras, entry and stamp lie in memory of their own, each of which leads to the next. So a row of
/// resources is followed step by step: the processor loads what one step needs for many of them at once.
pub(super) struct Touches<'a, 'py> {
    allocator: &'a Arc<AllocatorState>,
    /// The class of the last one: those of one class come in rows. Kept, so that no other can have its address.
    class: Option<Bound<'py, PyType>>,
    /// Those that are lost.
    lost: Bound<'py, PyList>,
}

impl<'a, 'py> Touches<'a, 'py> {
    /// Touches all of an iterable; returns those that are lost.
    pub fn of(
        allocator: &'a Arc<AllocatorState>,
        resources: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let lost = PyList::empty(resources.py());
        let mut touches = Self { allocator, class: None, lost };
        if let Ok(list) = resources.cast::<PyList>() {
            touches.touch_items(list, list.len(), PyList_GetItem)?;
        } else if let Ok(tuple) = resources.cast::<PyTuple>() {
            touches.touch_items(tuple, tuple.len(), PyTuple_GetItem)?;
        } else {
            for object in resources.try_iter()? {
                touches.touch_row(&[object?.as_borrowed()])?;
            }
        }
        Ok(touches.lost)
    }

    /// Touches the items of a list or a tuple.
    fn touch_items(
        &mut self,
        items: &Bound<'py, PyAny>,
        count: usize,
        get: GetItem,
    ) -> PyResult<()> {
        // SAFETY: `get` is the function of the object's class, and checks the index. Nothing removes the item before
        // its row ends, as the GIL is held and no Python code runs.
        let item = |index: usize| unsafe {
            Object::from_ptr_or_err(items.py(), get(items.as_ptr(), index as Py_ssize_t))
        };
        for first in (0..count).step_by(ROW) {
            let mut row = [item(first)?; ROW];
            let row = &mut row[..ROW.min(count - first)];
            for (object, index) in row.iter_mut().zip(first..) {
                *object = item(index)?;
            }
            self.touch_row(row)?;
        }
        Ok(())
    }

    /// Touches at most [`ROW`] resources; if one cannot be touched, those before it.
    #[inline]
    fn touch_row(&mut self, row: &[Object<'_, 'py>]) -> PyResult<()> {
        let py = self.lost.py();
        let mut wrong = Ok(());
        let mut objects = [None; ROW];
        let mut count = 0;
        for object in row {
            match self.resource_object(object) {
                Ok(it) => objects[count] = Some(it),
                Err(error) => {
                    wrong = Err(error);
                    break;
                }
            }
            count += 1;
        }
        let mut losable = [None; ROW];
        for (index, object) in objects[..count].iter().flatten().enumerate() {
            if let Err(error) = self.check(py, object) {
                wrong = Err(error);
                count = index;
                break;
            }
            losable[index] = object.resource.losable();
        }
        let mut used_before = [true; ROW];
        for (used, losable) in used_before.iter_mut().zip(&losable[..count]) {
            *used = losable.is_none_or(|it| it.is_used_now(py));
        }
        for (index, losable) in losable[..count].iter().enumerate() {
            let is_there = used_before[index] || losable.is_none_or(|it: &Losable| it.touch(py));
            if !is_there {
                self.lost.append(row[index])?;
            }
        }
        wrong
    }

    #[inline]
    fn resource_object<'r>(&mut self, object: &'r Object<'_, 'py>) -> PyResult<&'r ResourceObject> {
        if self.class.as_ref().is_none_or(|it| it.as_type_ptr() != object.get_type_ptr()) {
            self.check_class(object)?;
        }
        // SAFETY: this object, or another one of its class, was seen to be a resource.
        Ok(unsafe { object.cast_unchecked::<ResourceObject>() }.get())
    }

    #[cold]
    fn check_class(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        if !object.is_instance_of::<ResourceObject>() {
            let kind = object.get_type().name()?;
            let why = format!("resources must be of Buffer, Image or Allocation, not {kind}");
            return Err(PyTypeError::new_err(why));
        }
        self.class = Some(object.get_type());
        Ok(())
    }

    /// Raises for a resource of another allocator, and for one that has ended without being lost.
    #[inline]
    fn check(&self, py: Python<'py>, object: &ResourceObject) -> PyResult<()> {
        let resource = &object.resource;
        if !Arc::ptr_eq(&resource.allocator, self.allocator) {
            let why = format!("{} is of another allocator", object.face().describe());
            return Err(invalid(py, why));
        }
        if resource.pins.is_closed() && !resource.is_lost() {
            return resource.check_live(py);
        }
        Ok(())
    }
}
