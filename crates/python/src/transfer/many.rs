//! Uploads of many arrays, or downloads into them, by one call.

use std::sync::Arc;

use pyo3::prelude::*;
use vkmem_vulkan::{SmallTransfers, Target, TransferDirection};

use super::source::Source;
use super::state::{Transfer, TransfersState, Way};
use super::watch::Watch;
use super::way::{Chosen, Place};
use crate::interpreter::detach;
use crate::lifetime::ownership::{AllocatorState, ResourceRef};

/// A transfer of a list, which was checked, and of which nothing was done.
pub trait Listed: Sized {
    const DIRECTION: TransferDirection;

    fn place(&self) -> &Place;

    fn chosen(&self) -> &Chosen;

    /// Where the bytes of the array lie, if one behind the other.
    fn address(&self) -> Option<usize>;

    /// What the array's memory is like, if it is written to.
    fn target(&self) -> Target;

    /// Gives the transfer what it needs until its end. Returns what is needed until it has begun.
    fn give(self, transfer: &Transfer) -> Option<Source>;

    /// Begins it, and no other one with it.
    fn start_alone(
        self,
        py: Python<'_>,
        state: &Arc<TransfersState>,
        allocator: &Arc<AllocatorState>,
        batch: Option<u64>,
    ) -> PyResult<Py<Transfer>>;

    /// Whether its bytes lie in one piece and go through the ring.
    fn is_plain(&self) -> bool {
        self.chosen().way == Way::Ring && self.address().is_some()
    }
}

/// Begins many transfers. Neighbours that are small and go through the ring have one job, and are copied without
/// the interpreter; the others begin one by one.
pub fn start_many<P: Listed>(
    py: Python<'_>,
    state: &Arc<TransfersState>,
    allocator: &Arc<AllocatorState>,
    all: Vec<P>,
    batch: Option<u64>,
) -> PyResult<Vec<Py<Transfer>>> {
    let mut made = Vec::with_capacity(all.len());
    let mut rest = all.into_iter();
    while !rest.as_slice().is_empty() {
        let plain = rest.as_slice().iter().take_while(|it| it.is_plain());
        let count = state.engine.fit_together(plain.map(|it| it.place().size));
        let (true, Some(batch)) = (count > 1, batch) else {
            let one = rest.next().map(|it| it.start_alone(py, state, allocator, batch));
            made.extend(one.transpose()?);
            continue;
        };
        start_together(py, state, allocator, rest.by_ref().take(count), batch, &mut made)?;
    }
    Ok(made)
}

/// Begins transfers as one job.
fn start_together<P: Listed>(
    py: Python<'_>,
    state: &Arc<TransfersState>,
    allocator: &Arc<AllocatorState>,
    together: impl ExactSizeIterator<Item = P>,
    batch: u64,
    made: &mut Vec<Py<Transfer>>,
) -> PyResult<()> {
    let together: Vec<P> = together.collect();
    let Some(target) = together.first().map(P::target) else { return Ok(()) };
    // While they are pinned none of them moves, and their handles stay.
    let movable =
        together.iter().map(|it| &it.place().resource).filter(|it| it.movable().is_some());
    let movable: Vec<ResourceRef> = movable.cloned().collect();
    let _pins = movable.iter().map(|it| it.enter(py)).collect::<PyResult<Vec<_>>>()?;
    let mut arrays = SmallTransfers::with_capacity(together.len(), target);
    for it in &together {
        let place = it.place();
        arrays.push(it.address().unwrap_or_default(), place.size, place.buffer_part());
    }
    let job = arrays.job();
    let (first, count) = (made.len(), together.len());
    let mut held = Vec::with_capacity(count);
    for it in together {
        let (chosen, place) = (it.chosen(), it.place());
        let transfer = chosen
            .transfer_of(py, state, (&place.resource, place.size), P::DIRECTION, job.clone())
            .and_then(|transfer| {
                held.extend(it.give(&transfer));
                transfer.into_object(py)
            });
        match transfer {
            Ok(transfer) => made.push(transfer),
            Err(error) => {
                made.drain(first..).for_each(|it| it.get().let_go(py));
                return Err(error);
            }
        }
    }
    let watch = Watch::quiet();
    let (on, engine) = (&allocator.device_allocator, &state.engine);
    state.count_all(P::DIRECTION, Way::Ring, job.size, count as u64);
    // From now on the arrays of downloads stay until the job has ended.
    state.add_together(job.clone(), made[first..].iter().map(|it| it.clone_ref(py)).collect());
    let done = detach(py, || {
        let pause = || watch.pause();
        match P::DIRECTION {
            // SAFETY: `held` has the arrays.
            TransferDirection::Upload => unsafe {
                engine.upload_together(on, &job, batch, &arrays, &pause)
            },
            // SAFETY: the transfers keep the arrays until the job has ended.
            TransferDirection::Download => unsafe {
                engine.download_together(on, &job, batch, arrays, &pause)
            },
        }
    });
    drop(held);
    watch.result(py, done)
}
