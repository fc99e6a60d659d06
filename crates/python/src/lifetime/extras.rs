//! What few resources have beside what all have.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::AllocationId;
use vkmem_engine::lock::Mutex;

use super::host_buffer::HeldBuffer;
use super::ownership::{Alias, Extras, Resource, ResourceRef, Writers};
use crate::observe::call_site::Origin;
use crate::observe::event::{Observable, Traced};

/// Longer user data is cut in a dump.
const LONGEST: usize = 1000;

impl Extras {
    /// Who may have written to the memory and not flushed it yet.
    pub fn writers(&self) -> &Writers {
        &self.writers
    }

    /// Those of a new alias.
    pub fn of_alias(base: ResourceRef, name: Option<String>) -> Box<Self> {
        let alias = Some(Alias { base, name: Mutex::new(name) });
        Box::new(Self { alias, ..Self::default() })
    }
}

impl Resource {
    /// What it has of an alias, if it is one.
    #[inline]
    pub fn alias(&self) -> Option<&Alias> {
        self.extras.get()?.alias.as_ref()
    }

    pub(crate) fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
    }

    /// Keeps memory of the host until the resource is released.
    pub fn hold(&self, held: HeldBuffer) {
        *self.extras().held.lock() = Some(held);
    }

    /// What [`hold`](Self::hold) kept.
    pub fn take_held(&self) -> Option<HeldBuffer> {
        self.extras.get()?.held.lock().take()
    }

    /// Whether memory of a Python object is kept so.
    pub fn holds_memory(&self) -> bool {
        self.extras.get().is_some_and(|extras| extras.held.lock().is_some())
    }

    /// Shows the cycle collector the object whose memory is kept. To be called by one Python object, which
    /// stands for the resource: that a second one may keep the resource as well does no harm, as none of
    /// them leads Python code to the object, and what keeps its memory is the reference that is held here.
    pub fn visit_held(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let held = self.extras.get().and_then(|extras| extras.held.try_lock());
        held.as_deref().and_then(Option::as_ref).map_or(Ok(()), |held| held.visit(visit))
    }

    /// For errors after its end.
    pub fn remember_name(&self, name: String) {
        self.extras().last_name.get_or_init(|| name);
    }

    /// What [`remember_name`](Self::remember_name) was told first.
    pub fn last_name(&self) -> Option<&str> {
        self.extras.get()?.last_name.get().map(|name| &**name)
    }

    /// Where it was created, if the allocator keeps that.
    pub fn origin(&self) -> Option<Origin> {
        self.extras.get()?.origin.get().copied()
    }

    /// User data as a plain text, so that a dump needs neither the interpreter nor any lock of a Python
    /// object.
    pub fn custom_data(&self) -> Option<Arc<str>> {
        self.extras.get()?.custom_data.lock().clone()
    }

    /// Follows every change of the user data. Runs no Python code.
    pub fn set_custom_data(&self, data: Option<&Bound<'_, PyAny>>) {
        if data.is_none() && self.extras.get().is_none() {
            return;
        }
        let text = data.map(|data| Arc::from(text_of(data)));
        *self.extras().custom_data.lock() = text;
    }
}

impl Observable for ResourceRef {
    fn id(&self) -> AllocationId {
        self.allocation().id
    }

    fn size(&self) -> u64 {
        self.allocation().size
    }

    fn is_alias(&self) -> bool {
        self.alias().is_some()
    }
}

impl Traced for ResourceRef {
    fn origin(&self) -> Option<Origin> {
        (**self).origin()
    }

    fn set_origin(&self, origin: Origin) {
        self.extras().origin.get_or_init(|| origin);
    }
}

/// VMA prints a pointer, and its schema allows letters and digits only. So a text is reduced to those,
/// and a number is written in full. Of anything else the type and the `id()` are said: its own
/// `__str__` could do anything, at any time.
pub fn text_of(data: &Bound<'_, PyAny>) -> String {
    let alphanumeric = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).take(LONGEST).collect()
    };
    if let Ok(text) = data.cast::<PyString>() {
        let text = alphanumeric(&text.to_string_lossy());
        if !text.is_empty() {
            return text;
        }
    } else if let Ok(truth) = data.cast::<PyBool>() {
        return if truth.is_true() { "True" } else { "False" }.into();
    } else if data.is_exact_instance_of::<PyInt>()
        && let Ok(number) = data.extract::<u64>()
    {
        return number.to_string();
    }
    let class = data.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
    format!("{}0x{:x}", alphanumeric(&class), data.as_ptr() as usize)
}
