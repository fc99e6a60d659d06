//! Calls that wait and may be told to stop.

use std::time::Duration;

use vkmem_engine::{CallError, Error};

use crate::driver::contract::Driver;
use crate::driver::submission::Submission;

/// How long a call waits at a time before it asks whether it shall stop.
pub const SLICE: Duration = Duration::from_millis(50);

/// Why a call did not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The caller wanted it.
    Interrupted,
    /// A call of the driver failed.
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<CallError> for Stopped {
    fn from(error: CallError) -> Self {
        Self::Failed(error.into())
    }
}

/// Asked about every 50 ms while a call waits: whether it shall stop.
pub type Pause<'a> = &'a dyn Fn() -> bool;

/// Waits for a submission, unless `pause` wants to stop that.
///
/// # Errors
/// Those of [`Driver::wait`], and `Interrupted`: then the submission may still run.
pub(crate) fn wait_for(
    driver: &dyn Driver,
    submission: Submission,
    pause: Pause<'_>,
) -> Result<(), Stopped> {
    let slice = u64::try_from(SLICE.as_nanos()).unwrap_or(u64::MAX);
    while !driver.wait(submission, slice)? {
        if pause() {
            return Err(Stopped::Interrupted);
        }
    }
    Ok(())
}
