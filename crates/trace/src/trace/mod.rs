//! Traces in memory, complete and under construction.

mod builder;
mod columns;
mod memory;

pub use builder::{TooLarge, TraceBuilder};
pub use columns::Columns;
pub use memory::{Trace, Warning};
