//! Readers of all formats.

mod lines;
mod pytorch;
mod rmm_csv;
mod vma_csv;

pub(crate) use vma_csv::{COPY_STRING, FIRST_FIT};

use crate::error::{Format, ReadError};
use crate::format::{self, MAGIC};
use crate::progress::{Progress, nobody};
use crate::trace::Trace;

/// Returns the format that the bytes begin like, if any.
pub fn detect(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(&MAGIC) {
        return Some(Format::VkMem);
    }
    // A mark that some editors put in front of text.
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if text.starts_with(vma_csv::FIRST_LINE) {
        return Some(Format::VmaCsv);
    }
    if text.starts_with(rmm_csv::FIRST_LINE) {
        return Some(Format::RmmCsv);
    }
    if pytorch::is_pickle(bytes) { Some(Format::PyTorch) } else { None }
}

/// Reads a trace of any format, which the first bytes tell.
///
/// # Errors
/// [`ReadError`] with the line or the offset of what is wrong.
///
/// # Time complexity
/// O(*n* log *n*) for *n* bytes; memory is proportional to *n*.
pub fn load(bytes: &[u8]) -> Result<Trace, ReadError> {
    load_with(bytes, None, &nobody)
}

/// As [`load`] or, with a format, [`load_as`]; tells how many bytes of a recording or a text file are read.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    bytes: &[u8],
    format: Option<Format>,
    progress: Progress<'_>,
) -> Result<Trace, ReadError> {
    match format.or_else(|| detect(bytes)) {
        Some(Format::VkMem) => format::decode(bytes, progress),
        Some(Format::VmaCsv) => vma_csv::read(bytes, progress),
        Some(Format::RmmCsv) => rmm_csv::read(bytes, progress),
        Some(Format::PyTorch) => pytorch::read(bytes),
        None => Err(ReadError {
            format: None,
            position: None,
            what: "this is no trace: neither a recording of this library or of VMA, nor a log of \
                   RMM, nor a memory snapshot of PyTorch"
                .into(),
        }),
    }
}

/// Reads a trace of a format.
///
/// # Errors
/// As [`load`].
pub fn load_as(format: Format, bytes: &[u8]) -> Result<Trace, ReadError> {
    load_with(bytes, Some(format), &nobody)
}
