//! [`Recording`]: a recording of allocators that is being made.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use vkmem_engine::lock::{Mutex, rank};
use vkmem_engine::recording::next_number;
use vkmem_engine::{Allocator, AllocatorOptions};

use super::clock::{Clock, Counter, Stamps};
use super::encoded::{Encoded, Round};
use super::inbox::Inbox;
use super::raw::What;
use super::raw_space::SpaceInfo;
use super::shared::{OnFailure, Shared, State};
use super::sink::{Ring, Sink};
use super::source::Source;
use super::space::SpaceSource;
use super::writer;
use super::writing::Writing;
use crate::description::{BUDGETS, Description, ENGINE, NO, RECORDER, STAYS_MAPPED};
use crate::error::Format;
use crate::format::{Encoder, VERSION};

/// Where a recording goes.
pub enum Target {
    /// An output, usually a file: written by a thread of the recording, block by block.
    Writer(Box<dyn Write + Send>),
    /// An output that gets a trace of Perfetto instead, as [`write_perfetto`](crate::write_perfetto) makes one of the events.
    Timeline(Box<dyn Write + Send>),
    /// Memory that keeps at least so many of the last events.
    Ring(u64),
}

/// What a recording says of the program, and its limits.
#[derive(Clone, Debug, Default)]
pub struct RecordingOptions {
    /// The program.
    pub program: Option<String>,
    /// Name and version of the library.
    pub library: Option<String>,
    /// The most events that wait to be encoded; more are dropped. `None`: 131,072.
    pub most_waiting: Option<usize>,
    /// What is read for the times of events instead of the system's clock.
    pub counter: Option<Counter>,
    /// Called once, by the thread that writes, if the output fails.
    pub on_failure: Option<OnFailure>,
}

/// What a recording says of the device of its first allocator, and of its options, beside what the engine knows.
#[derive(Clone, Debug, Default)]
pub struct AllocatorHead {
    /// `VkPhysicalDeviceProperties::driverVersion`
    pub driver_version: Option<u32>,
    /// Extensions of Vulkan by name, and whether each is enabled.
    pub extensions: Vec<(String, bool)>,
    /// Options by name, as texts.
    pub settings: Vec<(String, String)>,
}

/// What was recorded when a recording has ended.
#[derive(Debug, Default)]
pub struct Finished {
    /// Number of events.
    pub events: u64,
    /// Number of calls that were dropped, as the disk was too slow.
    pub dropped: u64,
    /// Why the output failed, if it did; nothing after that was written.
    pub error: Option<io::Error>,
}

/// A recording that is being made. [`attach`](Self::attach) it to allocators.
pub struct Recording {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>, rank::RecordingThread>,
    /// The process that the thread belongs to.
    process: u32,
}

impl Recording {
    /// Begins a recording.
    ///
    /// # Errors
    /// [`io::Error`] if the system gives no thread.
    pub fn begin(target: Target, options: RecordingOptions) -> io::Result<Self> {
        let (start, clock) = (SystemTime::now(), Clock::begin(options.counter));
        let process = std::process::id();
        let start = start.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos() as u64);
        let settings = vec![(RECORDER.to_string(), ENGINE.to_string())];
        let description = Description {
            settings,
            program: options.program,
            process: Some(process),
            library: options.library,
            start: Some(start),
            ..Description::new(Format::VkMem, VERSION)
        };
        let encoded = match &target {
            Target::Timeline(_) => Encoded::Timeline(Default::default()),
            Target::Writer(_) | Target::Ring(_) => Encoded::Blocks(Encoder::new()),
        };
        let (sink, out) = match target {
            Target::Writer(out) | Target::Timeline(out) => {
                (Sink::Out { pending: Vec::new(), has_head: false }, Some(out))
            }
            Target::Ring(least) => (Sink::Ring(Ring::new(least.max(1))), None),
        };
        let inbox = Arc::new(match options.most_waiting {
            Some(most) => Inbox::with_room_for(most),
            None => Inbox::new(),
        });
        let state = Mutex::new(State {
            writing: Writing::new(encoded),
            stamps: Stamps::new(clock),
            sink,
            head: Encoder::head(&description),
            description,
            spare: Vec::new(),
            dropped: 0,
            error: None,
            allocators: 0,
            spaces: 0,
        });
        let (ends, written, has_failed) = Default::default();
        let on_failure = options.on_failure;
        let shared = Shared { inbox, state, ends, written, has_failed, on_failure, clock };
        let shared = Arc::new(shared);
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("vk_mem record".into());
        let thread = thread.spawn(move || writer::run(&theirs, out))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), process })
    }

    /// Records an allocator from now on. Its device is that of the head if it is the first one, which should be attached
    /// before it allocates: what existed is to be told by [`Source::tell_state`]. Returns what it tells its events, and
    /// who recorded it until now.
    pub fn attach(
        &self,
        allocator: &Allocator,
        options: &AllocatorOptions,
        head: AllocatorHead,
    ) -> Arc<Source> {
        let info = allocator.device().info();
        let mut state = self.shared.state.lock();
        let number = state.allocators;
        state.allocators += 1;
        state.writing.set_device(number, info);
        if number == 0 {
            let description = &mut state.description;
            description.device = Some(info.clone());
            description.options = Some(options.clone());
            description.driver_version = head.driver_version;
            description.extensions = head.extensions;
            description.settings.extend(head.settings);
            let mut say_no = |name: &str| description.settings.push((name.into(), NO.into()));
            if !allocator.reports_budgets() {
                say_no(BUDGETS);
            }
            if !allocator.device().may_stay_mapped() {
                say_no(STAYS_MAPPED);
            }
            state.head = Encoder::head(&state.description);
        }
        drop(state);
        let source = Arc::new(self.source(number));
        source.push(next_number(), What::CreateAllocator(Box::new(options.clone())), false);
        allocator.set_recorder(Some(source.clone()));
        source
    }

    /// Records a virtual block or a set from now on; that of an allocator is told with its number.
    pub(super) fn attach_space(
        &self,
        allocator: Option<u16>,
        info: SpaceInfo,
        is_state: bool,
    ) -> SpaceSource {
        let number = {
            let mut state = self.shared.state.lock();
            state.spaces += 1;
            state.spaces - 1
        };
        let source = SpaceSource::new(self.source(allocator.unwrap_or(0)), number);
        source.created(info, is_state);
        source
    }

    /// Returns where its events are put.
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.shared.inbox
    }

    /// Writes a text into the recording.
    pub fn mark(&self, text: &str) {
        self.source(0).push(next_number(), What::Mark(text.into()), false);
    }

    /// Returns what puts events of an allocator into the recording.
    fn source(&self, allocator: u16) -> Source {
        Source { inbox: self.shared.inbox.clone(), allocator, clock: self.shared.clock }
    }

    /// Returns whether the output has failed, as a full disk does: then nothing is recorded any more.
    pub fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Acquire)
    }

    /// Returns number of events that were encoded, and of calls that were dropped.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.shared.state.lock();
        (state.writing.encoded.events(), state.dropped)
    }

    /// Waits until all that was told so far is written, or could not be.
    pub fn flush(&self) {
        // The round that runs now may have begun before.
        let now = self.shared.written.load(Acquire);
        while self.shared.written.load(Acquire) < now + 2 {
            let is_over = self.thread.lock().as_ref().is_none_or(JoinHandle::is_finished);
            if is_over {
                return;
            }
            self.shared.inbox.hurry();
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Writes what a ring has as a recording; returns the number of its events, `None` if this is no ring.
    ///
    /// # Errors
    /// [`io::Error`] of the output.
    pub fn save(&self, to: &mut dyn Write) -> Option<io::Result<u64>> {
        let is_ring = matches!(self.shared.state.lock().sink, Sink::Ring(_));
        if !is_ring {
            return None;
        }
        self.shared.encode(Round::Last);
        let mut bytes = Vec::new();
        let events = {
            let state = self.shared.state.lock();
            let (Sink::Ring(ring), Encoded::Blocks(encoder)) =
                (&state.sink, &state.writing.encoded)
            else {
                return None;
            };
            ring.save(&state.head, encoder, &mut bytes)
        };
        // Without the lock: a disk may be slow.
        Some(
            events
                .and_then(|events| to.write_all(&bytes).and_then(|()| to.flush()).map(|()| events)),
        )
    }

    /// Ends the recording: waits until all is written. Allocators should not tell it anything any more.
    pub fn finish(&self) -> Finished {
        self.shared.ends.store(true, Release);
        self.shared.inbox.hurry();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && std::process::id() == self.process
        {
            // An error means that the thread panicked, which was already printed.
            let _ = thread.join();
        }
        self.shared.inbox.close();
        let mut state = self.shared.state.lock();
        let (events, dropped) = (state.writing.encoded.events(), state.dropped);
        Finished { events, dropped, error: state.error.take() }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if std::process::id() == self.process {
            self.shared.ends.store(true, Relaxed);
            drop(self.finish());
        }
    }
}
