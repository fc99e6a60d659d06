//! Telling Python that the file of a recording cannot be written any more, from the thread that writes.

use std::ffi::{c_int, c_void};
use std::sync::Weak;

use pyo3::ffi;

use super::session::Session;
use crate::interpreter::try_attach;

/// What the thread that writes does when its file fails.
pub struct Told(Weak<Session>);

impl Told {
    pub fn new(session: Weak<Session>) -> Self {
        Self(session)
    }

    /// Makes the main thread warn soon, between two steps of Python code; if that is not possible, the end of the
    /// recording does.
    pub fn ask_to_tell(&self) {
        let session = Box::into_raw(Box::new(self.0.clone()));
        // SAFETY: may be called by any thread, with or without the GIL; `tell` takes ownership of what the argument
        // points to.
        if unsafe { ffi::Py_AddPendingCall(Some(tell), session.cast()) } != 0 {
            // SAFETY: `tell` was not registered, so the box is still owned here.
            drop(unsafe { Box::from_raw(session) });
        }
    }
}

/// Warns; called by the interpreter on the main thread, with the GIL and between two bytecodes.
extern "C" fn tell(session: *mut c_void) -> c_int {
    // SAFETY: allocated by `ask_to_tell` for this call.
    let session = *unsafe { Box::from_raw(session.cast::<Weak<Session>>()) };
    if let Some(session) = session.upgrade().filter(|it| it.is_here()) {
        try_attach(|py| session.warn_of_failure(py));
    }
    0
}
