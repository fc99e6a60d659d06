//! The thread that encodes what was told, and writes it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use super::encoded::Round;
use super::shared::Shared;

/// Encodes and writes until the recording ends. If the output fails, what follows is dropped.
pub(super) fn run(shared: &Arc<Shared>, mut to: Option<Box<dyn Write + Send>>) {
    loop {
        let is_hurried = shared.inbox.wait(shared.holds_any());
        let is_last = shared.ends.load(Acquire);
        let round = match (is_last, is_hurried) {
            (true, _) => Round::Last,
            (false, true) => Round::Whole,
            (false, false) => Round::Usual,
        };
        let bytes = shared.encode(round);
        if let Some(out) = &mut to
            && let Err(error) = write(&mut **out, &bytes)
        {
            to = None;
            shared.fail(error);
        }
        shared.written.fetch_add(1, AcqRel);
        if is_last {
            return;
        }
    }
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    out.write_all(bytes)?;
    out.flush()
}
