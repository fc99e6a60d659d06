//! Where calls of the program came from, and how much they created and released.

pub(crate) mod call_site;
pub(crate) mod observed;
