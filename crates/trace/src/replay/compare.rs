//! [`compare`]: one trace with many settings.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::report::ReplayReport;
use super::run::{ReplayError, replay};
use super::settings::ReplaySettings;
use crate::trace::Trace;

/// Replays a trace with each of some settings, `threads` at a time, and returns the reports in their order.
///
/// # Errors
/// The first [`ReplayError`] in the order of the settings.
pub fn compare(
    trace: &Arc<Trace>,
    settings: &[ReplaySettings],
    threads: usize,
) -> Result<Vec<ReplayReport>, ReplayError> {
    let next = AtomicUsize::new(0);
    let reports: Vec<OnceLock<Result<ReplayReport, ReplayError>>> =
        settings.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, settings.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    let (Some(settings), Some(slot)) = (settings.get(index), reports.get(index))
                    else {
                        return;
                    };
                    let report = replay(trace, settings).map(|it| it.into_report());
                    let _ = slot.set(report);
                }
            });
        }
    });
    // A thread that panics ends the scope with its panic.
    reports.into_iter().filter_map(OnceLock::into_inner).collect()
}
