//! [`RecordedOptions`]: options of an allocator of which the engine knows nothing, and a recording tells.

/// Options of an allocator, as it was created.
pub struct RecordedOptions {
    pub frames_in_flight: u64,
    pub strict_host_access: bool,
    pub call_site_depth: u32,
    pub defragments_when_full: bool,
    pub defragments_by_itself: bool,
    pub evicts_over_budget: bool,
    pub watches_memory: bool,
}

impl RecordedOptions {
    /// Returns each with its name.
    pub fn texts(&self) -> Vec<(String, String)> {
        let yes_or_no = |is: bool| if is { "yes" } else { "no" }.to_string();
        [
            ("frames in flight", self.frames_in_flight.to_string()),
            ("strict host access", yes_or_no(self.strict_host_access)),
            ("depth of call sites", self.call_site_depth.to_string()),
            ("defragments when full", yes_or_no(self.defragments_when_full)),
            ("defragments by itself", yes_or_no(self.defragments_by_itself)),
            ("evicts over budget", yes_or_no(self.evicts_over_budget)),
            ("fills and checks memory", yes_or_no(self.watches_memory)),
        ]
        .map(|(name, text)| (name.to_string(), text))
        .into()
    }
}
