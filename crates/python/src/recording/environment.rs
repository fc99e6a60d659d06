//! The recording that `VK_MEM_RECORD` asks for: one for all allocators and virtual blocks of the process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_engine::lock::{Mutex, rank};

use super::session::{Place, Session};

static SESSION: Mutex<Option<Arc<Session>>, rank::Attached> = Mutex::new(None);

/// Returns the path with the id of the process for `%p`.
fn expanded(given: OsString) -> PathBuf {
    match given.to_str() {
        Some(text) => text.replace("%p", &std::process::id().to_string()).into(),
        None => given.into(),
    }
}

/// Returns the recording that the environment asks for, which begins with the first allocator or
/// virtual block; `None` if it asks for
/// none. In the child of a fork it is another one. Raises `OSError` if its file cannot be written.
pub fn session(py: Python<'_>) -> PyResult<Option<Arc<Session>>> {
    let Some(given) = std::env::var_os("VK_MEM_RECORD").filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let before = SESSION.lock().clone();
    let mut path = expanded(given);
    if let Some(before) = before {
        if before.is_here() {
            return Ok(Some(before).filter(|it| !it.is_over()));
        }
        if before.path.as_ref() == Some(&path) {
            // The file of the parent is the parent's.
            path.as_mut_os_string().push(format!(".{}", std::process::id()));
        }
        // What it shares with the parent stays as it is.
        std::mem::forget(before);
    }
    let session = Session::begin(py, Place::File(path))?;
    let old = SESSION.lock().replace(session.clone());
    if old.as_ref().is_some_and(|old| !old.is_here()) {
        std::mem::forget(old);
    }
    Ok(Some(session))
}
