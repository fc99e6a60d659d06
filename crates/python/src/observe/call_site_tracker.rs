//! Listener that stores the call site of each new resource: `track_call_sites` of an allocator.

use std::time::Instant;

use super::call_site::{CallSites, Origin};
use super::event::{Event, EventKind};
use super::events::Listener;

impl Listener for CallSites {
    fn interest(&self) -> u32 {
        EventKind::Create.bit()
    }

    fn receive(&self, event: &Event<'_>) {
        if let Event::Create { py, resources, .. } = event
            && let Some(site) = self.capture_tracked(*py)
        {
            let origin = Origin { site, at: Instant::now() };
            resources.iter().for_each(|it| it.set_origin(origin));
        }
    }
}
