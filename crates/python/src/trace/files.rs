//! Writes traces into files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use vkmem_trace::{
    TimelineOptions, Trace, Written, write_chrome_json, write_perfetto, write_rmm_csv, write_vkmem,
    write_vma_csv,
};

use super::background::Work;

/// A format that traces are written in.
#[derive(Clone, Copy)]
pub enum FileFormat {
    VkMem,
    Vma,
    Rmm,
    Perfetto(TimelineOptions),
    Chrome(TimelineOptions),
}

/// A file that ends with an error when nobody waits for it any more.
struct Stopping {
    file: File,
    work: Arc<Work>,
}

impl Write for Stopping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.work.stops() {
            return Err(io::Error::other("the call was interrupted"));
        }
        // In parts, as each is a chance to stop.
        self.file.write(&bytes[..bytes.len().min(1 << 20)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a trace into a file; returns the kinds of events that the format has no words for, and how many there were.
pub fn write(
    trace: &Trace,
    format: FileFormat,
    path: &Path,
    work: &Arc<Work>,
) -> io::Result<Vec<(&'static str, u64)>> {
    let mut out = Stopping { file: File::create(path)?, work: work.clone() };
    let mut text = |written: Written| {
        out.write_all(written.text.as_bytes())?;
        Ok(written.left_out.into_iter().map(|(kind, count)| (kind.name(), count)).collect())
    };
    match format {
        FileFormat::Vma => return text(write_vma_csv(trace)),
        FileFormat::Rmm => return text(write_rmm_csv(trace)),
        FileFormat::VkMem => out.write_all(&write_vkmem(trace))?,
        FileFormat::Perfetto(options) => out = write_perfetto(trace, options, out)?,
        FileFormat::Chrome(options) => out = write_chrome_json(trace, options, out)?,
    }
    out.flush()?;
    Ok(Vec::new())
}
