//! Recordings of the Vulkan Memory Allocator, which had a recorder until version 2.3: CSV, versions 1.0 to 1.8.

mod allocations;
mod calls;
mod config;

use super::lines::{for_each_line, lines};
use crate::description::Description;
use crate::error::{Format, ReadError};
use crate::progress::Progress;
use crate::trace::{Trace, TraceBuilder};
pub(crate) use allocations::{COPY_STRING, FIRST_FIT};
use calls::Calls;
use config::Config;

/// The first line.
pub(super) const FIRST_LINE: &[u8] = b"Vulkan Memory Allocator,Calls recording";
/// The last minor version.
const LAST_MINOR: u32 = 8;

/// Reads a recording.
pub(super) fn read(bytes: &[u8], progress: Progress<'_>) -> Result<Trace, ReadError> {
    let wrong = |line, what: String| ReadError::at_line(Format::VmaCsv, line, what);
    let mut lines = lines(bytes);
    let size = bytes.len() as u64;
    let first = lines.next().map(|it| it.text.trim().as_bytes() == FIRST_LINE);
    if first != Some(true) {
        return Err(wrong(1, "this is not a recording of VMA".into()));
    }
    let second = lines.next().map_or("".into(), |it| it.text);
    let version = second.trim().split_once(',').and_then(|(major, minor)| {
        Some((major.trim().parse::<u32>().ok()?, minor.trim().parse::<u32>().ok()?))
    });
    let version = match version {
        Some((1, minor)) if minor <= LAST_MINOR => (1, minor),
        Some((major, minor)) => {
            let what = format!("version {major},{minor}; this library reads 1,0 to 1,{LAST_MINOR}");
            return Err(wrong(2, what));
        }
        None => return Err(wrong(2, "the version of the file is missing".into())),
    };
    let description =
        Description { resolution: 1_000_000, ..Description::new(Format::VmaCsv, version) };
    let mut trace = TraceBuilder::new(description);
    let (mut config, mut calls) = (None, Calls::default());
    let told = |end| progress(end, size);
    for_each_line(Format::VmaCsv, lines, &mut trace, &told, |trace, number, line| {
        match line.trim() {
            "" => Ok(()),
            "Config,Begin" => match config {
                None if trace.is_empty() => {
                    config = Some(Config::default());
                    Ok(())
                }
                _ => Err("Config,Begin in the middle of the file".into()),
            },
            "Config,End" => match config.as_mut() {
                Some(config) if !config.ended => config.end(trace.description_mut()),
                _ => Err("Config,End without Config,Begin".into()),
            },
            line_without_blanks => match config.as_mut() {
                Some(config) if !config.ended => {
                    config.line(line_without_blanks, trace.description_mut())
                }
                // User data may end with blanks.
                _ => calls.line(trace, number, line),
            },
        }
    })?;
    Ok(trace.finish())
}
