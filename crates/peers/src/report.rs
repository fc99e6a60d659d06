//! Tables for people and `bench/results.json` for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::measure::Figure;

/// One line of the tables.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What was measured.
    pub case: String,
    /// How many were live, or how large the case was.
    pub n: u64,
    /// Our figure: a median, or an exact count.
    pub ours: f64,
    /// The same of each peer.
    pub peers: BTreeMap<String, f64>,
    /// Ours divided by the peer's.
    pub ratio: BTreeMap<String, f64>,
    /// Of the figures.
    pub unit: String,
    /// The least and the most of our rounds.
    pub spread: [f64; 2],
}

/// Collects lines and prints them as they come.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

fn short(value: f64) -> String {
    match value.abs() {
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

impl Report {
    /// A title above the lines that follow.
    pub fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    /// Takes a case in, and prints it.
    pub fn add(&mut self, case: &str, n: u64, unit: &str, ours: Figure, peers: &[(&str, Figure)]) {
        let spread = |it: &Figure| {
            if it.low == it.high {
                short(it.median)
            } else {
                format!("{} ({}..{})", short(it.median), short(it.low), short(it.high))
            }
        };
        let mut text = format!("  {case:<34} {n:>8}  ours {} {unit}", spread(&ours));
        for (name, figure) in peers {
            let ratio = short(ours.median / figure.median);
            text += &format!(" | {name} {} -> {ratio}", spread(figure));
        }
        println!("{text}");
        let named = |value: &dyn Fn(&Figure) -> f64| {
            peers.iter().map(|(name, it)| ((*name).to_owned(), value(it))).collect()
        };
        self.lines.push(Line {
            case: case.into(),
            n,
            ours: ours.median,
            peers: named(&|it| it.median),
            ratio: named(&|it| ours.median / it.median),
            unit: unit.into(),
            spread: [ours.low, ours.high],
        });
    }

    /// What was measured, one object a line.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Writes everything as JSON.
    pub fn write(&self, path: &str) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(&self.lines)?;
        std::fs::write(path, text + "\n")
    }
}
