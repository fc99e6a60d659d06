//! What dumps and lists of leaks say of a resource, beside its name: kept as plain text, so that a
//! dump needs neither the interpreter nor any lock of a Python object.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use vkmem_engine::ResourceKind;

use crate::observed::Origin;

/// Longer user data is cut in a dump.
const LONGEST: usize = 1000;

/// See the module.
#[derive(Default)]
pub struct Label {
    usage: AtomicU64,
    kind: AtomicU8,
    serial: AtomicU64,
    origin: OnceLock<Origin>,
    custom_data: Mutex<Option<Arc<str>>>,
}

impl Label {
    /// `VkBufferUsageFlags` or `VkImageUsageFlags`; 0 for bare memory.
    pub fn usage(&self) -> u64 {
        self.usage.load(Ordering::Relaxed)
    }

    /// Set once, when it is created.
    pub fn set_usage(&self, usage: u64) {
        self.usage.store(usage, Ordering::Relaxed);
    }

    /// What lies in the memory, tiling and all.
    pub fn kind(&self) -> ResourceKind {
        match self.kind.load(Ordering::Relaxed) {
            1 => ResourceKind::Buffer,
            2 => ResourceKind::ImageUnknown,
            3 => ResourceKind::ImageLinear,
            4 => ResourceKind::ImageOptimal,
            _ => ResourceKind::Unknown,
        }
    }

    /// Set once, when it is created.
    pub fn set_kind(&self, kind: ResourceKind) {
        self.kind.store(kind as u8, Ordering::Relaxed);
    }

    /// Its number among all resources of the allocator, in the order of creation.
    pub fn serial(&self) -> u64 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Set once, when it is created.
    pub fn set_serial(&self, serial: u64) {
        self.serial.store(serial, Ordering::Relaxed);
    }

    /// Where it was created, if the allocator keeps that.
    pub fn origin(&self) -> Option<Origin> {
        self.origin.get().copied()
    }

    /// Set once, when it is created.
    pub fn set_origin(&self, origin: Origin) {
        self.origin.get_or_init(|| origin);
    }

    /// User data as a text.
    pub fn custom_data(&self) -> Option<Arc<str>> {
        self.custom_data.lock().clone()
    }

    /// Follows every change of the user data. Runs no Python code.
    pub fn set_custom_data(&self, data: Option<&Bound<'_, PyAny>>) {
        let text = data.map(|data| Arc::from(text_of(data)));
        *self.custom_data.lock() = text;
    }
}

/// VMA prints a pointer, and its schema allows letters and digits only. So a text is reduced to those,
/// and a number is written in full. Of anything else the type and the `id()` are said: its own
/// `__str__` could do anything, at any time.
fn text_of(data: &Bound<'_, PyAny>) -> String {
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
