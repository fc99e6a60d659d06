//! One ring with its memory: for uploads, or for downloads.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vkmem_engine::Error;
use vkmem_engine::lock::{Condvar, Mutex, rank};

use crate::allocator::DeviceAllocator;
use crate::driver::submission::Submission;
use crate::host::copy::{Target, copy_bytes};
use crate::transfer::job::Job;
use crate::transfer::ring::{Place, Ring, SegmentState};
use crate::transfer::staging::{Staging, TransferDirection};

pub(super) use crate::driver::stopped::SLICE;

/// What is to be copied out of a segment, and where to.
#[derive(Debug)]
pub(super) struct CopyOut {
    pub(super) job: Arc<Job>,
    pub(super) to: CopyTo,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Host memory that is written to; valid until the job has ended.
#[derive(Debug)]
pub(super) enum CopyTo {
    /// All of it from an address on.
    Address(usize),
    /// Each of several arrays.
    Arrays(Box<dyn Arrays>),
}

/// Several arrays that one segment is copied to.
pub(super) trait Arrays: Debug + Send + Sync {
    /// Copies a segment that begins at an address to the arrays.
    ///
    /// # Safety
    /// The arrays are valid for writing, and the segment for reading.
    unsafe fn copy_from_segment(&self, start: usize);
}

impl CopyOut {
    /// Copies a segment, whose first byte lies at an address, to where its bytes belong.
    ///
    /// # Safety
    /// The job has not ended, and the segment is the caller's.
    pub(super) unsafe fn run(&self, from: usize) {
        match &self.to {
            CopyTo::Address(to) => {
                // SAFETY: of the caller.
                unsafe { copy_bytes(from, *to, self.size as usize, Target::InUse) };
            }
            CopyTo::Arrays(arrays) => {
                // SAFETY: of the caller.
                unsafe { arrays.copy_from_segment(from) };
            }
        }
    }
}

#[derive(Debug)]
struct State {
    ring: Ring<CopyOut>,
    staging: Option<Staging>,
    /// Threads that wait for a change.
    waiting: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) direction: TransferDirection,
    state: Mutex<State, rank::TransferSegments>,
    /// Held while the memory is made, and for nothing else.
    making: Mutex<(), rank::TransferRing>,
    changed: Condvar,
}

impl Lane {
    /// Its memory is made when it is first needed.
    pub(super) fn new(direction: TransferDirection, size: u64) -> Self {
        let state = State { ring: Ring::new(size), staging: None, waiting: 0 };
        let (making, changed) = (Mutex::new(()), Condvar::default());
        Self { direction, state: Mutex::new(state), making, changed }
    }

    /// Makes the memory unless it is there.
    pub(super) fn make(&self, allocator: &DeviceAllocator) -> Result<(), Error> {
        if self.state.lock().staging.is_some() {
            return Ok(());
        }
        let _making = self.making.lock();
        let size = {
            let state = self.state.lock();
            if state.staging.is_some() {
                return Ok(());
            }
            state.ring.size()
        };
        let staging = Staging::new(allocator, size, self.direction)?;
        self.state.lock().staging = Some(staging);
        Ok(())
    }

    /// Takes a segment, or says what the oldest one is, which has to go first.
    pub(super) fn reserve(
        &self,
        size: u64,
        limit: u64,
    ) -> Result<(Place, Staging), Option<(u64, SegmentState)>> {
        let mut state = self.state.lock();
        let Some(staging) = state.staging else { return Err(None) };
        match state.ring.reserve(size, staging.alignment(), limit) {
            Some(place) => Ok((place, staging)),
            None => Err(state.ring.oldest()),
        }
    }

    /// Its memory, if it was made.
    pub(super) fn staging(&self) -> Option<Staging> {
        self.state.lock().staging
    }

    fn notify(&self, state: &State) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until a segment changes, for one slice at most.
    pub(super) fn wait_for_change(&self, at_most: Duration) {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.wait_until(&mut state, Instant::now() + at_most.min(SLICE));
        state.waiting -= 1;
    }

    /// Changes what segments are.
    pub(super) fn set(&self, numbers: impl Iterator<Item = u64>, to: SegmentState) {
        let mut state = self.state.lock();
        numbers.for_each(|number| state.ring.set(number, to));
        self.notify(&state);
    }

    /// Notes that a segment was recorded into a batch.
    pub(super) fn recorded(&self, number: u64, batch: u64, then: Option<CopyOut>) {
        let mut state = self.state.lock();
        state.ring.set(number, SegmentState::Recorded(batch));
        if let Some(then) = then {
            state.ring.attach(number, then);
        }
    }

    /// Frees segments of a ring for uploads whose submissions have ended.
    pub(super) fn free_up_to(&self, submission: Submission) {
        let mut state = self.state.lock();
        while let Some((number, SegmentState::Submitted(of))) = state.ring.oldest()
            && of <= submission
        {
            state.ring.set(number, SegmentState::Free);
        }
        self.notify(&state);
    }

    /// Takes a segment to copy it out, if the device has it and no other thread does that.
    pub(super) fn claim(&self, number: u64) -> Option<(CopyOut, Staging)> {
        let mut state = self.state.lock();
        let staging = state.staging?;
        state.ring.claim(number).map(|it| (it, staging))
    }

    /// What a segment is; none that has come free.
    pub(super) fn state(&self, number: u64) -> Option<SegmentState> {
        self.state.lock().ring.state(number)
    }

    /// Takes the memory out, if nothing uses it.
    pub(super) fn take(&self) -> Option<Staging> {
        let mut state = self.state.lock();
        if state.ring.used() > 0 {
            return None;
        }
        state.staging.take()
    }
}
