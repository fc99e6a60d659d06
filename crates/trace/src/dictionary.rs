//! [`Dictionary`]: texts, requests and call sites, each stored once and referred to by its number.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use crate::values::{Priority, Request, Resource};

/// The number of a call stack in a [`Dictionary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// One function of a call stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Path of the source file.
    pub file: &'a str,
    /// Line in that file, from 1; 0 if it is not known.
    pub line: u32,
    /// Name of the function.
    pub function: &'a str,
}

/// A function of a call stack and what called it. Stacks that begin alike share their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    /// The caller; always of a lower number.
    pub parent: Option<SiteId>,
    pub file: u32,
    pub line: u32,
    pub function: u32,
}

/// Values in the order of their numbers, and the number of each.
#[derive(Clone, Debug)]
struct Interned<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32, Mixing>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::with_hasher(Mixing::new()) }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn intern(&mut self, value: &T) -> u32 {
        if let Some(&number) = self.numbers.get(value) {
            return number;
        }
        self.add(value.clone())
    }

    fn add(&mut self, value: T) -> u32 {
        let number = u32::try_from(self.values.len()).expect("fewer than 2^32 values");
        self.values.push(value.clone());
        self.numbers.entry(value).or_insert(number);
        number
    }

    /// Stores a value under the number that a file gives it: the next one, or that of an equal value.
    fn define(&mut self, number: u32, value: T) -> bool {
        match self.values.get(number as usize) {
            Some(known) => *known == value,
            None if number as usize == self.values.len() => {
                self.add(value);
                true
            }
            None => false,
        }
    }
}

/// Makes hashers that take a multiplication a word. Each starts with a secret, so that no file can be made whose values
/// all collide.
#[derive(Clone, Debug)]
pub(crate) struct Mixing(u64);

impl Mixing {
    /// Takes a new secret.
    pub fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Mixing {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix { state: self.0, secret: self.0 }
    }
}

pub(crate) struct Mix {
    state: u64,
    secret: u64,
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        eights.iter().for_each(|it| self.write_u64(u64::from_le_bytes(*it)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = u128::from(self.state ^ value) * u128::from(self.secret | 1);
        self.state = (mixed as u64 ^ (mixed >> 64) as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

/// Numbers of the requests that were looked up last, in as many rows chosen by some of their fields.
const RECENT: usize = 256;

/// Texts, requests and call sites of a trace.
#[derive(Clone, Debug)]
pub struct Dictionary {
    texts: Interned<Arc<str>>,
    requests: Interned<Request>,
    sites: Interned<Site>,
    recent: Box<[u32; RECENT]>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            texts: Interned::default(),
            requests: Interned::default(),
            sites: Interned::default(),
            recent: Box::new([u32::MAX; RECENT]),
        }
    }
}

/// Returns the row of a request among the recent ones.
#[inline]
fn row_of(request: &Request) -> usize {
    let resource = match &request.resource {
        Resource::Unknown => 0,
        Resource::Buffer(buffer) => buffer.usage,
        Resource::Image(it) => {
            u64::from(it.extent[0]) ^ u64::from(it.extent[1]) << 20 ^ u64::from(it.format) << 40
        }
        Resource::Stream(stream) => u64::from(*stream),
    };
    let alignment = request.alignment.unwrap_or(0) << 7;
    let info = u64::from(request.flags.bits()) << 13 ^ u64::from(request.pool.unwrap_or(99)) << 31;
    let priority = request.priority.map_or(0, Priority::to_bits);
    let mixed = resource ^ alignment ^ info ^ u64::from(priority) ^ (request.usage as u64) << 50;
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}

impl Dictionary {
    /// Returns the number of a text, which is stored if it is new.
    pub(crate) fn text(&mut self, text: &str) -> u32 {
        match self.texts.numbers.get(text) {
            Some(&number) => number,
            None => self.texts.add(text.into()),
        }
    }

    /// Returns the number of a request, which is stored if it is new.
    #[inline]
    pub(crate) fn request(&mut self, request: &Request) -> u32 {
        let row = row_of(request);
        let number = self.recent[row];
        if self.requests.values.get(number as usize) == Some(request) {
            return number;
        }
        self.search_request(row, request)
    }

    #[inline(never)]
    fn search_request(&mut self, row: usize, request: &Request) -> u32 {
        let number = self.requests.intern(request);
        self.recent[row] = number;
        number
    }

    /// Returns the number of a request, or `u32::MAX` if it is not stored.
    pub(crate) fn number_of(&self, request: &Request) -> u32 {
        self.requests.numbers.get(request).copied().unwrap_or(u32::MAX)
    }

    /// Returns the number of a function that was called by `caller`, which is stored if it is new. A whole stack is
    /// stored from its outermost function inwards.
    pub fn site(&mut self, caller: Option<SiteId>, frame: Frame<'_>) -> SiteId {
        let (file, function) = (self.text(frame.file), self.text(frame.function));
        self.site_of(Site { parent: caller, file, line: frame.line, function })
    }

    /// Returns the number of a function whose texts are stored already.
    pub(crate) fn site_of(&mut self, site: Site) -> SiteId {
        SiteId(self.sites.intern(&site))
    }

    /// Returns the functions of a call stack, the innermost first; none for a number that is not in use.
    pub fn stack(&self, site: SiteId) -> impl Iterator<Item = Frame<'_>> {
        let first = self.sites.values.get(site.0 as usize);
        let up = |site: &&Site| site.parent.and_then(|it| self.sites.values.get(it.0 as usize));
        std::iter::successors(first, up).map(|site| Frame {
            file: &self.texts.values[site.file as usize],
            line: site.line,
            function: &self.texts.values[site.function as usize],
        })
    }

    /// Returns the texts in the order of their numbers.
    pub fn texts(&self) -> &[Arc<str>] {
        &self.texts.values
    }

    /// Returns the requests in the order of their numbers.
    pub fn requests(&self) -> &[Request] {
        &self.requests.values
    }

    /// Returns the number of functions of call stacks.
    pub fn site_count(&self) -> usize {
        self.sites.values.len()
    }

    pub(crate) fn sites(&self) -> &[Site] {
        &self.sites.values
    }

    /// Stores a text of a file; returns false if its number has another text or leaves a gap.
    #[must_use]
    pub(crate) fn define_text(&mut self, number: u32, text: &str) -> bool {
        match self.texts.values.get(number as usize) {
            Some(known) => **known == *text,
            None => self.texts.define(number, text.into()),
        }
    }

    /// Stores a request of a file; returns false as [`define_text`](Self::define_text) does.
    #[must_use]
    pub(crate) fn define_request(&mut self, number: u32, request: Request) -> bool {
        self.requests.define(number, request)
    }

    /// Stores a call site of a file; returns false as [`define_text`](Self::define_text) does, and if it refers to
    /// what is not defined.
    #[must_use]
    pub(crate) fn define_site(&mut self, number: u32, site: Site) -> bool {
        let texts = self.texts.values.len();
        site.parent.is_none_or(|it| it.0 < number)
            && (site.file as usize) < texts
            && (site.function as usize) < texts
            && self.sites.define(number, site)
    }
}
