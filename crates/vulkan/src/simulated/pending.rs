//! Submissions to a simulated queue that have not been executed yet.

use std::collections::{HashMap, VecDeque};

use ash::vk;
use vkmem_engine::MemoryRange;
use vkmem_engine::lock::{Condvar, Mutex, rank};

use crate::driver::resource_handle::ResourceHandle;
use crate::driver::submission::TransferCommand;
use crate::simulated::ownership::Away;
use crate::simulated::unordered::Unordered;

/// When a simulated device executes submissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// During the submission.
    #[default]
    AtOnce,
    /// During the first wait for it or for a later one.
    WhenWaited,
    /// When `complete_submissions` of the driver says so. Waits wait until then.
    Held,
}

/// A submission that has not been executed yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) number: u64,
    pub(super) commands: Vec<TransferCommand>,
    /// The memory that the commands use, and whether they write it.
    pub(super) uses: Vec<(MemoryRange, bool)>,
}

/// The command buffers of the program that are being recorded.
#[derive(Debug, Default)]
pub(super) struct CommandBuffers {
    /// How many were begun so far.
    pub(super) begun: u64,
    /// What was recorded, by handle.
    pub(super) recording: HashMap<vk::CommandBuffer, Vec<TransferCommand>>,
}

/// The handle of each resource that has moved, by the one that it had before. Handles are not reused.
pub(super) type Moved = HashMap<ResourceHandle, ResourceHandle>;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) completion: Completion,
    pub(super) last: u64,
    pub(super) done: u64,
    pub(super) pending: VecDeque<Pending>,
    /// The exclusive resources of submissions to the second queue that have not been executed, by number.
    pub(super) on_second: HashMap<u64, Vec<ResourceHandle>>,
    pub(super) away: Away,
    pub(super) unordered: Unordered,
    pub(super) moved: Moved,
}

/// Submissions that have not been executed yet.
#[derive(Debug, Default)]
pub(super) struct Submissions {
    pub(super) state: Mutex<State, rank::SimulatedSubmissions>,
    /// Notified when a submission has ended.
    pub(super) ended: Condvar,
}
