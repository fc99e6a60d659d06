//! Tests of what no other crate sees.

mod documentation;
mod format;
mod random;
mod replay;
