//! Turns what a builder has collected into columns and a header.

use std::fmt::Display;

use super::TimelineData;
use super::builder::Builder;
use super::column::{Columns, Encoding};
use super::slots::slots;
use super::tables::OPEN;
use crate::json::Json;
use crate::progress::Progress;

/// Writes a value, or null.
fn optional(json: &mut Json, key: &str, value: Option<impl Display>) {
    match value {
        Some(value) => json.key(key).value(value),
        None => json.key(key).value("null"),
    }
}

fn text(json: &mut Json, key: &str, value: Option<&str>) {
    match value {
        Some(value) => json.key(key).string(value),
        None => json.key(key).value("null"),
    }
}

/// The number of events that something exists; 0 for what never ends.
fn life(begin: u32, end: u32) -> u64 {
    if end == OPEN { 0 } else { u64::from(end - begin) }
}

impl Builder<'_> {
    /// Takes all events, and makes the data.
    pub fn build(mut self, progress: Progress<'_>) -> TimelineData {
        self.take_all(progress);
        // What nobody was placed in is of the default pool.
        let mut pools = Vec::with_capacity(self.memories.len());
        for it in &self.memories {
            let default = || self.places.pool(it.of_type, it.allocator, None);
            pools.push(it.pool.unwrap_or_else(default));
        }
        self.texts_of_sites();
        let columns = self.columns(&pools);
        let mut header = Json::default();
        let texts = std::mem::replace(&mut self.texts, super::dictionary::Texts::new()).finish();
        header.object(|json| self.head(json, &columns, texts.len()));
        let mut body = columns.bytes;
        body.extend_from_slice(texts.as_bytes());
        TimelineData { header: header.take(), body }
    }

    /// Puts the texts of all sites into the dictionary.
    fn texts_of_sites(&mut self) {
        let texts = self.trace.dictionary().texts();
        for site in self.trace.dictionary().sites() {
            self.texts.number(&texts[site.file as usize]);
            self.texts.number(&texts[site.function as usize]);
        }
    }

    fn columns(&mut self, pools: &[u32]) -> Columns {
        use Encoding::{Delta, Plain};
        let mut made = Columns::default();
        made.add("event.time", Delta, self.times.iter().copied());
        let kinds = self.trace.columns().kinds();
        made.add("event.kind", Plain, kinds.iter().map(|it| u64::from(*it)));
        macro_rules! add {
            ($rows:expr, $($name:literal $encoding:ident |$it:ident| $value:expr,)+) => {
                $(made.add($name, $encoding, $rows.iter().map(|$it| u64::from($value)));)+
            };
        }
        add! { self.memories,
            "memory.begin" Delta |it| it.begin,
            "memory.life" Plain |it| life(it.begin, it.end),
            "memory.number" Delta |it| it.number,
            "memory.size" Plain |it| it.size,
        }
        add! { pools, "memory.pool" Plain |it| *it, }
        add! { slots(&self.memories, pools), "memory.slot" Plain |it| *it, }
        add! { self.rows,
            "place.begin" Delta |it| it.begin,
            "place.life" Plain |it| life(it.begin, it.end),
            "place.cause" Plain |it| it.cause as u8,
            "place.ending" Plain |it| it.ending as u8,
            "place.allocation" Delta |it| it.allocation,
            "place.memory" Plain |it| it.memory,
            "place.pool" Plain |it| it.pool,
            "place.offset" Plain |it| it.offset,
            "place.size" Plain |it| it.size,
            "place.base" Plain |it| it.base,
            "place.use" Plain |it| it.of_use,
            "place.name" Plain |it| it.name,
            "place.data" Plain |it| it.data,
            "place.site" Plain |it| it.site,
        }
        let dictionary = self.trace.dictionary();
        let texts = dictionary.texts();
        let sites = dictionary.sites();
        add! { sites,
            "site.caller" Plain |it| it.parent.map_or(0, |it| it.0 + 1),
            "site.file" Plain |it| self.texts.number(&texts[it.file as usize]),
            "site.line" Plain |it| it.line,
            "site.function" Plain |it| self.texts.number(&texts[it.function as usize]),
        }
        add! { self.marks,
            "mark.event" Delta |it| it.event,
            "mark.kind" Plain |it| it.kind as u8,
            "mark.value" Plain |it| it.value,
            "mark.text" Plain |it| it.text,
            "mark.site" Plain |it| it.site,
        }
        add! { self.runs,
            "run.begin" Delta |it| it.begin,
            "run.life" Plain |it| life(it.begin, it.end),
            "run.moves" Plain |it| it.moves,
            "run.moved" Plain |it| it.moved,
            "run.freed" Plain |it| it.freed,
        }
        add! { self.budgets,
            "budget.event" Delta |it| it.event,
            "budget.heap" Plain |it| it.heap,
            "budget.budget" Plain |it| it.budget,
            "budget.usage" Plain |it| it.usage,
        }
        made
    }

    fn head(&self, json: &mut Json, columns: &Columns, texts: usize) {
        let description = self.description;
        let (major, minor) = description.version;
        json.key("version").value(TimelineData::VERSION);
        json.key("events").value(self.times.len());
        json.key("existing").value(self.existing);
        json.key("format").string(description.format.noun());
        json.key("source").string(&format!("{major}.{minor}"));
        json.key("resolution").value(description.resolution);
        optional(json, "start", description.start);
        let device = self.trace.description().device.as_ref();
        text(json, "device", device.map(|it| it.name.as_str()));
        text(json, "program", description.program.as_deref());
        text(json, "library", description.library.as_deref());
        json.key("played").value(self.played);
        json.key("warnings").value(self.source.warning_count());
        json.key("cut").value(self.source.cut().is_some());
        self.places_head(json);
        json.key("uses").list(|json| {
            for it in &self.uses.list {
                json.object(|json| {
                    json.key("class").string(it.class);
                    json.key("usage").string(&format!("{:#x}", it.usage));
                    json.key("detail").string(&it.detail);
                });
            }
        });
        json.key("columns").list(|json| {
            for (name, encoding, count, bytes) in &columns.list {
                json.list(|json| {
                    json.string(name);
                    json.string(encoding);
                    json.value(count);
                    json.value(bytes);
                });
            }
        });
        json.key("texts").value(texts);
    }

    fn places_head(&self, json: &mut Json) {
        json.key("heaps").list(|json| {
            for it in &self.places.heaps {
                json.object(|json| {
                    optional(json, "size", it.size);
                    optional(json, "flags", it.flags);
                    optional(json, "device", it.device);
                });
            }
        });
        json.key("types").list(|json| {
            for it in &self.places.types {
                json.object(|json| {
                    json.key("heap").value(it.heap);
                    optional(json, "number", it.number);
                    json.key("flags").value(it.flags);
                });
            }
        });
        json.key("pools").list(|json| {
            for it in &self.places.pools {
                json.object(|json| {
                    json.key("type").value(it.of_type);
                    json.key("allocator").value(it.allocator);
                    optional(json, "number", it.number);
                    let name = it.number.and_then(|number| self.pool_names.get(&number));
                    json.key("name").value(name.copied().unwrap_or(0));
                });
            }
        });
    }
}
