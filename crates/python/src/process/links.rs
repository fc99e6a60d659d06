//! Python objects that other objects hold for the caller.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::prelude::*;

use crate::interpreter::check_locks;

thread_local! {
    /// Objects to drop, while one is being dropped further up the stack.
    static WAITING: RefCell<Option<Vec<Py<PyAny>>>> = const { RefCell::new(None) };
}

/// A reference that is dropped without recursion: a chain of user data may be of any length, and the stack is
/// limited.
pub struct Link<T>(ManuallyDrop<Py<T>>);

impl<T> Link<T> {
    /// Takes ownership of a reference.
    pub fn new(object: Py<T>) -> Self {
        Self(ManuallyDrop::new(object))
    }
}

impl<T> Deref for Link<T> {
    type Target = Py<T>;

    fn deref(&self) -> &Py<T> {
        &self.0
    }
}

impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        check_locks();
        // SAFETY: taken once, here.
        let object = unsafe { ManuallyDrop::take(&mut self.0) }.into_any();
        let outermost = WAITING.with(|waiting| match &mut *waiting.borrow_mut() {
            Some(others) => {
                others.push(object);
                None
            }
            nobody => {
                *nobody = Some(Vec::new());
                Some(object)
            }
        });
        let Some(first) = outermost else { return };
        let mut next = Some(first);
        while let Some(object) = next {
            drop(object);
            next = WAITING.with(|waiting| waiting.borrow_mut().as_mut().and_then(Vec::pop));
        }
        WAITING.with(|waiting| *waiting.borrow_mut() = None);
    }
}
