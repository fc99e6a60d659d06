//! Optional parts of a resource, allocated on first use.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use pyo3::{PyTraverseError, PyVisit};
use vkmem_engine::AllocationId;
use vkmem_engine::lock::Mutex;
use vkmem_engine::recording::Told;
use vkmem_vulkan::{ResourceHandle, TrackedLayout};

use super::host_buffer::HeldBuffer;
use super::losable::Losable;
use super::ownership::{Alias, Extras, Resource, ResourceRef, Writers};
use crate::observe::call_site::Origin;
use crate::observe::event::{Observable, Placed, Traced};

/// Maximum length of user data in a dump, in characters.
const LONGEST: usize = 1000;

impl Extras {
    /// Returns the writers that may have written to the memory without a flush.
    pub fn writers(&self) -> &Writers {
        &self.writers
    }

    /// Creates the extras of what is lost from the start.
    pub fn of_lost() -> Box<Self> {
        let extras = Box::<Self>::default();
        extras.losable.get_or_init(Losable::lost);
        extras
    }

    /// Creates the extras of a new alias.
    pub fn of_alias(base: ResourceRef, name: Option<String>) -> Box<Self> {
        let alias = Some(Alias { base, name: Mutex::new(name) });
        Box::new(Self { alias, ..Self::default() })
    }
}

impl Resource {
    /// Returns base and name of an alias; `None` for any other resource.
    #[inline]
    pub fn alias(&self) -> Option<&Alias> {
        self.extras.get()?.alias.as_ref()
    }

    pub(crate) fn extras(&self) -> &Extras {
        self.extras.get_or_init(Box::default)
    }

    /// Keeps host memory alive until the resource is released.
    pub fn hold(&self, held: HeldBuffer) {
        *self.extras().held.lock() = Some(held);
    }

    /// Removes and returns the host memory that [`hold`](Self::hold) keeps.
    pub fn take_held(&self) -> Option<HeldBuffer> {
        self.extras.get()?.held.lock().take()
    }

    /// Returns whether [`hold`](Self::hold) keeps host memory.
    pub fn holds_memory(&self) -> bool {
        self.extras.get().is_some_and(|extras| extras.held.lock().is_some())
    }

    /// Traverses the Python object whose memory [`hold`](Self::hold) keeps, for the cycle collector. To be
    /// called by one Python object of the resource only, as there is one reference. Other Python objects of
    /// the resource may exist: none of them leads Python code to the exporting object, which this reference
    /// keeps alive.
    pub fn visit_held(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let held = self.extras.get().and_then(|extras| extras.held.try_lock());
        held.as_deref().and_then(Option::as_ref).map_or(Ok(()), |held| held.visit(visit))
    }

    /// Stores the name for errors after the end; only the first call has an effect.
    pub fn remember_name(&self, name: String) {
        self.extras().last_name.get_or_init(|| name);
    }

    /// Returns the name that [`remember_name`](Self::remember_name) stored.
    pub fn last_name(&self) -> Option<&str> {
        self.extras.get()?.last_name.get().map(|name| &**name)
    }

    /// Returns where and when the resource was created, if the allocator tracks call sites.
    pub fn origin(&self) -> Option<Origin> {
        self.extras.get()?.origin.get().copied()
    }

    /// The layout of an image, which was created in `initial`.
    pub fn layout(&self, initial: ash::vk::ImageLayout) -> &Arc<TrackedLayout> {
        self.extras().layout.get_or_init(|| Arc::new(TrackedLayout::new(initial)))
    }

    /// Returns the user data as plain text, so that a dump needs neither the GIL nor locks of Python objects.
    pub fn custom_data(&self) -> Option<Arc<str>> {
        self.extras.get()?.custom_data.lock().clone()
    }

    /// Updates the text after each change of the user data. Runs no Python code.
    pub fn set_custom_data(&self, data: Option<&Bound<'_, PyAny>>) {
        if data.is_none() && self.extras.get().is_none() {
            return;
        }
        let text: Option<Arc<str>> = data.map(|data| Arc::from(text_of(data)));
        let told = || Told::Data(self.as_told(), text.as_deref());
        self.allocator.engine().tell_recorder(told);
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

    fn handle(&self) -> ResourceHandle {
        (**self).handle()
    }

    fn is_alias(&self) -> bool {
        self.alias().is_some()
    }
}

impl Traced for ResourceRef {
    fn placed(&self) -> Placed {
        Placed {
            allocation: self.allocation(),
            size: self.host_size,
            usage: self.usage,
            is_bound: !self.dont_bind,
        }
    }

    fn origin(&self) -> Option<Origin> {
        (**self).origin()
    }

    fn set_origin(&self, origin: Origin) {
        self.extras().origin.get_or_init(|| origin);
    }
}

/// Returns user data as text for a dump. VMA prints a pointer, and its schema allows only letters and digits:
/// so text is reduced to those, and a number is written in full. Any other object gives its type and `id()`,
/// as its own `__str__` might run any code at any time.
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
