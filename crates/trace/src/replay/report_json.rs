//! [`ReplayReport`] as JSON.

use super::gauges::Peak;
use super::report::{RecordedFigures, ReplayReport};
use super::tally::{ClassFigures, Failures, Leftovers, Placements};
use crate::json::Json;

fn peak(json: &mut Json, it: &Peak) {
    json.object(|json| {
        json.key("bytes").value(it.bytes);
        json.key("event").value(it.event);
    });
}

fn class(json: &mut Json, it: &ClassFigures) {
    json.object(|json| {
        json.key("count").value(it.count);
        json.key("bytes").value(it.bytes);
    });
}

fn failures(json: &mut Json, it: &Failures) {
    json.object(|json| {
        json.key("count").value(it.count);
        json.key("bytes").value(it.bytes);
        json.key("first").list(|json| {
            for it in &it.first {
                json.object(|json| {
                    json.key("event").value(it.event);
                    json.key("size").value(it.size);
                    json.key("what").string(&it.what);
                });
            }
        });
    });
}

fn leftovers(json: &mut Json, it: &Leftovers) {
    json.object(|json| {
        json.key("allocations").value(it.allocations);
        json.key("bytes").value(it.bytes);
        json.key("pools").value(it.pools);
        json.key("virtual_blocks").value(it.spaces);
        json.key("virtual_allocations").value(it.virtual_allocations);
        json.key("first").list(|json| {
            for (event, size, name) in &it.first {
                json.object(|json| {
                    json.key("event").value(event);
                    json.key("size").value(size);
                    json.key("name");
                    match name {
                        Some(name) => json.string(name),
                        None => json.value("null"),
                    }
                });
            }
        });
    });
}

fn placements(json: &mut Json, it: &Placements) {
    json.object(|json| {
        json.key("checked").value(it.checked);
        json.key("differing").value(it.differing);
        json.key("first");
        match &it.first {
            None => json.value("null"),
            Some(it) => json.object(|json| {
                json.key("event").value(it.event);
                json.key("recorded").string(&it.recorded);
                json.key("now").string(&it.now);
            }),
        }
    });
}

fn recorded(json: &mut Json, it: &RecordedFigures) {
    json.object(|json| {
        peak(json.key("peak_held"), &it.peak_held);
        peak(json.key("peak_live"), &it.peak_live);
        json.key("held_at_peak_live").value(it.held_at_peak_live);
        json.key("held").value(it.held);
        json.key("live").value(it.live);
    });
}

impl ReplayReport {
    /// Returns the report as a JSON object: sizes in bytes, times in ns.
    pub fn to_json(&self) -> String {
        let mut json = Json::default();
        json.object(|json| {
            json.key("name").string(&self.name);
            json.key("device").string(&self.device);
            json.key("events").value(self.events);
            json.key("calls").value(self.calls());
            json.key("wall_time").value(self.wall_time);
            json.key("recorded_time").value(self.recorded_time);
            json.key("threads").value(self.threads);
            json.key("busiest_thread").value(self.busiest_thread);
            json.key("frames").value(self.frames);
            json.key("begins_in_the_middle").value(self.begins_in_the_middle);
            peak(json.key("peak_held"), &self.peak_held);
            peak(json.key("peak_live"), &self.peak_live);
            json.key("held_at_peak_live").value(self.held_at_peak_live);
            json.key("held_per_live").value(self.held_per_live());
            json.key("held").value(self.held);
            json.key("live").value(self.live);
            json.key("mean_fragmentation").value(self.mean_fragmentation());
            self.write_lists(json);
            failures(json.key("failed_now"), &self.failed_now);
            failures(json.key("succeeded_now"), &self.succeeded_now);
            json.key("failed_again").value(self.failed_again);
            leftovers(json.key("leftovers"), &self.leftovers);
            class(json.key("moves"), &self.moves);
            class(json.key("losses"), &self.losses);
            json.key("recorded_losses").value(self.recorded_losses);
            placements(json.key("placements"), &self.placements);
            json.key("recorded");
            match &self.recorded {
                Some(it) => recorded(json, it),
                None => json.value("null"),
            }
        });
        json.take()
    }

    fn write_lists(&self, json: &mut Json) {
        json.key("skipped").object(|json| {
            self.skipped.iter().for_each(|(why, count)| json.key(why).value(count));
        });
        json.key("functions").object(|json| {
            for (name, it) in &self.functions {
                json.key(name).object(|json| {
                    json.key("count").value(it.count);
                    json.key("failed").value(it.failed);
                    json.key("time").value(it.time);
                });
            }
        });
        json.key("heaps").list(|json| {
            for it in &self.heaps {
                json.object(|json| {
                    json.key("size").value(it.size);
                    json.key("held").value(it.held);
                    json.key("peak_held").value(it.peak_held);
                });
            }
        });
        json.key("memory_types").list(|json| {
            self.memory_types.iter().for_each(|it| class(json, it));
        });
        json.key("classes").object(|json| {
            self.classes.iter().for_each(|(name, it)| class(json.key(name), it));
        });
        json.key("driver").object(|json| {
            for it in &self.driver {
                json.key(it.name).object(|json| {
                    json.key("count").value(it.count);
                    json.key("failed").value(it.failed);
                });
            }
        });
        json.key("samples").list(|json| {
            for it in &self.samples {
                json.object(|json| {
                    json.key("event").value(it.event);
                    json.key("time").value(it.time);
                    json.key("held").value(it.held);
                    json.key("live").value(it.live);
                    json.key("allocations").value(it.allocations);
                    json.key("unused_ranges").value(it.unused_ranges);
                    json.key("largest_unused").value(it.largest_unused);
                    json.key("fragmentation").value(it.fragmentation);
                });
            }
        });
        json.key("device_differences").list(|json| {
            self.device_differences.iter().for_each(|it| json.string(it));
        });
    }
}
