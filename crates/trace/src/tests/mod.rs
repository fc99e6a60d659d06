//! Tests of what no other crate sees.

mod documentation;
mod format;
mod random;
mod replay;

use crate::error::{Format, ReadError};
use crate::trace::Trace;

/// Reads a recording of this library.
fn decode(bytes: &[u8]) -> Result<Trace, ReadError> {
    crate::load_as(Format::VkMem, bytes)
}
