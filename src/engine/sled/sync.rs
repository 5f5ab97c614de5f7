//! Makes the engine sync its data file before it counts a write as durable.
//!
//! On Linux, sled 0.34.7 calls `sync_file_range` after each `pwrite` and then counts the bytes as durable. It completes the flush,
//! and writes into the head of a later segment that everything up to here is stable. But `sync_file_range(2)` flushes neither the
//! cache of the disk nor metadata. If the head of the later segment survives a power cut and the segment before it does not,
//! recovery finds that a stable segment is missing and replays nothing.
//!
//! If the system lacks the call (`ENOSYS`), sled calls `fsync` instead before it counts the write as durable
//! (`pagecache/iobuf.rs`, `write_to_log`). So this program defines the function itself and always answers `ENOSYS`.
//! See docs/adr/037.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of calls of [`sync_file_range`] in this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Returns how often the engine was told to sync the whole file in this process. On Linux each write of the engine raises the number.
/// Elsewhere it stays 0, because the engine always syncs there.
pub(super) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Replaces the C library's function of this name. Fails with `ENOSYS` for any file and range.
// Safety. An exported name is unsafe because it replaces the function that others link to by that name. The signature is that of
// the C library (`int sync_file_range(int, off64_t, off64_t, unsigned int)`, glibc and musl, 64-bit offsets). The function is
// allowed to fail with ENOSYS, and callers must expect that: kernels before 2.6.17 and some sandboxes answer so. The body touches
// no memory of the caller and cannot panic. The only caller in this program is sled. For any other caller the refused call costs
// speed and no data.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the name has to be the one that the engine calls; the proof is above")]
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(_file: i32, _offset: i64, _bytes: i64, _flags: u32) -> i32 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    errno::set_errno(errno::Errno(rustix::io::Errno::NOSYS.raw_os_error()));
    -1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_0a_each_write_of_the_engine_asks_for_a_sync() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        for n in 0_u8..3 {
            let before = calls();
            db.insert(b"key", &[n]).unwrap();
            db.flush().unwrap();
            assert!(calls() > before, "flush {n}");
        }
    }
}
