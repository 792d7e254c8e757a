//! The program's allocator: dlmalloc for what is small, pages of the kernel for what is large.
//!
//! musl's own allocator keeps twice as much after a burst of work, and glibc's keeps an arena for each
//! thread. Here the heap grows upwards in one piece, so that what is free at its end can go back.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

/// Blocks from this size on are pages of their own, which go back to the kernel when they are freed.
const LARGE_MIN_BYTES: usize = 128 << 10;
/// The least alignment of pages on any of our machines.
const PAGE_ALIGN: usize = 4096;

static HEAP: Mutex<Dlmalloc<Pages>> =
    Mutex::new(Dlmalloc::new_with_allocator(Pages { end: Cell::new(0) }));

/// For `#[global_allocator]`.
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

/// Gives the kernel back what is free at the heap's end: after a burst of work.
pub fn give_back() {
    // SAFETY: trimming has no precondition; the lock makes this the only user.
    unsafe { heap().trim(0) };
}

fn heap() -> MutexGuard<'static, Dlmalloc<Pages>> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_large(size: usize, align: usize) -> bool {
    size >= LARGE_MIN_BYTES && align <= PAGE_ALIGN
}

// SAFETY: each block comes from the heap or from `map`, by its size and alignment alone, so its end
// takes the same way; both give blocks that overlap no other and are aligned as asked.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_large(layout.size(), layout.align()) {
            true => map(null_mut(), layout.size()),
            // SAFETY: the caller's promises are those that dlmalloc asks for.
            false => unsafe { heap().malloc(layout.size(), layout.align()) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_large(layout.size(), layout.align()) {
            true => map(null_mut(), layout.size()),
            // SAFETY: as in `alloc`.
            false => unsafe { heap().calloc(layout.size(), layout.align()) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match is_large(layout.size(), layout.align()) {
            // SAFETY: `alloc` mapped exactly this much there, and nobody uses it any more.
            true => drop(unsafe { libc::munmap(block.cast(), layout.size()) }),
            // SAFETY: as in `alloc`; the block came from the heap with this very layout.
            false => unsafe { heap().free(block, layout.size(), layout.align()) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match (is_large(size, align), is_large(new_size, align)) {
            // SAFETY: as in `dealloc`.
            (false, false) => unsafe { heap().realloc(block, size, align, new_size) },
            (true, true) => {
                // SAFETY: the mapping is ours and of this size; it may move, as the caller expects.
                let moved =
                    unsafe { libc::mremap(block.cast(), size, new_size, libc::MREMAP_MAYMOVE) };
                if moved == libc::MAP_FAILED { null_mut() } else { moved.cast() }
            }
            _ => {
                // SAFETY: the caller promises that the new size is a valid one for this alignment;
                // both blocks are live, of at least the copied size, and do not overlap.
                unsafe {
                    let new = self.alloc(Layout::from_size_align_unchecked(new_size, align));
                    if !new.is_null() {
                        std::ptr::copy_nonoverlapping(block, new, size.min(new_size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}

/// Fresh zeroed pages, at `hint` if it is free; null if there are none.
fn map(hint: *mut u8, size: usize) -> *mut u8 {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping, never over an existing one (no MAP_FIXED).
    let at = unsafe { libc::mmap(hint.cast(), size, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED { null_mut() } else { at.cast() }
}

/// Where dlmalloc gets its memory from.
struct Pages {
    /// The end of the newest piece, where the next one is asked for; 0 before the first.
    end: Cell<usize>,
}

impl Pages {
    /// Where the heap begins: far from the program and from where the kernel maps files and stacks,
    /// and different each time.
    fn begin() -> usize {
        const BASE: usize = 1 << if size_of::<usize>() == 8 { 36 } else { 29 };
        let somewhere = 0u8;
        // The kernel has put the stack at a random place.
        let random = (std::ptr::from_ref(&somewhere).addr() >> 12) & 0xff;
        BASE + (random << 20)
    }
}

// SAFETY: regions are mappings of our own; what is freed is unmapped or refused.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let hint = match self.end.get() {
            0 => Pages::begin(),
            end => end,
        };
        let at = map(std::ptr::without_provenance_mut(hint), size);
        if !at.is_null() {
            self.end.set(at.addr() + size);
        }
        (at, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, at: *mut u8, size: usize, new_size: usize) -> bool {
        // SAFETY: dlmalloc gives up this tail of its region.
        let freed = unsafe { libc::munmap(at.add(new_size).cast(), size - new_size) } == 0;
        if freed && self.end.get() == at.addr() + size {
            self.end.set(at.addr() + new_size);
        }
        freed
    }

    fn free(&self, at: *mut u8, size: usize) -> bool {
        self.free_part(at, size, 0)
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_ALIGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other: the second measures the heap that both use.
    #[test]
    fn blocks_are_sound_and_go_back() {
        blocks_keep_what_is_in_them();
        give_back();
        what_was_freed_goes_back();
    }

    /// Blocks of all sizes and alignments, changed in size across the border between the two ways.
    fn blocks_keep_what_is_in_them() {
        let sizes = [1, 24, 1000, 100 << 10, LARGE_MIN_BYTES - 1, LARGE_MIN_BYTES, 1 << 20];
        for align in [1, 16, 256, 8192] {
            for size in sizes {
                for new_size in sizes {
                    let layout = Layout::from_size_align(size, align).unwrap();
                    let new = Layout::from_size_align(new_size, align).unwrap();
                    // SAFETY: the layouts are valid and not empty, and blocks are used within them.
                    unsafe {
                        let block = Allocator.alloc_zeroed(layout);
                        assert!(!block.is_null() && block.addr().is_multiple_of(align));
                        assert!(std::slice::from_raw_parts(block, size).iter().all(|b| *b == 0));
                        block.write_bytes(0x5a, size);
                        let block = Allocator.realloc(block, layout, new_size);
                        assert!(!block.is_null() && block.addr().is_multiple_of(align));
                        let kept = std::slice::from_raw_parts(block, size.min(new_size));
                        assert!(kept.iter().all(|byte| *byte == 0x5a));
                        Allocator.dealloc(block, new);
                    }
                }
            }
        }
    }

    fn what_was_freed_goes_back() {
        let layout = Layout::from_size_align(10_000, 16).unwrap();
        let before = heap_pages();
        // SAFETY: a valid layout that is not empty; each block is freed once.
        unsafe {
            let blocks: Vec<*mut u8> = (0..1000).map(|_| Allocator.alloc(layout)).collect();
            assert!(heap_pages() - before >= 9_900_000);
            blocks.into_iter().for_each(|block| Allocator.dealloc(block, layout));
        }
        give_back();
        assert!(heap_pages() < before + (2 << 20));
    }

    /// Bytes from the heap's beginning to its end.
    fn heap_pages() -> usize {
        let layout = Layout::from_size_align(16, 16).unwrap();
        // SAFETY: as above.
        unsafe {
            let block = Allocator.alloc(layout);
            Allocator.dealloc(block, layout);
            let text = std::fs::read_to_string("/proc/self/maps").unwrap();
            let range = text.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
            let parse = |text| usize::from_str_radix(text, 16).unwrap();
            range
                .map(|(from, to)| (parse(from), parse(to)))
                .filter(|(from, _)| (Pages::begin() & !0xfff_ffff..block.addr() + 1).contains(from))
                .map(|(from, to)| to - from)
                .sum()
        }
    }
}
