//! [`ReplayReport`] as a table, and many of them as one.

use std::fmt;

use vkmem_engine::human_bytes;

use super::gauges::Peak;
use super::report::ReplayReport;
use super::tally::Failures;

/// Formats a time with a unit.
fn human_time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// Returns rows as lines whose columns are aligned: the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                None => widths.push(width),
                Some(known) => *known = width.max(*known),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => line.push_str(&format!("{cell:<width$}")),
                _ => line.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn peak(it: &Peak) -> String {
    format!("{} at event {}", human_bytes(it.bytes), it.event)
}

fn failures(f: &mut fmt::Formatter<'_>, title: &str, failures: &Failures) -> fmt::Result {
    if failures.count == 0 {
        return Ok(());
    }
    writeln!(f, "\n{title}: {} of {}", failures.count, human_bytes(failures.bytes))?;
    for it in &failures.first {
        writeln!(f, "  event {}, {}: {}", it.event, human_bytes(it.size), it.what)?;
    }
    Ok(())
}

/// Formats as VmaReplay prints its results: device, time, memory, calls, resources, what was never freed.
impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.name, self.device)?;
        let row = |name: &str, value: String| vec![name.to_string(), value];
        let mut rows = vec![
            row("events", self.events.to_string()),
            row("calls", self.calls().to_string()),
            row("time", human_time(self.wall_time)),
            row("recorded time", human_time(self.recorded_time)),
            row("peak held", peak(&self.peak_held)),
            row("peak live", peak(&self.peak_live)),
            row("held / live then", format!("{:.3}", self.held_per_live())),
        ];
        if let Some(recorded) = &self.recorded {
            rows.push(row("recorded peak held", peak(&recorded.peak_held)));
            rows.push(row("recorded held / live", format!("{:.3}", recorded.held_per_live())));
        }
        rows.extend([
            row("held at the end", human_bytes(self.held)),
            row("live at the end", human_bytes(self.live)),
            row("mean fragmentation", format!("{:.3}", self.mean_fragmentation())),
            row("threads", self.threads.to_string()),
            row("busiest thread", format!("{:.0} %", self.busiest_thread * 100.0)),
            row("frames", self.frames.to_string()),
        ]);
        if self.placements.checked > 0 || self.placements.differing > 0 {
            let same = self.placements.checked.saturating_sub(self.placements.differing);
            rows.push(row("places as recorded", format!("{same} of {}", self.placements.checked)));
        }
        f.write_str(&aligned(&rows))?;
        if let Some(first) = &self.placements.first {
            writeln!(f, "first difference: event {}", first.event)?;
            writeln!(f, "  recorded: {}\n  now:      {}", first.recorded, first.now)?;
        }
        for (why, count) in &self.skipped {
            writeln!(f, "not played: {count} events: {why}")?;
        }
        if self.begins_in_the_middle {
            writeln!(f, "the trace begins in the middle: what existed before was allocated anew")?;
        }
        if !self.device_differences.is_empty() {
            writeln!(f, "\ndevice")?;
            self.device_differences.iter().try_for_each(|it| writeln!(f, "  {it}"))?;
        }
        self.write_calls(f)?;
        failures(f, "failed now, succeeded in the recording", &self.failed_now)?;
        failures(f, "succeeded now, failed in the recording", &self.succeeded_now)?;
        let left = &self.leftovers;
        if left.allocations + left.pools + left.spaces + left.virtual_allocations > 0 {
            writeln!(
                f,
                "\nnever freed: {} allocations of {}, {} pools, {} virtual blocks, {} virtual allocations",
                left.allocations,
                human_bytes(left.bytes),
                left.pools,
                left.spaces,
                left.virtual_allocations
            )?;
            for (event, size, name) in &left.first {
                let name = name.as_deref().unwrap_or("without a name");
                writeln!(f, "  event {event}, {}: {name}", human_bytes(*size))?;
            }
        }
        Ok(())
    }
}

impl ReplayReport {
    fn write_calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["call", "count", "failed", "time", "mean"].map(String::from).to_vec()];
        for (name, calls) in &self.functions {
            rows.push(vec![
                (*name).into(),
                calls.count.to_string(),
                calls.failed.to_string(),
                human_time(calls.time),
                human_time(calls.time / calls.count.max(1)),
            ]);
        }
        write!(f, "\n{}", aligned(&rows))?;
        let mut rows = vec![["driver", "calls", "failed"].map(String::from).to_vec()];
        for it in self.driver.iter().filter(|it| it.count > 0) {
            rows.push(vec![it.name.into(), it.count.to_string(), it.failed.to_string()]);
        }
        write!(f, "\n{}", aligned(&rows))?;
        let mut rows = vec![["memory", "count", "bytes"].map(String::from).to_vec()];
        for (index, it) in self.memory_types.iter().enumerate().filter(|(_, it)| it.count > 0) {
            let name = format!("memory type {index}");
            rows.push(vec![name, it.count.to_string(), human_bytes(it.bytes)]);
        }
        for (class, it) in &self.classes {
            rows.push(vec![(*class).into(), it.count.to_string(), human_bytes(it.bytes)]);
        }
        write!(f, "\n{}", aligned(&rows))
    }
}

/// Returns reports as one table, a row for each.
pub fn comparison_table(reports: &[ReplayReport]) -> String {
    let titles = [
        "settings",
        "device",
        "time",
        "peak held",
        "peak live",
        "held / live",
        "fragmentation",
        "driver calls",
        "failed now",
        "succeeded now",
    ];
    let mut rows = vec![titles.map(String::from).to_vec()];
    for it in reports {
        rows.push(vec![
            it.name.clone(),
            it.device.clone(),
            human_time(it.wall_time),
            human_bytes(it.peak_held.bytes),
            human_bytes(it.peak_live.bytes),
            format!("{:.3}", it.held_per_live()),
            format!("{:.3}", it.mean_fragmentation()),
            it.driver_calls().to_string(),
            it.failed_now.count.to_string(),
            it.succeeded_now.count.to_string(),
        ]);
    }
    aligned(&rows)
}
