//! The layout of an image, as the device finds it after everything that was submitted.

use vkmem_engine::lock::{Condvar, Mutex, rank};

use ash::vk;

use crate::driver::submission::Submission;

#[derive(Debug)]
struct State {
    layout: vk::ImageLayout,
    /// Commands of batches that are not submitted yet, which give the image a layout.
    recorded: u32,
    /// A thread submits commands that use the image, or the host copies it.
    is_leaving: bool,
    /// The newest submission of commands that use the image.
    last: Submission,
}

/// The layout of a whole image. It changes with the submissions of this library, in their order, and where
/// the caller says so.
#[derive(Debug)]
pub struct TrackedLayout {
    state: Mutex<State, rank::TransferLayouts>,
    has_left: Condvar,
}

impl TrackedLayout {
    /// That of a new image.
    pub fn new(initial: vk::ImageLayout) -> Self {
        let state =
            State { layout: initial, recorded: 0, is_leaving: false, last: Submission::NONE };
        Self { state: Mutex::new(state), has_left: Condvar::default() }
    }

    /// The layout after the last submission.
    pub fn get(&self) -> vk::ImageLayout {
        self.state.lock().layout
    }

    /// Notes what somebody else has done.
    pub fn set(&self, layout: vk::ImageLayout) {
        self.state.lock().layout = layout;
    }

    /// Whether it has contents, or will have once open batches are submitted.
    pub fn is_defined(&self) -> bool {
        let state = self.state.lock();
        state.layout != vk::ImageLayout::UNDEFINED || state.recorded > 0
    }

    /// Whether commands that give it a layout wait for their submission.
    pub fn is_recorded(&self) -> bool {
        self.state.lock().recorded > 0
    }

    /// A command that gives it a layout was recorded.
    pub(super) fn record(&self) {
        self.state.lock().recorded += 1;
    }

    /// So many of them were submitted, or will never be.
    pub(super) fn unrecord(&self, commands: u32) {
        self.state.lock().recorded -= commands;
    }

    /// Keeps other threads from submitting commands that use the image, until [`end`](Self::end).
    pub(super) fn begin(&self) -> vk::ImageLayout {
        let mut state = self.state.lock();
        while state.is_leaving {
            self.has_left.wait(&mut state);
        }
        state.is_leaving = true;
        state.layout
    }

    /// The newest submission of commands that use the image.
    pub(super) fn last(&self) -> Submission {
        self.state.lock().last
    }

    /// Ends that, with the submission of the commands if there was one, and the layout that the image has now if
    /// it was changed.
    pub(super) fn end(&self, submission: Submission, layout: Option<vk::ImageLayout>) {
        let mut state = self.state.lock();
        state.is_leaving = false;
        state.last = state.last.max(submission);
        state.layout = layout.unwrap_or(state.layout);
        self.has_left.notify_all();
    }
}
