//! Writers: recordings of this library, VMA's CSV, RMM's CSV.

mod rmm_csv;
mod vkmem;
mod vma_calls;
mod vma_csv;
mod vma_text;
mod written;

pub use rmm_csv::{write_rmm_csv, write_rmm_csv_with};
pub use vkmem::{write_vkmem, write_vkmem_with};
pub use vma_csv::{write_vma_csv, write_vma_csv_with};
pub use written::Written;
