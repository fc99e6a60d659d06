//! Writes traces into files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use vkmem_trace::{
    TimelineOptions, Trace, Written, write_chrome_json_with, write_perfetto_with,
    write_rmm_csv_with, write_vkmem_with, write_vma_csv_with,
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
    let note = |done, total| work.note(done, total);
    match format {
        FileFormat::Vma => return text(write_vma_csv_with(trace, &note)),
        FileFormat::Rmm => return text(write_rmm_csv_with(trace, &note)),
        FileFormat::VkMem => out.write_all(&write_vkmem_with(trace, &note))?,
        FileFormat::Perfetto(options) => out = write_perfetto_with(trace, options, out, &note)?,
        FileFormat::Chrome(options) => out = write_chrome_json_with(trace, options, out, &note)?,
    }
    out.flush()?;
    Ok(Vec::new())
}
