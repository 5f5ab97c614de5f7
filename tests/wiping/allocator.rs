//! An allocator that notices memory which is given back with a secret in it.
#![expect(unsafe_code, reason = "an allocator is told to give back memory that only it can look at")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What must not be left behind.
pub(crate) const CANARY: &[u8] = b"kanarienvogel";

pub(crate) static WATCHING: AtomicBool = AtomicBool::new(false);
/// Who gave such memory back.
pub(crate) static LEFT_BEHIND: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread is looking at memory just now: noting what was found gives memory back, too.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

struct Watchful;

#[global_allocator]
static ALLOCATOR: Watchful = Watchful;

// SAFETY: the memory comes from the allocator of the system and goes back there, each block with the layout that it was asked
// for with. `realloc` is the one of the trait, which allocates, copies and gives the old block back through `dealloc`.
unsafe impl GlobalAlloc for Watchful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that all of a block may be read when it is given back, written or not.
        // SAFETY: the caller keeps to the contract of `alloc`, which is the one of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WATCHING.load(Ordering::Relaxed) && layout.size() >= CANARY.len() {
            // SAFETY: the block has this size, every byte of it was written at the latest when it was made, and nobody else has
            // it any more.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            look(bytes);
        }
        // SAFETY: the block came from `alloc` with this layout, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }
}

fn look(bytes: &[u8]) {
    let as_text = bytes.windows(CANARY.len()).any(|window| window == CANARY);
    // A list of characters has four bytes for each, and begins where such four do.
    let spread = |at: usize| CANARY.iter().enumerate().all(|(n, byte)| bytes.get(at + 4 * n) == Some(byte));
    let found = as_text || (0..bytes.len()).step_by(4).any(|at| bytes[at] == CANARY[0] && spread(at));
    // A thread that is ending has nowhere left to note that it is busy.
    if found && BUSY.try_with(|busy| busy.replace(true)) == Ok(false) {
        let trace = Backtrace::force_capture().to_string();
        if let Ok(mut left) = LEFT_BEHIND.lock() {
            left.push(trace);
        }
        BUSY.set(false);
    }
}
