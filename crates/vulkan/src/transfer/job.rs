//! One transfer as the device sees it: what of it is on its way, and how it ended.

use vkmem_engine::Error;
use vkmem_engine::lock::{Mutex, rank};

use crate::driver::submission::Submission;

/// What a transfer waits for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Commands of it wait in this batch for its submission.
    Recorded(u64),
    /// Other threads record or submit a part of it, or copy it out.
    Busy,
    /// The device, and then the host where segments of the ring for downloads are named.
    Running(Submission, Vec<u64>),
    /// Everything was done, or nothing of it will be any more.
    Ended(Option<Error>),
}

#[derive(Debug)]
struct State {
    /// Parts that are not submitted yet, and one more until all are known.
    open: u32,
    /// Parts that are in a batch.
    batched: u32,
    batch: u64,
    /// Parts in the ring for downloads that were not copied out.
    segments: Vec<u64>,
    /// Segments that somebody copies out now.
    claimed: u32,
    /// The oldest and the newest submission of a part.
    first: Submission,
    last: Submission,
    has_ended: bool,
    error: Option<Error>,
}

/// See the module.
#[derive(Debug)]
pub struct Job {
    state: Mutex<State, rank::Transfer>,
    /// In bytes.
    pub size: u64,
    /// Bytes of the largest transfer that it carries out.
    pub(super) largest: u64,
}

impl Job {
    /// One of so many bytes, of which nothing was recorded.
    pub fn new(size: u64) -> Self {
        Self::of_many(size, size)
    }

    /// One that carries out several transfers, by the bytes of all and of the largest one.
    pub fn of_many(size: u64, largest: u64) -> Self {
        let state = State {
            open: 1,
            batched: 0,
            batch: 0,
            segments: Vec::new(),
            claimed: 0,
            first: Submission(u64::MAX),
            last: Submission::NONE,
            has_ended: false,
            error: None,
        };
        Self { state: Mutex::new(state), size, largest }
    }

    /// A part of it was recorded into a batch, for a segment of the ring for downloads if it is one.
    pub(super) fn recorded(&self, batch: u64, segment: Option<u64>) {
        let mut state = self.state.lock();
        (state.batched, state.batch) = (state.batched + 1, batch);
        state.segments.extend(segment);
    }

    /// Parts of it were submitted, or could not be.
    pub(super) fn submitted(&self, parts: u32, outcome: &Result<Submission, Error>) {
        let mut state = self.state.lock();
        state.batched -= parts;
        match outcome {
            Ok(submission) => {
                state.first = state.first.min(*submission);
                state.last = state.last.max(*submission);
            }
            Err(error) => {
                state.error.get_or_insert_with(|| error.clone());
            }
        }
    }

    /// All parts of it are known.
    pub(super) fn close(&self) {
        self.state.lock().open = 0;
    }

    /// No more of it is to be done than was submitted.
    pub(super) fn fail(&self, error: Error) {
        self.state.lock().error.get_or_insert(error);
    }

    /// Whether a part of it has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().error.is_some()
    }

    /// Its oldest submission; later than any if there is none.
    pub(super) fn first(&self) -> Submission {
        self.state.lock().first
    }

    /// One thread begins to copy a segment out; false if another has, or it is done.
    pub(super) fn claim(&self, segment: u64) -> bool {
        let mut state = self.state.lock();
        let Some(index) = state.segments.iter().position(|it| *it == segment) else { return false };
        // The rest stays in the order of its submissions.
        state.segments.remove(index);
        state.claimed += 1;
        true
    }

    /// It has ended to do so.
    pub(super) fn copied_out(&self, outcome: Result<(), Error>) {
        let mut state = self.state.lock();
        state.claimed -= 1;
        if let Err(error) = outcome {
            state.error.get_or_insert(error);
        }
    }

    /// The device has done with all that was submitted of it, or has failed to.
    pub(super) fn device_is_done(&self, outcome: Result<(), Error>) {
        let mut state = self.state.lock();
        if let Err(error) = outcome {
            state.error.get_or_insert(error);
        }
        state.has_ended = true;
    }

    /// Where it stands.
    pub fn progress(&self) -> Progress {
        let state = self.state.lock();
        if state.batched > 0 {
            return Progress::Recorded(state.batch);
        }
        if state.open > 0 || state.claimed > 0 {
            return Progress::Busy;
        }
        if state.segments.is_empty() && state.has_ended {
            return Progress::Ended(state.error.clone());
        }
        Progress::Running(state.last, state.segments.clone())
    }

    /// Whether it has ended, as far as is known; waits for nothing and asks nobody.
    pub fn is_known_to_have_ended(&self) -> bool {
        let state = self.state.lock();
        let nothing_open = state.open == 0 && state.batched == 0 && state.claimed == 0;
        nothing_open && state.segments.is_empty() && state.has_ended
    }
}
