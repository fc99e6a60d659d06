//! Dumps: our JSON has the same keys as VMA's.

mod common;

use std::collections::BTreeSet;

use common::trace::{Both, Outcome, wishes};
use serde_json::Value;
use vkmem_engine::{
    AllocationCreateFlags, AllocationCreateInfo, AllocationId, Describe, Description, PoolId,
};
use vkmem_peers::random::Random;

/// Collects the paths of all keys. Numbers in names (of heaps, types, blocks) and array positions are
/// left out: which block an allocation lies in may differ.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let counted = key.parse::<u64>().is_ok();
                let key = if counted { "#" } else { key.as_str() };
                let path = format!("{at}/{key}");
                paths(member, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|it| paths(it, &format!("{at}[]"), found)),
        _ => {}
    }
}

/// Collects the JSON types of the values at each path.
fn kinds(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|it| kinds(it, &format!("{at}[]"), found));
            "array"
        }
        Value::Object(members) => {
            for (key, member) in members {
                let key = if key.parse::<u64>().is_ok() { "#" } else { key.as_str() };
                kinds(member, &format!("{at}/{key}"), found);
            }
            "object"
        }
    };
    found.insert(format!("{at}: {kind}"));
}

struct Nothing;

impl Describe for Nothing {
    fn allocation(&self, _: AllocationId) -> Description<'_> {
        Description::default()
    }

    fn pool(&self, _: PoolId) -> Option<&str> {
        None
    }
}

fn dumps(both: &Both, detailed: bool) -> (Value, Value) {
    let ours = both.ours.build_stats_string(detailed, &Nothing).unwrap();
    let theirs = both.theirs.stats_string(detailed);
    let parse = |text: &str| serde_json::from_str(text).expect("it is JSON");
    (parse(&ours), parse(&theirs))
}

fn assert_same(both: &Both, detailed: bool) {
    let (ours, theirs) = dumps(both, detailed);
    for walk in [paths, kinds] {
        let (mut our_paths, mut their_paths) = (BTreeSet::new(), BTreeSet::new());
        walk(&ours, "", &mut our_paths);
        walk(&theirs, "", &mut their_paths);
        let missing: Vec<_> = their_paths.difference(&our_paths).collect();
        let more: Vec<_> = our_paths.difference(&their_paths).collect();
        assert!(missing.is_empty() && more.is_empty(), "missing {missing:#?}, more {more:#?}");
    }
    // What does not depend on placement is identical to the last byte.
    for key in ["General", "Total"] {
        let (mut ours, mut theirs) = (ours[key].clone(), theirs[key].clone());
        if key == "Total" {
            for it in [&mut ours, &mut theirs] {
                let total = it.as_object_mut().expect("an object");
                total.retain(|key, _| key.starts_with("Allocation"));
                assert!(total.len() >= 2);
            }
        }
        assert_eq!(ours, theirs, "{key}");
    }
}

#[test]
fn the_same_keys_as_vma() {
    for name in vkmem_engine::profile_names() {
        let mut info = vkmem_engine::profile_info(name).expect("a profile");
        // VMA omits types that it may not use; we list all types of the device.
        info.amd_device_coherent = true;
        let mut both = Both::new(&info, 1 << 20);
        assert_same(&both, true);
        assert_same(&both, false);
        let mut random = Random(301);
        let types = u32::MAX >> (32 - info.types.len());
        for round in 0..60 {
            if round % 7 == 6 {
                both.free_any(&mut random);
                continue;
            }
            let flags = if round % 9 == 0 {
                AllocationCreateFlags::DEDICATED_MEMORY
            } else {
                AllocationCreateFlags::empty()
            };
            let wishes = AllocationCreateInfo { flags, ..wishes() };
            // VMA counts sizes rounded up to pages of up to 256 bytes, we count requested sizes.
            let size = random.log_uniform(16, 400 << 10).next_multiple_of(256);
            assert_eq!(both.allocate(size, 16, types, &wishes), Outcome::Both, "{name}");
            if round % 5 == 0 {
                let (ours, theirs, _) = both.live.last().copied().expect("just made");
                both.ours.set_name(ours, Some("a \"name\"\n\\")).expect("it is live");
                // SAFETY: the allocation is live.
                unsafe { both.theirs.set_name(theirs, "a \"name\"\n\\") };
            }
        }
        assert_same(&both, true);
        assert_same(&both, false);
        both.finish();
    }
}
