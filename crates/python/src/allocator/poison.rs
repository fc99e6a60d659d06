//! `Debug(poison_unmapped=True)`, and what becomes of it on a real device.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use crate::debugging::raising::warn;
use crate::debugging::settings::DebugSettings;
use crate::lifetime::ownership::DeviceCore;
use crate::objects::device::poison_unmapped;

/// Whether this process was told that `VK_MEM_DEBUG` cannot have what only simulated devices do.
static IS_REFUSAL_TOLD: AtomicBool = AtomicBool::new(false);

/// Has a device show a pattern in memory that is not mapped, if that is asked for. On a real device that raises, if
/// `debug=` asks for it; for a program that nobody changes a warning says once that it is left out.
pub(super) fn poison(
    py: Python<'_>,
    core: &DeviceCore,
    debug: &mut DebugSettings,
    is_given: bool,
) -> PyResult<()> {
    if !debug.poison_unmapped {
        return Ok(());
    }
    let Err(refused) = poison_unmapped(py, core, true) else { return Ok(()) };
    if is_given {
        return Err(refused);
    }
    debug.poison_unmapped = false;
    if IS_REFUSAL_TOLD.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    warn(py, &format!("VK_MEM_DEBUG: {}; it is left out", refused.value(py)), 1)
}
