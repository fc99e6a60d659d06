//! Options that are given by a name, a flag or a number.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use vkmem_engine::suballocator::Algorithm;
use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, DefragmentationAlgorithm, EmptyBlockRetention,
    Evict, Strategy,
};

use super::numbers::{ALLOCATION_CREATE_FLAGS, of_class, real, unsigned, unsigned_32};
use super::text::Text;
use crate::errors::invalid;
use crate::observe::call_site::MAX_DEPTH;

/// Returns the algorithm of a name.
pub fn algorithm(py: Python<'_>, name: &str) -> PyResult<Algorithm> {
    Algorithm::from_name(name).ok_or_else(|| {
        let names = Algorithm::ALL.map(|it| format!("'{}'", it.name())).join(", ");
        invalid(py, format!("no algorithm is named '{}'; there are {names}", name.escape_debug()))
    })
}

/// Reads the name of an algorithm of defragmentation.
pub fn defragmentation_algorithm(py: Python<'_>, name: &str) -> PyResult<DefragmentationAlgorithm> {
    DefragmentationAlgorithm::from_name(name).ok_or_else(|| {
        let names = DefragmentationAlgorithm::ALL.map(|it| format!("'{}'", it.name())).join(", ");
        let name = name.escape_debug();
        invalid(py, format!("algorithm is '{name}'; it must be one of {names}"))
    })
}

/// Reads the keyword `algorithm` of a defragmentation.
pub fn thoroughness(py: Python<'_>, name: Option<Text>) -> PyResult<DefragmentationAlgorithm> {
    let of_name = |name: Text| defragmentation_algorithm(py, &name.0);
    name.map_or(Ok(DefragmentationAlgorithm::default()), of_name)
}

fn given(limit: Bound<'_, PyAny>) -> Option<Bound<'_, PyAny>> {
    (!limit.is_none()).then_some(limit)
}

/// Reads `empty_block_retention`.
pub fn retention(value: &Bound<'_, PyAny>) -> PyResult<EmptyBlockRetention> {
    if let (Ok(count), Ok(size), Ok(share)) =
        (value.getattr("count"), value.getattr("size"), value.getattr("share"))
    {
        return Ok(EmptyBlockRetention {
            count: given(count).map(|it| unsigned_32(&it, "count")).transpose()?,
            bytes: given(size).map(|it| unsigned(&it, "size")).transpose()?,
            share: given(share).map(|it| real(&it, "share")).transpose()?,
        });
    }
    let kind = value.get_type().name()?;
    let wrong = || {
        PyTypeError::new_err(format!(
            "empty_block_retention must be bytes (int), a share of the budget (float) or a \
             vk_mem.EmptyBlockRetention, not {kind}"
        ))
    };
    // True is an int in Python, and a retention of one byte would keep no block.
    if value.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    if kind == "float" {
        let share = Some(value.extract()?);
        return Ok(EmptyBlockRetention { count: None, bytes: None, share });
    }
    match unsigned(value, "empty_block_retention") {
        Ok(bytes) => Ok(EmptyBlockRetention { count: None, bytes: Some(bytes), share: None }),
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => Err(wrong()),
        Err(error) => Err(error),
    }
}

/// Reads `strategy`: one of the `STRATEGY` flags.
pub fn strategy(value: Option<&Bound<'_, PyAny>>) -> PyResult<Strategy> {
    let Some(value) = value else { return Ok(Strategy::default()) };
    let bits = of_class(value, "strategy", &ALLOCATION_CREATE_FLAGS)?;
    let flags = AllocationCreateFlags::from_bits_retain(bits);
    let only = AllocationCreateFlags::STRATEGY_MASK;
    if !(flags - only).is_empty() || bits.count_ones() > 1 {
        return Err(invalid(value.py(), format!("strategy={bits:#x} is no STRATEGY flag")));
    }
    let info = AllocationCreateInfo { flags, ..Default::default() };
    Ok(info.strategy())
}

/// Reads `evict`: how far a request goes that makes others lost. None is the default.
pub fn eviction(value: &Bound<'_, PyAny>) -> PyResult<Evict> {
    if value.is_none() {
        return Ok(Evict::default());
    }
    let py = value.py();
    if value.is_instance_of::<PyString>() {
        let name = Text::string(value, "evict")?;
        return match name.as_str() {
            "never" => Ok(Evict::Never),
            "idle" => Ok(Evict::Idle),
            "lower_priority" => Ok(Evict::LowerPriority),
            _ => {
                let name = name.escape_debug();
                let why = format!("evict is '{name}', not {EVICTIONS}");
                Err(invalid(py, why))
            }
        };
    }
    let other = |error: PyErr| {
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        let kind = value.get_type().name();
        kind.map_or_else(
            |error| error,
            |kind| PyTypeError::new_err(format!("evict must be {EVICTIONS}, not {kind}")),
        )
    };
    if value.is_instance_of::<PyBool>() {
        return Err(other(PyTypeError::new_err(())));
    }
    unsigned_32(value, "evict").map(Evict::Frames).map_err(other)
}

const EVICTIONS: &str = "'idle', 'never', 'lower_priority' or a number of frames";

/// Returns what [`eviction`] reads.
pub fn eviction_object(py: Python<'_>, evict: Evict) -> PyResult<Bound<'_, PyAny>> {
    let name = match evict {
        Evict::Never => "never",
        Evict::Idle => "idle",
        Evict::LowerPriority => "lower_priority",
        Evict::Frames(frames) => return Ok(frames.into_pyobject(py)?.into_any()),
    };
    Ok(name.into_pyobject(py)?.into_any())
}

/// Number of frames that `track_call_sites=True` stores.
const DEFAULT_DEPTH: u32 = 8;

/// Reads `track_call_sites`.
pub fn depth(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(if truth.is_true() { DEFAULT_DEPTH } else { 0 });
    }
    if !value.is_instance_of::<PyInt>() {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "track_call_sites must be a bool or a number of frames, not {kind}"
        )));
    }
    match unsigned(value, "track_call_sites")? {
        depth if depth <= MAX_DEPTH as u64 => Ok(depth as u32),
        depth => {
            let why = format!("track_call_sites is {depth}, above {MAX_DEPTH} frames");
            Err(invalid(value.py(), why))
        }
    }
}

/// `VK_MEM_STRICT`: whether allocators that are not told are strict about access of the host.
pub fn strict_of_environment(py: Python<'_>) -> PyResult<bool> {
    match std::env::var_os("VK_MEM_STRICT") {
        None => Ok(false),
        Some(value) if value.is_empty() || value == "0" => Ok(false),
        Some(value) if value == "1" => Ok(true),
        Some(value) => {
            let value = value.to_string_lossy();
            Err(invalid(py, format!("VK_MEM_STRICT is '{}': it is 1, or 0", value.escape_debug())))
        }
    }
}
