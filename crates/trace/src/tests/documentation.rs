//! `docs/formats.md` tells what the code does.

use vkmem_engine::ResourceKind;

use super::decode;
use crate::description::Description;
use crate::error::Format;
use crate::event::{Call, Data, Event, Kind};
use crate::format::{Encoder, VERSION};
use crate::values::{BufferInfo, Placed, Request, Resource};

const PAGE: &str = include_str!("../../../../docs/formats.md");

/// The name that the page has for a type.
fn type_name(rust: &str) -> String {
    let rust = rust.replace(' ', "").replace("<'a>", "").replace("Box<", "<");
    if let Some(inner) = rust.strip_prefix("Option<") {
        return format!("{}?", type_name(inner.trim_end_matches('>').trim_start_matches('<')));
    }
    let name = match rust.trim_start_matches('<').trim_end_matches('>') {
        "u32" | "u64" => "number",
        "i32" => "signed",
        "f32" => "float",
        "&'astr" => "text",
        "bool" => "truth",
        "Numbers" => "numbers",
        "PoolCreateInfo" => "pool info",
        "AllocatorOptions" => "options",
        "HostAndDeviceLimits" => "limits",
        "GroupKind" => "group kind",
        "MoveKind" => "move kind",
        "MoveResult" => "move result",
        "DefragmentationAlgorithm" => "thoroughness",
        "Placed" => "place",
        other => return other.to_lowercase(),
    };
    name.into()
}

#[test]
fn every_kind_of_event_is_in_the_table() {
    let mut missing = Vec::new();
    for kind in Kind::ALL.iter().filter(|kind| **kind as u8 >= 64) {
        let fields: Vec<String> = kind
            .fields()
            .iter()
            .map(|(name, rust)| format!("{}: {}", name.replace('_', " "), type_name(rust)))
            .collect();
        let fields = if fields.is_empty() { "none".into() } else { fields.join(", ") };
        let line = format!("| {} | `{}` | {fields} |", *kind as u8, kind.name());
        if !PAGE.lines().any(|it| it == line) {
            missing.push(line);
        }
    }
    assert!(missing.is_empty(), "not in docs/formats.md:\n{}", missing.join("\n"));
}

#[test]
fn the_bytes_of_the_example_are_those_of_the_encoder() {
    let mut file = Encoder::head(&Description::new(Format::VkMem, VERSION));
    let mut encoder = Encoder::new();
    let buffer = BufferInfo { flags: 0, usage: 0x82, sharing_mode: 0 };
    let request = Request {
        alignment: Some(256),
        memory_type_bits: Some(3),
        kind: ResourceKind::Buffer,
        resource: Resource::Buffer(buffer),
        ..Request::default()
    };
    let (memory_type, memory) = (Some(1), Some(0));
    encoder.push(&Event::new(
        0,
        1000,
        Call::Allocate {
            allocation: 0,
            request,
            size: Some(512),
            buffer_size: Some(500),
            placed: Some(Placed { memory_type, memory, offset: 4096, is_dedicated: false }),
            name: None,
            data: Data::None,
        },
    ));
    let later = Event::new(1, 1300, Call::BeginFrame {});
    encoder.push(&Event { frame: 1, ..later });
    let later = Event::new(2, 1400, Call::Free { allocation: 0 });
    encoder.push(&Event { frame: 1, ..later });
    encoder.end_block();
    encoder.take(&mut file);
    assert_eq!(decode(&file).expect("sound").len(), 3);
    let example = PAGE.split("```text\n").find(|it| it.starts_with("89 56"));
    let example = example.and_then(|it| it.split("```").next()).expect("the page has it");
    let bytes: Vec<String> = example
        .lines()
        .flat_map(|line| line.split("  ").next().unwrap_or("").split_whitespace())
        .map(str::to_lowercase)
        .collect();
    let real: Vec<String> = file.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes.join(" "), real.join(" "));
}
