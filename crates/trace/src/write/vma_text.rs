//! Lines and pointers as VMA prints them.

use std::fmt::{Result, Write};

use super::written::Written;
use crate::event::Event;

/// Pointers of objects: their numbers in ranges that do not meet.
fn pointer(kind: u64, number: u32) -> u64 {
    (kind << 40) + (u64::from(number) << 5)
}

pub(super) fn allocation_pointer(number: u32) -> u64 {
    pointer(1, number)
}

pub(super) fn pool_pointer(number: u32) -> u64 {
    pointer(2, number)
}

pub(super) fn run_pointer(number: u32) -> u64 {
    pointer(3, number)
}

/// Prints pointers as the compiler of VMA's recordings does, separated by blanks.
pub(super) fn list(pointers: impl Iterator<Item = u64>) -> String {
    pointers.map(|it| format!("{it:016X}")).collect::<Vec<_>>().join(" ")
}

/// Returns text for the end of a line.
pub(super) fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// Appends the line of a call.
pub(super) fn line(out: &mut Written, event: &Event<'_>, text: std::fmt::Arguments<'_>) -> Result {
    let milliseconds = event.time / 1_000_000;
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    writeln!(out.text, "{},{seconds}.{milliseconds:03},{},{text}", event.thread, event.frame)
}
