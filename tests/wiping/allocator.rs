//! An allocator that detects when memory with a secret in it is freed.
#![expect(unsafe_code, reason = "an allocator is told to give back memory that only it can look at")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The secret that must not remain in freed memory.
pub(crate) const CANARY: &[u8] = b"kanarienvogel";

pub(crate) static WATCHING: AtomicBool = AtomicBool::new(false);
/// The backtraces of the calls that freed such memory.
pub(crate) static LEFT_BEHIND: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread is recording a finding. Recording frees memory too, and must not start another recording.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

struct Watchful;

#[global_allocator]
static ALLOCATOR: Watchful = Watchful;

// SAFETY: the memory comes from the system allocator and returns to it, each block with the layout of its allocation.
// `realloc` is the trait's default, which allocates, copies and frees the old block through `dealloc`.
unsafe impl GlobalAlloc for Watchful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The memory is zeroed, so that `dealloc` may read the whole block, even the bytes that were never written.
        // SAFETY: the caller keeps the contract of `alloc`, which is the contract of `alloc_zeroed` too.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WATCHING.load(Ordering::Relaxed) && layout.size() >= CANARY.len() {
            // SAFETY: the block has this size, every byte of it was initialised at its allocation at the latest, and no
            // other code uses it any more.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            look(bytes);
        }
        // SAFETY: the block came from `alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

fn look(bytes: &[u8]) {
    let as_text = bytes.windows(CANARY.len()).any(|window| window == CANARY);
    // In an array of `char`, each character takes four bytes, aligned to four.
    let spread = |at: usize| CANARY.iter().enumerate().all(|(n, byte)| bytes.get(at + 4 * n) == Some(byte));
    let found = as_text || (0..bytes.len()).step_by(4).any(|at| bytes[at] == CANARY[0] && spread(at));
    // A thread that is ending has no thread-local storage any more.
    if found && BUSY.try_with(|busy| busy.replace(true)) == Ok(false) {
        let trace = Backtrace::force_capture().to_string();
        if let Ok(mut left) = LEFT_BEHIND.lock() {
            left.push(trace);
        }
        BUSY.set(false);
    }
}
