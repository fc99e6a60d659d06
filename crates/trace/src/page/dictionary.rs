//! [`Texts`] and [`Uses`]: what many rows have in common, each once.

use std::collections::HashMap;

use vkmem_engine::ResourceKind;

use crate::json::Json;
use crate::values::{ImageInfo, Request, Resource};

/// Texts by their numbers; 0 is the empty one.
#[derive(Debug)]
pub(super) struct Texts<'t> {
    numbers: HashMap<&'t str, u32>,
    json: Json,
    made: u32,
}

impl<'t> Texts<'t> {
    pub fn new() -> Self {
        let mut json = Json::default();
        json.string("");
        Self { numbers: HashMap::from([("", 0)]), json, made: 1 }
    }

    /// Returns the number of a text.
    pub fn number(&mut self, text: &'t str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.add(text);
        self.numbers.insert(text, number);
        number
    }

    /// Appends a text that nobody else has.
    pub fn add(&mut self, text: &str) -> u32 {
        self.json.string(text);
        self.made += 1;
        self.made - 1
    }

    /// Returns the JSON array of all texts.
    pub fn finish(mut self) -> String {
        format!("[{}]", self.json.take())
    }
}

/// A use of memory, as pages show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Use {
    /// As in dumps: `BUFFER`, `IMAGE_OPTIMAL`.
    pub class: &'static str,
    /// `VkBufferUsageFlags2` or `VkImageUsageFlags`.
    pub usage: u64,
    /// Extent of an image, or the stream.
    pub detail: String,
}

/// Uses by their numbers.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub list: Vec<Use>,
    numbers: HashMap<Use, u32>,
    /// By the number of the request in the dictionary of the trace.
    of_requests: Vec<Option<u32>>,
}

impl Uses {
    /// Returns the number of a use by that of its request in the trace, where it has one.
    pub fn number(&mut self, request: &Request, known: u32) -> u32 {
        let known = known as usize;
        if let Some(Some(number)) = self.of_requests.get(known) {
            return *number;
        }
        let made = use_of(request);
        let number = match self.numbers.get(&made) {
            Some(&number) => number,
            None => {
                let number = self.list.len() as u32;
                self.list.push(made.clone());
                self.numbers.insert(made, number);
                number
            }
        };
        if known < u32::MAX as usize {
            if self.of_requests.len() <= known {
                self.of_requests.resize(known + 1, None);
            }
            self.of_requests[known] = Some(number);
        }
        number
    }
}

fn use_of(request: &Request) -> Use {
    let (class, usage, detail) = match &request.resource {
        Resource::Buffer(it) => ("BUFFER", it.usage, String::new()),
        Resource::Image(it) if it.tiling == 1 => ("IMAGE_LINEAR", it.usage, extent(it)),
        Resource::Image(it) => ("IMAGE_OPTIMAL", it.usage, extent(it)),
        Resource::Stream(0) => ("UNKNOWN", 0, String::new()),
        Resource::Stream(number) => ("UNKNOWN", 0, format!("stream {number}")),
        Resource::Unknown => (class_of(request.kind), 0, String::new()),
    };
    Use { class, usage, detail }
}

fn class_of(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Unknown => "UNKNOWN",
        ResourceKind::Buffer => "BUFFER",
        ResourceKind::ImageUnknown => "IMAGE_UNKNOWN",
        ResourceKind::ImageLinear => "IMAGE_LINEAR",
        ResourceKind::ImageOptimal => "IMAGE_OPTIMAL",
    }
}

/// `512 × 256 × 1, 6 layers, 10 mips, format 37`
fn extent(image: &ImageInfo) -> String {
    let [width, height, depth] = image.extent;
    let mut text = format!("{width} × {height}");
    let mut add = |some: bool, more: String| {
        if some {
            text.push_str(&more);
        }
    };
    add(depth > 1, format!(" × {depth}"));
    add(image.array_layers > 1, format!(", {} layers", image.array_layers));
    add(image.mip_levels > 1, format!(", {} mip levels", image.mip_levels));
    add(image.samples > 1, format!(", {} samples", image.samples));
    add(true, format!(", format {}", image.format));
    text
}
