//! Parts of the text of a report.

use std::fmt::Write;
use std::time::Instant;

use pyo3::prelude::*;

use super::moment::Moment;
use crate::observe::call_site::{CallSites, NOWHERE};

/// Bytes that a report shows.
const SHOWN: usize = 16;

/// Returns bytes in hexadecimal digits; of many the first ones.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(SHOWN) {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, "{space}{byte:02x}");
    }
    if bytes.len() > SHOWN {
        text += " ...";
    }
    text
}

/// Returns a length of time in seconds, or in milliseconds if it is short.
fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

/// Returns when and where something was done: `created in frame 12, 3.1 s earlier, at a.py:3 in f`.
pub fn moment(
    py: Python<'_>,
    sites: &CallSites,
    verb: &str,
    moment: &Moment,
    now: Instant,
) -> String {
    let before = time(now.saturating_duration_since(moment.at).as_secs_f64());
    let lines = moment.site.map(|site| sites.lines(py, site));
    let place = match lines.as_deref() {
        None => String::new(),
        Some([only]) if only == NOWHERE => ", by its allocator".into(),
        Some(lines) => format!(", at {}", lines.join(", called from ")),
    };
    format!("{verb} in frame {}, {before} earlier{place}", moment.frame)
}
