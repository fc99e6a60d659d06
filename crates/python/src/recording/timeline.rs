//! [`Timeline`]: formats of timelines, which the end of a file's name chooses.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use vkmem_trace::{
    ReplaySettings, TimelineOptions, Trace, replay, write_chrome_json, write_perfetto,
};

/// A format of timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeline {
    /// A sequence of packets, which can be read up to any of them.
    Perfetto,
    /// One value of JSON, which can be read once it is complete.
    Chrome,
}

impl Timeline {
    /// Returns the format that a path asks for; `None` for a recording.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "pftrace" | "perfetto-trace" => Some(Self::Perfetto),
            "json" => Some(Self::Chrome),
            _ => None,
        }
    }

    /// Writes a trace to a file; where it does not tell what was held, as a ring does not that has forgotten it, its
    /// replay does.
    pub fn write(self, trace: Trace, file: File) -> io::Result<()> {
        let mut trace = Arc::new(trace);
        if !trace.says_memory() {
            let settings = ReplaySettings { records: true, samples: 0, ..Default::default() };
            let played = replay(&trace, &settings).map_err(io::Error::other)?;
            trace = played.into_trace().map_or(trace, Arc::new);
        }
        let options = TimelineOptions::default();
        match self {
            Self::Perfetto => write_perfetto(&trace, options, file).map(drop),
            Self::Chrome => write_chrome_json(&trace, options, file).map(drop),
        }
    }
}
