//! The host's side: copies and cache prefetching.

pub(crate) mod cache_hints;
pub(crate) mod copy;
pub(crate) mod gather;
pub(crate) mod uncached;
