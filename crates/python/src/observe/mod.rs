//! Events of an allocator, and their listeners: call sites, counts, watches.

pub(crate) mod call_site;
pub(crate) mod call_site_tracker;
pub(crate) mod event;
pub(crate) mod event_counts;
pub(crate) mod events;
pub(crate) mod watch_state;
