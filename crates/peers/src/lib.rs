//! VMA and our engine in one process on the same traces. Not shipped; `make bench` runs it.

pub mod c_api;
pub mod cases;
pub mod driver;
pub mod fake;
pub mod measure;
pub mod random;
pub mod report;
pub mod vma;
