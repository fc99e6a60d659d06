//! Reads of mapped memory that no cache keeps: write-combined, often behind PCI Express, where each load of at most
//! 16 bytes is a round trip of about 1 us. Streaming loads fetch a line of 64 bytes each.

use std::ops::Range;

/// Bytes of a streaming load.
#[cfg(target_arch = "x86_64")]
const CHUNK: usize = 16;

/// Copies `into.len()` bytes from an address inside of `mapped`, a range of addresses. With streaming loads where the
/// processor has them: these read whole chunks, and so up to 15 bytes on either side as well.
///
/// # Safety
/// The range is mapped. Others may write it meanwhile; then some of the bytes are the old ones.
pub unsafe fn read_uncached(mapped: Range<usize>, from: usize, into: &mut [u8]) {
    debug_assert!(mapped.start <= from && from + into.len() <= mapped.end);
    #[cfg(target_arch = "x86_64")]
    {
        let end = (from + into.len()).next_multiple_of(CHUNK);
        if mapped.start <= from / CHUNK * CHUNK
            && end <= mapped.end
            && std::arch::is_x86_feature_detected!("sse4.1")
        {
            // SAFETY: the processor has the instructions, and the chunks are mapped.
            return unsafe { stream(from, into) };
        }
    }
    let from = std::ptr::with_exposed_provenance(from);
    // SAFETY: mapped, as the caller guarantees.
    unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
}

/// # Safety
/// The aligned chunks over the bytes are mapped.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.1")]
unsafe fn stream(from: usize, into: &mut [u8]) {
    use std::arch::x86_64::{__m128i, _mm_storeu_si128, _mm_stream_load_si128};
    let mut rest = into;
    let mut skipped = from % CHUNK;
    let mut at = from - skipped;
    while !rest.is_empty() {
        let mut chunk = [0u8; CHUNK];
        // SAFETY: aligned and mapped, as the caller guarantees; and written to an array of that size.
        unsafe {
            let loaded = _mm_stream_load_si128(std::ptr::with_exposed_provenance::<__m128i>(at));
            _mm_storeu_si128(chunk.as_mut_ptr().cast(), loaded);
        }
        let count = (CHUNK - skipped).min(rest.len());
        let (here, later) = rest.split_at_mut(count);
        here.copy_from_slice(&chunk[skipped..][..count]);
        rest = later;
        skipped = 0;
        at += CHUNK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_memory_are_read_as_they_are() {
        #[repr(align(16))]
        struct Aligned([u8; 96]);
        let all = Aligned(std::array::from_fn(|at| at as u8 ^ 0x5A));
        let start = all.0.as_ptr().expose_provenance();
        // The mapped range ends where a chunk does, or inside of one.
        for mapped in [0..96, 3..96, 0..90, 5..77] {
            for from in mapped.clone() {
                for length in 0..=mapped.end - from {
                    let mut found = [0xEE; 96];
                    let into = &mut found[..length];
                    // SAFETY: inside of the array.
                    unsafe {
                        read_uncached(start + mapped.start..start + mapped.end, start + from, into)
                    };
                    assert_eq!(into, &all.0[from..from + length], "{mapped:?} {from} {length}");
                    assert!(found[length..].iter().all(|it| *it == 0xEE));
                }
            }
        }
    }
}
