//! What was submitted to a simulated queue and is not carried out yet.

use std::collections::VecDeque;

use vkmem_engine::lock::{Condvar, Mutex, rank};

use crate::driver::submission::TransferCommand;

/// When the device carries out what is submitted to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// Inside of the submission.
    #[default]
    AtOnce,
    /// Inside of the first wait for it or for a later one.
    WhenWaited,
    /// When `complete_submissions` of the driver says so. Waits wait until then.
    Held,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) completion: Completion,
    pub(super) last: u64,
    pub(super) done: u64,
    pub(super) pending: VecDeque<(u64, Vec<TransferCommand>)>,
}

/// What was submitted and not carried out yet.
#[derive(Debug, Default)]
pub(super) struct Submissions {
    pub(super) state: Mutex<State, rank::SimulatedSubmissions>,
    /// Told when something has ended.
    pub(super) ended: Condvar,
}
