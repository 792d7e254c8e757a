//! Which edges of the program ran, where a build for fuzzing has the compiler count them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the counters are, one byte an edge; empty where nothing counts.
static BEGIN: AtomicUsize = AtomicUsize::new(usize::MAX);
static END: AtomicUsize = AtomicUsize::new(0);

/// Each part of the program that counts tells where its counters are, before `main`. LLVM's name:
/// <https://clang.llvm.org/docs/SanitizerCoverage.html>, inline 8bit-counters.
#[cfg(fuzzing)]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(begin: *mut u8, end: *mut u8) {
    BEGIN.fetch_min(begin as usize, Ordering::Relaxed);
    END.fetch_max(end as usize, Ordering::Relaxed);
}

/// The first counter and how many there are.
fn counters() -> (*mut u8, usize) {
    let (begin, end) = (BEGIN.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
    (begin as *mut u8, end.saturating_sub(begin))
}

/// Begins anew.
pub fn clear() {
    let (begin, n) = counters();
    if n > 0 {
        // SAFETY: the linker laid all counters out in one section, whose two ends the compiler's start code told us;
        // they are bytes that live as long as the program. Another thread that counts meanwhile may lose a count.
        unsafe { begin.write_bytes(0, n) }
    }
}

/// Adds what ran since `clear` to `seen`, a byte an edge: a bit for each power of two of how often it ran.
/// Tells whether something is new.
pub fn look(seen: &mut Vec<u8>) -> bool {
    let (begin, n) = counters();
    seen.resize(n, 0);
    let mut counts = vec![0; n];
    if n > 0 {
        // SAFETY: as in `clear`; `counts` has as many bytes.
        unsafe { begin.copy_to_nonoverlapping(counts.as_mut_ptr(), n) }
    }
    let mut is_new = false;
    // Almost all are zero: eight at once.
    for (counts, seen) in counts.chunks(8).zip(seen.chunks_mut(8)) {
        if counts.iter().all(|&count| count == 0) {
            continue;
        }
        for (&count, seen) in counts.iter().zip(seen).filter(|(count, _)| **count != 0) {
            let bit = 1 << count.ilog2();
            is_new |= *seen & bit == 0;
            *seen |= bit;
        }
    }
    is_new
}
