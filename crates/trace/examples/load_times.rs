//! How long the formats of others take to read, a million events each.
//!
//! `cargo run --release -p vkmem-trace --example load_times`

use std::fmt::Write;

use vkmem_trace::load;

fn vma(pairs: u64) -> String {
    let mut text = String::from("Vulkan Memory Allocator,Calls recording\n1,8\n");
    for number in 0..pairs {
        let (time, frame) = (number / 1000, number / 5000);
        let size = 256 * (number % 1000 + 1);
        let pointer = 0x1D8_5B8B_0000 + number % 5000 * 32;
        let head = format_args!("12552,{time}.{:03},{frame}", number % 1000);
        let made = writeln!(
            text,
            "{head},vmaCreateBuffer,0,{size},130,0,0,1,0,0,0,{:016X},{pointer:016X},",
            0
        );
        made.expect("memory takes all that is written");
        let freed = writeln!(text, "{head},vmaDestroyBuffer,{pointer:016X}");
        freed.expect("memory takes all that is written");
    }
    text
}

fn rmm(pairs: u64) -> String {
    let mut text = String::from("Thread,Time,Action,Pointer,Size,Stream\n");
    for number in 0..pairs {
        let (seconds, micros) = (number / 100_000, number % 100_000 * 10);
        for action in ["allocate", "free"] {
            let pointer = 0x7F4A_6C00_0000 + number % 5000 * 256;
            let line =
                writeln!(text, "7,12:00:{seconds:02}.{micros:06},{action},{pointer:#x},{number},0");
            line.expect("memory takes all that is written");
        }
    }
    text
}

/// A snapshot of PyTorch without segments: entries of seven items, texts and stacks fetched from what is stored.
fn pytorch(pairs: u64) -> Vec<u8> {
    let mut out = b"\x80\x04}(\x8c\x08segments]\x8c\x0ddevice_traces](](".to_vec();
    let keys = [
        "action",
        "addr",
        "size",
        "stream",
        "time_us",
        "frames",
        "alloc",
        "free_requested",
        "free_completed",
    ];
    for key in keys {
        out.extend_from_slice(&[0x8C, key.len() as u8]);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\x940");
    }
    for stack in 0..200_u32 {
        out.extend_from_slice(b"](");
        for frame in 0..30_u32 {
            out.extend_from_slice(b"}(\x8c\x08filename\x8c\x08model.py\x8c\x04lineM");
            out.extend_from_slice(&((frame + stack * (frame / 25)) as u16).to_le_bytes());
            out.extend_from_slice(b"\x8c\x04name\x8c\x07forwardu");
        }
        out.extend_from_slice(b"e\x940");
    }
    for number in 0..pairs {
        for action in 6..9 {
            out.extend_from_slice(b"}(h\x00h");
            out.push(action);
            let integer = |out: &mut Vec<u8>, key: u8, value: u64| {
                out.extend_from_slice(&[b'h', key, 0x8A, 8]);
                out.extend_from_slice(&value.to_le_bytes());
            };
            integer(&mut out, 1, 0x7F4A_6C00_0000 + number % 5000 * 512);
            integer(&mut out, 2, 512);
            out.extend_from_slice(b"h\x03K\x00");
            integer(&mut out, 4, 1_700_000_000_000_000 + number);
            out.extend_from_slice(&[b'h', 5, b'h', 9 + (number % 200) as u8, b'u']);
        }
    }
    // The entries, the traces, the snapshot.
    out.extend_from_slice(b"eeu.");
    out
}

/// The time that this thread has run, in ns: other programs do not count.
fn cpu_time() -> u64 {
    // The kernel brings it up to date when the thread gives way.
    std::thread::yield_now();
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    times.split(' ').next().and_then(|it| it.parse().ok()).expect("a number")
}

fn main() {
    let pytorch = pytorch(333_333);
    for (name, bytes) in [
        ("VMA", vma(500_000).into_bytes()),
        ("RMM", rmm(500_000).into_bytes()),
        ("PyTorch", pytorch),
    ] {
        let start = cpu_time();
        let trace = load(&bytes).expect("sound");
        let time = (cpu_time() - start) as f64 / 1e9;
        println!(
            "{name}: {} MB, {} events, {} warnings: {time:.2} s",
            bytes.len() / 1_000_000,
            trace.len(),
            trace.warning_count()
        );
    }
}
