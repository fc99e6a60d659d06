//! Changed files of every format: each reader answers with a trace or with one error, whatever the bytes are, and what it
//! reads can be walked and written. `VKMEM_MUTATIONS` sets how many changes of each file are tried.

use vkmem_trace::{Format, load_as, write_rmm_csv, write_vkmem, write_vma_csv};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) as usize % limit.max(1)
    }
}

/// What breaks parsers: limits, signs, separators, opcodes of pickles.
const PIECES: [&[u8]; 26] = [
    b"",
    b",",
    b"\n",
    b" ",
    b"-1",
    b"0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"0x",
    b"(nil)",
    b"FFFFFFFFFFFFFFFF",
    b"99999999999999999999999",
    b"1e9",
    b"\xff\xff\xff\xff",
    b"\x00",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"Config,Begin\n",
    b"Config,End\n",
    b"(",
    b"u",
    b"e",
    b"\x94",
    b"h\x00",
    b"]",
    b"}",
    b"\x8b\xff\xff\xff\x7f",
];

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let (at, other) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (from, to) = (at.min(other), at.max(other));
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => drop(bytes.drain(from..to.min(from + 40))),
            3 => {
                let piece = bytes[from..to.min(from + 200)].to_vec();
                let at = random.below(bytes.len() + 1);
                drop(bytes.splice(at..at, piece));
            }
            4 => bytes.truncate(at),
            5 => {
                let piece = PIECES[random.below(PIECES.len())];
                drop(
                    bytes
                        .splice(at..(at + random.below(5)).min(bytes.len()), piece.iter().copied()),
                );
            }
            6 => {
                let piece = PIECES[random.below(PIECES.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            _ => {
                // A column or a word takes the place of another one.
                let word = |from: usize| {
                    let is_end = |it: &u8| b", \n".contains(it);
                    let length = bytes[from..].iter().position(is_end);
                    from..from + length.unwrap_or(0).min(60)
                };
                let (one, piece) = (word(at), bytes[word(other)].to_vec());
                drop(bytes.splice(one, piece));
            }
        }
    }
}

fn attack(format: Format, files: &[&[u8]]) {
    let mutations = std::env::var("VKMEM_MUTATIONS").ok().and_then(|it| it.parse().ok());
    let (mut read, mut refused) = (0, 0);
    for (number, file) in (1..).zip(files) {
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ number);
        for _ in 0..mutations.unwrap_or(3000) {
            let mut bytes = file.to_vec();
            change(&mut random, &mut bytes);
            match load_as(format, &bytes) {
                Ok(trace) => {
                    // What takes no byte in the file makes no event.
                    assert!(trace.len() <= 2 * bytes.len());
                    if read % 16 == 0 {
                        let ours = load_as(Format::VkMem, &write_vkmem(&trace)).expect("sound");
                        assert_eq!(ours.len(), trace.len());
                        let vma = write_vma_csv(&ours).text;
                        load_as(Format::VmaCsv, vma.as_bytes()).expect("sound");
                        let rmm = write_rmm_csv(&ours).text;
                        load_as(Format::RmmCsv, rmm.as_bytes()).expect("sound");
                    }
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error.format, Some(format));
                    assert!(!error.what.is_empty() && error.to_string().len() < 500, "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} were read, {refused} refused");
}

const VMA: [&[u8]; 3] = [
    include_bytes!("data/vma-1.8-vega.csv"),
    include_bytes!("data/vma-all-calls.csv"),
    include_bytes!("data/vma-1.0.csv"),
];
const RMM: [&[u8]; 2] = [include_bytes!("data/rmm.csv"), include_bytes!("data/rmm-epoch.csv")];

#[test]
fn changed_recordings_of_vma() {
    attack(Format::VmaCsv, &VMA);
}

#[test]
fn changed_logs_of_rmm() {
    attack(Format::RmmCsv, &RMM);
}

#[test]
fn changed_snapshots_of_pytorch() {
    attack(
        Format::PyTorch,
        &[
            include_bytes!("data/snapshot-0.pickle"),
            include_bytes!("data/snapshot-2.pickle"),
            include_bytes!("data/snapshot-3.pickle"),
            include_bytes!("data/snapshot-4.pickle"),
        ],
    );
}

#[test]
fn changed_recordings_of_ours() {
    let files = VMA.map(|file| write_vkmem(&load_as(Format::VmaCsv, file).expect("sound")));
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    attack(Format::VkMem, &files);
}
