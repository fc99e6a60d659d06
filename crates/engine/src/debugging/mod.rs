//! What helps to find a program's faults: options, and the pattern in memory that nobody may write.

pub mod guarded;
pub mod options;
pub mod pattern;
