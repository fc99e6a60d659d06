//! Reads `vk_mem.Debug` and `VK_MEM_DEBUG`, and makes a `Debug` of what was read.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use vkmem_engine::QuarantineLimit;

use super::settings::{CheckMode, Contents, DebugSettings};
use crate::arguments::text::Text;
use crate::errors::invalid;
use crate::package::{DEBUG, DEBUG_OF_ENVIRONMENT, REFUSE_ALL_BUT};

/// Reads `debug=`: a `vk_mem.Debug`.
pub fn debug(value: &Bound<'_, PyAny>) -> PyResult<DebugSettings> {
    let py = value.py();
    if !value.is_instance(DEBUG.get(py)?)? {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!("debug must be a vk_mem.Debug, not {kind}")));
    }
    let (quarantined_bytes, quarantined_frames): (Option<u64>, Option<u64>) =
        value.call_method0("_quarantine_limits")?.extract()?;
    let switch = |name: &str| -> PyResult<bool> { value.getattr(name)?.extract() };
    Ok(DebugSettings {
        fill: contents(&value.getattr("fill")?)?,
        fill_on_free: contents(&value.getattr("fill_on_free")?)?,
        margin: value.getattr("margin")?.extract()?,
        detect_corruption: switch("detect_corruption")?,
        quarantine: quarantined_bytes
            .map(QuarantineLimit::Bytes)
            .or(quarantined_frames.map(QuarantineLimit::Frames)),
        check: mode(&value.getattr("check")?)?,
        min_granularity: value.getattr("min_granularity")?.extract()?,
        always_dedicated: switch("always_dedicated")?,
        poison_unmapped: switch("poison_unmapped")?,
        strict_host_access: switch("strict_host_access")?,
    })
}

/// Reads `debug=` of an allocator; what is not given is what `VK_MEM_DEBUG` says. Returns also what that says for
/// `track_call_sites`, if it is asked.
pub fn debug_of_allocator<'py>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
) -> PyResult<(DebugSettings, Option<Bound<'py, PyAny>>)> {
    if let Some(given) = given {
        return Ok((debug(given)?, None));
    }
    let Some(text) = std::env::var_os("VK_MEM_DEBUG") else {
        return Ok((DebugSettings::default(), None));
    };
    let read = DEBUG_OF_ENVIRONMENT.get(py)?.call1((text.to_string_lossy(),))?;
    let (read, call_sites): (Option<Bound<'py, PyAny>>, Bound<'py, PyAny>) = read.extract()?;
    let settings = read.map_or(Ok(DebugSettings::default()), |it| debug(&it))?;
    Ok((settings, Some(call_sites)))
}

/// Reads `debug=` of a pool.
pub fn debug_of_pool(value: &Bound<'_, PyAny>) -> PyResult<DebugSettings> {
    let read = debug(value)?;
    let whole = [
        ("poison_unmapped", read.poison_unmapped),
        ("strict_host_access", read.strict_host_access),
    ];
    match whole.iter().find(|it| it.1) {
        Some((name, _)) => {
            let why = format!("{name} is for a whole allocator, not for a pool");
            Err(invalid(value.py(), why))
        }
        None => Ok(read),
    }
}

/// Reads `debug=` of something that has margins and nothing else; `what` names it with its article.
pub fn margin_only(value: &Bound<'_, PyAny>, what: &str) -> PyResult<u64> {
    let read = REFUSE_ALL_BUT.get(value.py())?.call1((value, ("margin",), what))?;
    debug(&read).map(|read| read.margin)
}

fn contents(value: &Bound<'_, PyAny>) -> PyResult<Option<Contents>> {
    if value.is_none() {
        return Ok(None);
    }
    if !value.is_instance_of::<PyString>() {
        return value.extract().map(|byte| Some(Contents::Byte(byte)));
    }
    let name = Text::string(value, "fill")?;
    match CONTENTS.iter().find(|it| it.0 == name.as_str()) {
        Some((_, contents)) => Ok(Some(*contents)),
        None => Err(invalid(value.py(), format!("fill is '{}'", name.escape_debug()))),
    }
}

fn mode(value: &Bound<'_, PyAny>) -> PyResult<CheckMode> {
    let name = Text::string(value, "check")?;
    match MODES.iter().find(|it| it.0 == name.as_str()) {
        Some((_, mode)) => Ok(*mode),
        None => Err(invalid(value.py(), format!("check is '{}'", name.escape_debug()))),
    }
}

const CONTENTS: [(&str, Contents); 3] =
    [("pattern", Contents::Pattern), ("zero", Contents::Zero), ("nan", Contents::Nan)];
const MODES: [(&str, CheckMode); 3] =
    [("free", CheckMode::Free), ("frame", CheckMode::Frame), ("call", CheckMode::Call)];

/// Returns settings as a `vk_mem.Debug`.
pub fn debug_object<'py>(py: Python<'py>, settings: &DebugSettings) -> PyResult<Bound<'py, PyAny>> {
    let given = PyDict::new(py);
    let fill = |contents: Option<Contents>| -> PyResult<Bound<'py, PyAny>> {
        Ok(match contents {
            None => py.None().into_bound(py),
            Some(Contents::Byte(byte)) => byte.into_pyobject(py)?.into_any(),
            Some(other) => {
                let name = CONTENTS.iter().find(|it| it.1 == other).map(|it| it.0);
                name.into_pyobject(py)?
            }
        })
    };
    given.set_item("fill", fill(settings.fill)?)?;
    given.set_item("fill_on_free", fill(settings.fill_on_free)?)?;
    given.set_item("margin", settings.margin)?;
    given.set_item("detect_corruption", settings.detect_corruption)?;
    match settings.quarantine {
        None => {}
        Some(QuarantineLimit::Bytes(bytes)) => given.set_item("quarantine", bytes)?,
        Some(QuarantineLimit::Frames(frames)) => {
            given.set_item("quarantine", format!("{frames} frames"))?;
        }
    }
    given.set_item("check", MODES.iter().find(|it| it.1 == settings.check).map(|it| it.0))?;
    given.set_item("min_granularity", settings.min_granularity)?;
    given.set_item("always_dedicated", settings.always_dedicated)?;
    given.set_item("poison_unmapped", settings.poison_unmapped)?;
    given.set_item("strict_host_access", settings.strict_host_access)?;
    DEBUG.get(py)?.call((), Some(&given))
}
