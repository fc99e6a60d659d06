//! What a resource has that was created with `movable`, and the turn of those who move resources.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use vkmem_engine::lock::{Condvar, Mutex, rank};
use vkmem_vulkan::kept_info::KeptInfo;

use crate::arguments::text::Text;
use crate::errors::{invalid, pinned};
use crate::interpreter::detach;

/// Whether a resource may move, as the keyword `movable` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Movability {
    /// It stays where it was created.
    #[default]
    Fixed,
    /// It may move, as long as its device address was not asked for.
    Movable,
    /// It may move although its device address was asked for: the caller puts the new one in its place.
    WithAddress,
}

/// Reads the keyword `movable`: a bool, or "with_address".
pub fn movability(value: &Bound<'_, PyAny>) -> PyResult<Movability> {
    // NumPy's as well.
    if let Ok(movable) = value.extract::<bool>() {
        return Ok(if movable { Movability::Movable } else { Movability::Fixed });
    }
    match Text::string(value, "movable") {
        Ok(text) if text == "with_address" => Ok(Movability::WithAddress),
        Ok(text) => {
            let why = format!("movable is '{}', not a bool or 'with_address'", text.escape_debug());
            Err(invalid(value.py(), why))
        }
        Err(_) => {
            let kind = value.get_type().name()?;
            let why = format!("movable must be a bool or 'with_address', not {kind}");
            Err(PyTypeError::new_err(why))
        }
    }
}

/// What a resource needs to move.
pub struct Movable {
    /// How it was created.
    pub kept: KeptInfo,
    /// Whether it moves although somebody has its device address.
    pub with_address: bool,
    has_address: AtomicBool,
    /// A weak reference to the `Buffer` or the `Image`.
    pub object: OnceLock<Py<PyAny>>,
}

impl Movable {
    /// Keeps how a resource was created.
    pub fn new(kept: KeptInfo, movability: Movability) -> Self {
        Self {
            kept,
            with_address: movability == Movability::WithAddress,
            has_address: AtomicBool::new(false),
            object: OnceLock::new(),
        }
    }

    /// Notes that somebody has the device address.
    pub fn give_address(&self) {
        self.has_address.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has the device address, and does not expect that it changes.
    pub fn is_held_by_address(&self) -> bool {
        !self.with_address && self.has_address.load(Ordering::Relaxed)
    }
}

/// The resources of an allocator move in one thread at a time, in which they cannot be used meanwhile.
#[derive(Default)]
pub struct MoveGate {
    thread: Mutex<Option<ThreadId>, rank::Moving>,
    ended: Condvar,
}

/// The right to move resources, until dropped.
pub struct MoveTurn<'a>(&'a MoveGate);

impl MoveGate {
    /// Waits until no other thread moves resources; an exception in the thread that does.
    pub fn enter<'a>(&'a self, py: Python<'_>) -> PyResult<MoveTurn<'a>> {
        let me = std::thread::current().id();
        loop {
            {
                let mut thread = self.thread.lock();
                match *thread {
                    None => {
                        *thread = Some(me);
                        return Ok(MoveTurn(self));
                    }
                    Some(other) if other != me => {}
                    Some(_) => break,
                }
            }
            self.wait(py)?;
        }
        Err(within_a_move())
    }

    /// Whether this thread moves resources.
    pub fn is_mine(&self) -> bool {
        *self.thread.lock() == Some(std::thread::current().id())
    }

    /// Waits until the thread that moves resources is done; an exception in that thread.
    pub fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let me = std::thread::current().id();
        if *self.thread.lock() == Some(me) {
            return Err(within_a_move());
        }
        detach(py, || {
            let mut thread = self.thread.lock();
            if thread.is_some() {
                self.ended.wait(&mut thread);
            }
        });
        Ok(())
    }
}

impl Drop for MoveTurn<'_> {
    fn drop(&mut self) {
        *self.0.thread.lock() = None;
        self.0.ended.notify_all();
    }
}

/// A driver call, or the owner's lock of a queue, called Python code that wants what moves.
#[cold]
fn within_a_move() -> PyErr {
    pinned("resources of the allocator move: they cannot be used in a call that this move makes")
}
