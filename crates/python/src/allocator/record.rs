//! `vk_mem.record`, and recording of the slices of heaps.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::Allocator;
use crate::arguments::iterables;
use crate::objects::recording::{Recording, session_of};
use crate::objects::virtual_block::VirtualBlock;
use crate::objects::virtual_blocks::VirtualBlocks;

/// The most objects of one call.
const MOST: usize = 1 << 16;

/// What can be recorded.
enum Recorded {
    Allocator(Py<Allocator>),
    Block(Py<VirtualBlock>),
}

impl Recorded {
    fn read(it: &Bound<'_, PyAny>) -> Option<Self> {
        if let Ok(allocator) = it.cast::<Allocator>() {
            return Some(Self::Allocator(allocator.clone().unbind()));
        }
        it.cast::<VirtualBlock>().ok().map(|block| Self::Block(block.clone().unbind()))
    }
}

/// Records an allocator or a virtual block, or several of them, from now on:
/// `with vk_mem.record(allocator, "trace.vkmem"):`.
///
/// `to` is the path of a file, a `Ring`, or a `Recording` that goes on. What exists is told first, so a recording may
/// begin at any time; one that begins with the allocator, `Allocator(record=...)`, or with the virtual block can be
/// replayed exactly. Slices of buffer heaps are recorded with their allocator. Whoever recorded the allocator or the
/// block until now does not any more.
///
/// A path that ends with `.pftrace` or `.perfetto-trace` becomes a timeline for Perfetto instead, as `Trace.to_perfetto`
/// writes it. It can be read up to where the program has come, but not by `trace.load`.
///
/// Raises `InvalidArgumentError` if the path ends with `.json`, as a timeline for Chrome is complete only at its end:
/// `Trace.to_chrome_json` makes one of a recording. Raises `OSError` if the file cannot be written.
#[pyfunction]
#[pyo3(signature = (allocator, to))]
pub fn record(
    py: Python<'_>,
    allocator: &Bound<'_, PyAny>,
    to: &Bound<'_, PyAny>,
) -> PyResult<Recording> {
    let one = |it: &Bound<'_, PyAny>| {
        Recorded::read(it).ok_or_else(|| {
            let kind = it.get_type().name().map_or("?".into(), |name| name.to_string());
            PyTypeError::new_err(format!(
                "allocator must be a vk_mem.Allocator, a vk_mem.VirtualBlock, or several, not {kind}"
            ))
        })
    };
    let all = match Recorded::read(allocator) {
        Some(it) => vec![it],
        None if allocator.hasattr("__iter__")? => {
            iterables::read(allocator, "allocator", MOST, one)?
        }
        None => vec![one(allocator)?],
    };
    let mut pinned = Vec::new();
    for it in &all {
        match it {
            Recorded::Allocator(allocator) => pinned.push(allocator.get().state.enter(py)?),
            Recorded::Block(block) => block.get().check_process(py)?,
        }
    }
    let (session, _) = session_of(py, to)?;
    let recording = Recording::new(session);
    for it in &all {
        match it {
            Recorded::Allocator(allocator) => recording.add(py, &allocator.get().state)?,
            Recorded::Block(block) => {
                block.get().attach(py, &recording.session(py)?, false, false)?;
                recording.note_block(block.get().shared());
            }
        }
    }
    drop(pinned);
    Ok(recording)
}

/// Records the ranges of a heap whenever its allocator is recorded.
#[pyfunction]
pub fn _record_ranges(
    py: Python<'_>,
    allocator: &Bound<'_, Allocator>,
    ranges: &Bound<'_, VirtualBlocks>,
) {
    allocator.get().state.record_space(py, &ranges.get().recorded());
}
