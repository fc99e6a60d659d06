//! Uploads of many arrays by one call.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_vulkan::{Job, SmallUploads, TransferDirection};

use super::state::{Transfer, TransfersState, Watch, Way};
use super::upload::Prepared;
use crate::interpreter::detach;
use crate::lifetime::ownership::AllocatorState;

/// Whether the bytes of an upload lie in one piece and go through the ring.
fn is_plain(it: &Prepared) -> bool {
    it.chosen.way == Way::Ring && it.source.address().is_some()
}

/// Begins many uploads. Neighbours that are small and go through the ring have one job, and are copied without
/// the interpreter; the others begin one by one.
pub fn start_many(
    py: Python<'_>,
    state: &Arc<TransfersState>,
    allocator: &Arc<AllocatorState>,
    all: Vec<Prepared>,
    batch: Option<u64>,
) -> PyResult<Vec<Py<Transfer>>> {
    let mut made = Vec::with_capacity(all.len());
    let mut rest = all.into_iter();
    while !rest.as_slice().is_empty() {
        let plain = rest.as_slice().iter().take_while(|it| is_plain(it));
        let count = state.engine.fit_together(plain.map(|it| it.place.size));
        let (true, Some(batch)) = (count > 1, batch) else {
            let one = rest.next().map(|it| it.start(py, state, allocator, batch, None));
            made.extend(one.transpose()?);
            continue;
        };
        let together: Vec<_> = rest.by_ref().take(count).collect();
        start_together(py, state, allocator, &together, batch, &mut made)?;
    }
    Ok(made)
}

/// Begins uploads as one job.
fn start_together(
    py: Python<'_>,
    state: &Arc<TransfersState>,
    allocator: &Arc<AllocatorState>,
    together: &[Prepared],
    batch: u64,
    made: &mut Vec<Py<Transfer>>,
) -> PyResult<()> {
    let up = TransferDirection::Upload;
    let mut arrays = SmallUploads::with_capacity(together.len());
    for Prepared { source, place, .. } in together {
        arrays.push(source.address().unwrap_or_default(), place.size, place.buffer_part());
    }
    let job = Arc::new(Job::new(arrays.size()));
    let first = made.len();
    for Prepared { place, chosen, .. } in together {
        let transfer =
            chosen.transfer_of(py, state, (&place.resource, place.size), up, job.clone());
        match transfer.and_then(|it| it.into_object(py)) {
            Ok(transfer) => made.push(transfer),
            Err(error) => {
                made.drain(first..).for_each(|it| it.get().let_go(py));
                return Err(error);
            }
        }
    }
    let watch = Watch::quiet();
    let (on, engine) = (&allocator.device_allocator, &state.engine);
    // SAFETY: `together` holds the arrays.
    let done = detach(py, || unsafe {
        engine.upload_together(on, &job, batch, &arrays, &|| watch.pause())
    });
    state.count_all(up, Way::Ring, job.size, together.len() as u64);
    state.add_all(made[first..].iter().map(|it| it.clone_ref(py)));
    watch.result(py, done)
}
