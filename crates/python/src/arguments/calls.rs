//! [`Calls`]: calls of callbacks that many objects may share.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::process::forks::in_one_process;

/// Calls of callbacks, each with a list of its items: a callback that many items have is called once.
pub struct Calls<'py> {
    py: Python<'py>,
    by_callback: Vec<(Bound<'py, PyAny>, Bound<'py, PyList>)>,
    /// The place of each callback in the list, by its identity.
    places: HashMap<usize, usize>,
    of_all: Option<(Bound<'py, PyAny>, Bound<'py, PyList>)>,
}

impl<'py> Calls<'py> {
    /// Without items; `of_all` is a callback that gets all of them, after the others.
    pub fn new(py: Python<'py>, of_all: Option<Bound<'py, PyAny>>) -> Self {
        let of_all = of_all.map(|callback| (callback, PyList::empty(py)));
        Self { py, by_callback: Vec::new(), places: HashMap::new(), of_all }
    }

    /// Whether there is a callback that gets all items.
    pub fn has_one_of_all(&self) -> bool {
        self.of_all.is_some()
    }

    /// Adds an item for its own callbacks, and for that which gets all items.
    ///
    /// # Errors
    /// `MemoryError`.
    pub fn add(
        &mut self,
        item: &Bound<'py, PyAny>,
        callbacks: impl IntoIterator<Item = Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        for callback in callbacks {
            let next = self.by_callback.len();
            let place = *self.places.entry(callback.as_ptr() as usize).or_insert(next);
            if place == next {
                self.by_callback.push((callback, PyList::empty(self.py)));
            }
            self.by_callback[place].1.append(item)?;
        }
        match &self.of_all {
            Some((_, all)) => all.append(item),
            None => Ok(()),
        }
    }

    /// Calls the callbacks. Exceptions are printed: what they are told of has taken place.
    pub fn make(self) {
        let of_all = self.of_all.filter(|(_, all)| !all.is_empty());
        for (callback, items) in self.by_callback.into_iter().chain(of_all) {
            let called = in_one_process(self.py, || callback.call1((items,)));
            if let Err(error) = called.and_then(|it| it) {
                error.write_unraisable(self.py, Some(&callback));
            }
        }
    }
}
