//! What the host does with bytes: copies, and hints to its caches.

pub(crate) mod cache_hints;
pub(crate) mod copy;
