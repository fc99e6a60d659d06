//! Writers.

mod vkmem;

pub use vkmem::write_vkmem;
