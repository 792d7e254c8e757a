//! The program's allocator: dlmalloc for what is small, pages of the kernel for what is large.
//!
//! musl's own allocator keeps twice as much after a burst of work, and glibc's keeps an arena for each
//! thread. Here the heap grows upwards in one piece; what is free at its
//! end goes back, and after a burst the pages of free blocks inside it.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;
use rustix::event::{EventfdFlags, eventfd};

/// Blocks from this size on are pages of their own, which go back to the kernel when they are freed.
const LARGE_MIN_BYTES: usize = 128 << 10;
/// The least alignment of pages on any of our machines.
const PAGE_ALIGN: usize = 4096;

/// Freed memory worth giving back: when so much less is in use than was, whoever waits is told.
const BURST_MIN_BYTES: usize = 2 << 20;
/// Free blocks that are taken before others get the heap again.
const TAKEN_AT_ONCE_MAX: usize = 256;
/// Every block of this size has a whole page in it.
const GIVEN_MIN_BYTES: usize = 2 * PAGE_ALIGN;

static HEAP: Mutex<Heap> = Mutex::new(Heap {
    blocks: Dlmalloc::new_with_allocator(Pages { end: Cell::new(0), frozen: Cell::new(false) }),
    in_use: 0,
    peak: 0,
});

/// Told of a burst that is over; negative while nobody waits for it.
static BELL: AtomicI32 = AtomicI32::new(-1);

/// What is freed is overwritten first.
static WIPES: AtomicBool = AtomicBool::new(false);

struct Heap {
    blocks: Dlmalloc<Pages>,
    /// Bytes in use, and the most since memory was last given back.
    in_use: usize,
    peak: usize,
}

impl Heap {
    fn takes(&mut self, size: usize) {
        self.in_use += size;
        self.peak = self.peak.max(self.in_use);
    }

    fn frees(&mut self, size: usize) {
        self.in_use = self.in_use.saturating_sub(size);
        if self.peak - self.in_use > BURST_MIN_BYTES {
            // Once only, until somebody waits again.
            let bell = BELL.swap(-1, Ordering::Relaxed);
            if bell >= 0 {
                // SAFETY: an eventfd that lives as long as the process; eight bytes are its message.
                unsafe { libc::write(bell, (&raw const RING).cast(), size_of::<u64>()) };
            }
        }
    }
}

static RING: u64 = 1;

/// For `#[global_allocator]`.
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

/// Becomes readable when much memory is free that was in use: time to think of [`give_back`].
#[derive(Debug)]
pub struct Bursts(OwnedFd);

impl Bursts {
    /// There is one at a time: a later one takes over.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new() -> std::io::Result<Bursts> {
        let bursts = Bursts(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        bursts.listen();
        Ok(bursts)
    }

    /// Waits for the next burst from here on.
    pub fn listen(&self) {
        BELL.store(self.0.as_raw_fd(), Ordering::Relaxed);
    }

    /// Takes note of a burst.
    ///
    /// # Errors
    /// `WouldBlock` if there was none.
    pub fn take(&self) -> std::io::Result<()> {
        rustix::io::read(&self.0, &mut [0u8; size_of::<u64>()])?;
        Ok(())
    }
}

impl AsFd for Bursts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Bursts {
    fn drop(&mut self) {
        let own = self.0.as_raw_fd();
        let _ = BELL.compare_exchange(own, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// From now on, in this process and what it forks, nothing stays readable in memory that was freed. For
/// processes whose forks somebody else may look into.
pub fn wipe_freed() {
    WIPES.store(true, Ordering::Relaxed);
}

/// Bytes in use on the heap now.
pub fn in_use() -> usize {
    heap().in_use
}

/// Gives the kernel back what is free: the heap's end, and the whole pages of free blocks inside it.
///
/// The blocks are found by taking them, the largest first, for as long as the heap need not grow;
/// what was taken is nobody else's while its pages go.
pub fn give_back() {
    // SAFETY: trimming has no precondition; the lock makes this the only user.
    unsafe { heap().blocks.trim(0) };
    let halves = (18..=26).rev().map(|bits| 1usize << bits);
    let small = (2..32).rev().map(|n| n * PAGE_ALIGN);
    let mut taken: *mut Taken = null_mut();
    for size in halves.chain(small) {
        while take_free(size, &mut taken) {}
    }
    let mut next = taken;
    while !next.is_null() {
        // SAFETY: `take_free` wrote it, at the beginning of a block that is ours and at least this long.
        let Taken { next: after, size } = unsafe { next.read() };
        let (from, to) = (next.addr() + size_of::<Taken>(), next.addr() + size);
        let first_page = from.next_multiple_of(PAGE_ALIGN);
        let length = (to & !(PAGE_ALIGN - 1)).saturating_sub(first_page);
        if length > 0 {
            let at = next.cast::<u8>().wrapping_add(first_page - next.addr());
            // SAFETY: pages wholly inside a block that nobody else uses and nothing is kept in.
            unsafe { libc::madvise(at.cast(), length, libc::MADV_DONTNEED) };
        }
        next = after;
    }
    while !taken.is_null() {
        let mut heap = heap();
        for _ in 0..TAKEN_AT_ONCE_MAX {
            if taken.is_null() {
                break;
            }
            // SAFETY: as above; each block came from the heap with this size and is freed once.
            unsafe {
                let Taken { next, size } = taken.read();
                heap.blocks.free(taken.cast(), size, align_of::<Taken>());
                taken = next;
            }
        }
    }
    let mut heap = heap();
    // SAFETY: as above.
    unsafe { heap.blocks.trim(0) };
    heap.peak = heap.in_use;
}

/// At the beginning of a block that was free: the one taken before it, and its size.
struct Taken {
    next: *mut Taken,
    size: usize,
}

/// Takes some free blocks of at least `size`; whether there may be more.
fn take_free(size: usize, taken: &mut *mut Taken) -> bool {
    debug_assert!(size >= GIVEN_MIN_BYTES);
    let mut heap = heap();
    heap.blocks.allocator().frozen.set(true);
    let mut more = true;
    for _ in 0..TAKEN_AT_ONCE_MAX {
        // SAFETY: a size that is not zero, and an alignment that is a power of two.
        let block = unsafe { heap.blocks.malloc(size, align_of::<Taken>()) }.cast::<Taken>();
        if block.is_null() {
            more = false;
            break;
        }
        // SAFETY: the block is ours, aligned as asked, and longer than this.
        unsafe { block.write(Taken { next: *taken, size }) };
        *taken = block;
    }
    heap.blocks.allocator().frozen.set(false);
    more
}

fn heap() -> MutexGuard<'static, Heap> {
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
            false => {
                let mut heap = heap();
                heap.takes(layout.size());
                // SAFETY: the caller's promises are those that dlmalloc asks for.
                unsafe { heap.blocks.malloc(layout.size(), layout.align()) }
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_large(layout.size(), layout.align()) {
            true => map(null_mut(), layout.size()),
            false => {
                let mut heap = heap();
                heap.takes(layout.size());
                // SAFETY: as in `alloc`.
                unsafe { heap.blocks.calloc(layout.size(), layout.align()) }
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match is_large(layout.size(), layout.align()) {
            // SAFETY: `alloc` mapped exactly this much there, and nobody uses it any more.
            true => drop(unsafe { libc::munmap(block.cast(), layout.size()) }),
            false => {
                if WIPES.load(Ordering::Relaxed) {
                    // SAFETY: the caller gives the block up, all of it.
                    unsafe { block.write_bytes(0, layout.size()) };
                    // Nobody reads them, the compiler might say.
                    std::hint::black_box(block);
                }
                let mut heap = heap();
                // SAFETY: as in `alloc`; the block came from the heap with this very layout.
                unsafe { heap.blocks.free(block, layout.size(), layout.align()) };
                heap.frees(layout.size());
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match (is_large(size, align), is_large(new_size, align)) {
            // Where freed blocks are wiped, the block is a new one.
            (false, false) if !WIPES.load(Ordering::Relaxed) => {
                let mut heap = heap();
                heap.takes(new_size);
                // SAFETY: as in `dealloc`.
                let moved = unsafe { heap.blocks.realloc(block, size, align, new_size) };
                heap.frees(if moved.is_null() { new_size } else { size });
                moved
            }
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
    /// While free blocks are looked for, there are no new ones.
    frozen: Cell<bool>,
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
        if self.frozen.get() {
            return (null_mut(), 0, 0);
        }
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
        what_is_free_inside_goes_back();
    }

    /// One live block among many pins nothing but its own page, and whoever waits is told.
    fn what_is_free_inside_goes_back() {
        let layout = Layout::from_size_align(9_000, 16).unwrap();
        let bursts = Bursts::new().unwrap();
        give_back();
        let before = resident();
        // SAFETY: a valid layout that is not empty; each block is freed once, and used within it.
        unsafe {
            let blocks: Vec<*mut u8> = (0..3000).map(|_| Allocator.alloc(layout)).collect();
            blocks.iter().for_each(|block| block.write_bytes(7, layout.size()));
            assert!(resident() - before > 25 << 20);
            assert_eq!(bursts.take().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            let kept: Vec<*mut u8> = blocks.iter().step_by(100).copied().collect();
            blocks.iter().filter(|block| !kept.contains(block)).for_each(|block| {
                Allocator.dealloc(*block, layout);
            });
            bursts.take().unwrap();
            give_back();
            bursts.listen();
            assert!(resident() < before + (1 << 20), "{} of {before}", resident());
            for block in kept {
                assert!(std::slice::from_raw_parts(block, layout.size()).iter().all(|b| *b == 7));
                Allocator.dealloc(block, layout);
            }
        }
        blocks_keep_what_is_in_them();
    }

    /// Bytes of the heap that are in memory.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let heap = Pages::begin() & !0xfff_ffff;
        let (mut inside, mut n_kib) = (false, 0);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if let Some((from, _)) = first.split_once('-') {
                let from = usize::from_str_radix(from, 16).unwrap();
                inside = (heap..heap + (1 << 32)).contains(&from);
            } else if inside && first == "Rss:" {
                n_kib += words.next().unwrap().parse::<usize>().unwrap();
            }
        }
        n_kib << 10
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
