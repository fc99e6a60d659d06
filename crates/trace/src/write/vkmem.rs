//! Writes recordings of this library from traces.

use crate::dictionary::{Dictionary, Frame, SiteId};
use crate::event::Event;
use crate::format::Encoder;
use crate::progress::{Progress, nobody, watched};
use crate::trace::Trace;

/// Writes a trace as a recording of this library; keeps all of it.
pub fn write_vkmem(trace: &Trace) -> Vec<u8> {
    write_vkmem_with(trace, &nobody)
}

/// As [`write_vkmem`]; tells how many events are written.
pub fn write_vkmem_with(trace: &Trace, progress: Progress<'_>) -> Vec<u8> {
    let mut out = Encoder::head(trace.description());
    let mut encoder = Encoder::new();
    let sites = copy_sites(trace.dictionary(), encoder.dictionary_mut());
    for event in watched(trace.events(), progress) {
        let site = event.site.map(|it| sites[it.0 as usize]);
        encoder.push(&Event { site, ..event });
        if encoder.complete() >= Encoder::BLOCK {
            encoder.take(&mut out);
        }
    }
    encoder.end_block();
    encoder.take(&mut out);
    out
}

/// Defines all call sites in another dictionary; returns their numbers there.
fn copy_sites(from: &Dictionary, to: &mut Dictionary) -> Vec<SiteId> {
    let mut numbers: Vec<SiteId> = Vec::with_capacity(from.site_count());
    for site in from.sites() {
        let caller = site.parent.map(|it| numbers[it.0 as usize]);
        let texts = from.texts();
        let (file, function) = (&texts[site.file as usize], &texts[site.function as usize]);
        numbers.push(to.site(caller, Frame { file, line: site.line, function }));
    }
    numbers
}
