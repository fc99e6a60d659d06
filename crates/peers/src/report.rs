//! Tables for the terminal and `bench/results.json` for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::measure::Figure;

/// The limit of a ratio or a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Bar {
    /// Returns whether a value is within the limit.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }

    fn text(self, value: f64) -> String {
        let (sign, bar) = match self {
            Self::AtMost(bar) => ("<=", bar),
            Self::AtLeast(bar) => (">=", bar),
        };
        let met = if self.is_met(value) { "met" } else { "MISSED" };
        format!(" [{sign} {bar} {met}]")
    }
}

/// The figure of one peer, and the limit of our ratio to it.
#[derive(Clone, Debug)]
pub struct Peer {
    name: String,
    figure: Figure,
    bar: Option<Bar>,
}

impl Peer {
    /// Creates a peer without a limit.
    pub fn new(name: &str, figure: &Figure) -> Self {
        Self { name: name.into(), figure: figure.clone(), bar: None }
    }

    /// Sets the largest allowed ratio of our figure to this one.
    pub fn at_most(self, bar: f64) -> Self {
        Self { bar: Some(Bar::AtMost(bar)), ..self }
    }

    /// Sets the smallest allowed ratio of our figure to this one.
    pub fn at_least(self, bar: f64) -> Self {
        Self { bar: Some(Bar::AtLeast(bar)), ..self }
    }

    /// Sets the largest allowed ratio, which not every size of a case has.
    pub fn with(self, bar: Option<f64>) -> Self {
        Self { bar: bar.map(Bar::AtMost), ..self }
    }
}

/// One line of the tables.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The measured case.
    pub case: String,
    /// Number of live allocations, or size of the case.
    pub n: u64,
    /// Our figure: a median, or an exact count.
    pub ours: f64,
    /// The figure of each peer.
    pub peers: BTreeMap<String, f64>,
    /// Our figure divided by each peer's: see [`Figure::ratio_to`].
    pub ratio: BTreeMap<String, f64>,
    /// The limit of the ratio to each peer; under `ours` the limit of our figure.
    pub bar: BTreeMap<String, Bar>,
    /// Whether each limit is met.
    pub met: BTreeMap<String, bool>,
    /// Unit of the figures.
    pub unit: String,
    /// Minimum and maximum of our rounds.
    pub spread: [f64; 2],
}

/// Collects lines and prints them as they are added.
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

fn with_spread(it: &Figure) -> String {
    if it.low == it.high {
        short(it.median)
    } else {
        format!("{} ({}..{})", short(it.median), short(it.low), short(it.high))
    }
}

impl Report {
    /// Prints a title above the lines that follow.
    pub fn section(&mut self, title: &str) {
        println!("\n{title}");
    }

    /// Adds a case and prints it.
    pub fn add(&mut self, case: &str, n: u64, unit: &str, ours: &Figure, peers: &[Peer]) {
        self.add_with_bar(case, n, unit, ours, None, peers);
    }

    /// Adds a case with a limit for our own figure, and prints it.
    pub fn add_with_bar(
        &mut self,
        case: &str,
        n: u64,
        unit: &str,
        ours: &Figure,
        own_bar: Option<Bar>,
        peers: &[Peer],
    ) {
        let mut line = Line {
            case: case.into(),
            n,
            ours: ours.median,
            peers: BTreeMap::new(),
            ratio: BTreeMap::new(),
            bar: BTreeMap::new(),
            met: BTreeMap::new(),
            unit: unit.into(),
            spread: [ours.low, ours.high],
        };
        let mut text = format!("  {case:<36} {n:>9}  ours {} {unit}", with_spread(ours));
        if let Some(bar) = own_bar {
            text += &bar.text(ours.median);
            line.bar.insert("ours".into(), bar);
            line.met.insert("ours".into(), bar.is_met(ours.median));
        }
        for Peer { name, figure, bar } in peers {
            let ratio = ours.ratio_to(figure);
            text += &format!(" | {name} {} -> {}", with_spread(figure), short(ratio));
            line.peers.insert(name.clone(), figure.median);
            line.ratio.insert(name.clone(), ratio);
            if let Some(bar) = bar {
                text += &bar.text(ratio);
                line.bar.insert(name.clone(), *bar);
                line.met.insert(name.clone(), bar.is_met(ratio));
            }
        }
        println!("{text}");
        self.lines.push(line);
    }

    /// Returns all lines.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Returns the number of met limits, and the cases and names of those that were not met.
    pub fn verdict(&self) -> (usize, Vec<String>) {
        let all = || self.lines.iter().flat_map(|line| line.met.iter().map(move |it| (line, it)));
        let met = all().filter(|(_, (_, met))| **met).count();
        let missed = all().filter(|(_, (_, met))| !**met);
        (met, missed.map(|(line, (name, _))| format!("{} {}: {name}", line.case, line.n)).collect())
    }

    /// Writes all lines as JSON.
    pub fn write(&self, path: &str) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(&self.lines)?;
        std::fs::write(path, text + "\n")
    }
}
