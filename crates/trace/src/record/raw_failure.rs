//! [`RawFailure`]: an error as it was told.

use vkmem_engine::{Error, FailureFigures};

use crate::values::FailureReason;

/// A failure with its message.
#[derive(Debug)]
pub(super) struct RawFailure {
    pub reason: FailureReason,
    pub result: Option<i32>,
    pub figures: Option<FailureFigures>,
    pub message: String,
}

impl RawFailure {
    pub fn of(error: &Error) -> Box<Self> {
        Box::new(Self {
            reason: FailureReason::of(error),
            result: error.vk_result(),
            figures: error.figures().copied(),
            message: error.to_string(),
        })
    }
}
