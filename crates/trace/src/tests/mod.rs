//! Tests of what no other crate sees.

mod format;
mod random;
mod replay;
