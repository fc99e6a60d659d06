//! [`ChromeEvents`]: a timeline in the JSON format of Chrome's tracing.

use std::collections::HashMap;
use std::io::{self, Write};

use super::output::{Flow, Mark, MemoryOperation, Output, TrackId, TrackKind, Value};
use crate::description::Description;
use crate::dictionary::Dictionary;
use crate::json::Json;

/// Bytes after which text is handed on.
const PART: usize = 64 << 10;

/// Writes events, in parts.
pub(super) struct ChromeEvents<W> {
    writer: W,
    json: Json,
    process: u32,
    /// Names of counters, which have no tracks.
    counters: HashMap<u64, String>,
    pending: String,
    is_first: bool,
}

impl<W: Write> ChromeEvents<W> {
    pub fn new(writer: W) -> Self {
        let (json, counters, pending) = (Json::default(), HashMap::new(), String::new());
        Self { writer, json, process: 0, counters, pending, is_first: true }
    }

    pub fn into_writer(self) -> W {
        self.writer
    }

    /// Appends an event; times are in microseconds, as a fraction.
    fn event(
        &mut self,
        kind: &str,
        name: &str,
        track: TrackId,
        time: u64,
        more: impl FnOnce(&mut Json),
    ) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.pending.push_str(",\n");
        }
        let process = self.process;
        self.json.object(|json| {
            json.key("ph").string(kind);
            json.key("name").string(name);
            json.key("pid").value(process);
            json.key("tid").value(track.0);
            json.key("ts").value(format_args!("{}.{:03}", time / 1000, time % 1000));
            more(json);
        });
        self.pending.push_str(&self.json.take());
        self.hand_on(PART)
    }

    fn hand_on(&mut self, at_least: usize) -> io::Result<()> {
        if self.pending.len() >= at_least {
            self.writer.write_all(self.pending.as_bytes())?;
            self.pending.clear();
        }
        Ok(())
    }

    fn mark(
        &mut self,
        kind: &str,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()> {
        self.event(kind, mark.name, track, time, |json| {
            if kind == "i" {
                json.key("s").string("t");
            }
            json.key("args").object(|json| {
                for (key, value) in mark.values {
                    match value {
                        Value::Number(number) => json.key(key).value(number),
                        Value::Text(text) => json.key(key).string(text),
                    }
                }
                if let Some(site) = mark.site {
                    json.key("stack").list(|json| {
                        dictionary.stack(site).for_each(|it| {
                            json.string(&format!("{}:{} in {}", it.file, it.line, it.function));
                        });
                    });
                }
            });
        })?;
        let (kind, id) = match mark.flow {
            Some(Flow::Starts(id)) => ("s", id),
            Some(Flow::Ends(id)) => ("f", id),
            None => return Ok(()),
        };
        self.event(kind, "move", track, time, |json| {
            json.key("cat").string("move");
            json.key("id").value(id);
            json.key("bp").string("e");
        })
    }
}

impl<W: Write> Output for ChromeEvents<W> {
    fn begin(&mut self, description: &Description) -> io::Result<()> {
        self.process = description.process.unwrap_or(0);
        self.pending.push_str("{\"traceEvents\":[\n");
        Ok(())
    }

    fn track(
        &mut self,
        id: TrackId,
        parent: Option<TrackId>,
        name: &str,
        kind: TrackKind<'_>,
    ) -> io::Result<()> {
        let what = match (parent, kind) {
            (_, TrackKind::Bytes { .. }) => {
                self.counters.insert(id.0, name.into());
                return Ok(());
            }
            (None, _) => "process_name",
            (Some(_), TrackKind::Group) => return Ok(()),
            (Some(_), TrackKind::Slices) => "thread_name",
        };
        self.event("M", what, id, 0, |json| {
            json.key("args").object(|json| json.key("name").string(name));
        })
    }

    fn counter(&mut self, track: TrackId, time: u64, value: u64) -> io::Result<()> {
        let name = self.counters.get(&track.0).cloned().unwrap_or_default();
        self.event("C", &name, track, time, |json| {
            json.key("args").object(|json| json.key("bytes").value(value));
        })
    }

    fn slice(
        &mut self,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()> {
        self.mark("B", track, time, dictionary, mark)
    }

    fn end_slice(&mut self, track: TrackId, time: u64) -> io::Result<()> {
        self.event("E", "", track, time, |_| {})
    }

    fn instant(
        &mut self,
        track: TrackId,
        time: u64,
        dictionary: &Dictionary,
        mark: &Mark<'_>,
    ) -> io::Result<()> {
        self.mark("i", track, time, dictionary, mark)
    }

    /// The format has no such thing; what is held is among the counters.
    fn memory(&mut self, _: u64, _: &MemoryOperation) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.pending.push_str("\n],\"displayTimeUnit\":\"ns\"}\n");
        self.hand_on(0)?;
        self.writer.flush()
    }
}
