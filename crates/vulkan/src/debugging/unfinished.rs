//! [`UnfinishedCheck`]: what the device still uses of a check that was stopped.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vkmem_engine::Error;

use crate::debugging::scratch::Scratch;
use crate::debugging::windows::Windows;
use crate::driver::contract::Driver;
use crate::driver::submission::Submission;

/// What the device still uses of a check that was stopped. Dropping this waits for the device.
pub struct UnfinishedCheck {
    driver: Arc<dyn Driver>,
    submission: Submission,
    _windows: Windows,
    _scratch: Scratch,
    /// What keeps the memory that is read from being freed.
    memory: Option<Box<dyn Any + Send + Sync>>,
}

impl UnfinishedCheck {
    pub(super) fn new(
        driver: Arc<dyn Driver>,
        submission: Submission,
        windows: Windows,
        scratch: Scratch,
    ) -> Self {
        Self { driver, submission, _windows: windows, _scratch: scratch, memory: None }
    }

    pub(super) fn keep(&mut self, memory: impl Any + Send + Sync) {
        self.memory = Some(Box::new(memory));
    }

    /// Waits for at most a time; returns whether the device is done with it.
    pub fn wait(&self, at_most: Duration) -> bool {
        let nanoseconds = u64::try_from(at_most.as_nanos()).unwrap_or(u64::MAX);
        // After an error nothing runs any more.
        self.driver.wait(self.submission, nanoseconds) != Ok(false)
    }
}

impl fmt::Debug for UnfinishedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an unfinished check, submission {}", self.submission.number())
    }
}

impl Drop for UnfinishedCheck {
    fn drop(&mut self) {
        while !self.wait(Duration::MAX) {}
    }
}

/// Why a check did not come to its end.
#[derive(Debug)]
pub enum CheckStopped {
    /// A call failed.
    Failed(Error),
    /// The caller wanted it; with what the device still uses, if it uses anything.
    Interrupted(Option<Box<UnfinishedCheck>>),
}

impl From<Error> for CheckStopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
