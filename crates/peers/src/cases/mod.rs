//! What is measured: one file a case.

pub mod churn;
pub mod contestant;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Smaller counts: everything in under a minute.
    pub quick: bool,
}
