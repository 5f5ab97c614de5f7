//! Makes the engine sync its data file before it takes a write for durable.
//!
//! On Linux, sled 0.34.7 follows each `pwrite` with `sync_file_range` and then takes the bytes for durable: it answers the
//! flush, and writes into the head of a later segment that everything up to here is stable. `sync_file_range(2)` says that it
//! flushes no cache of the disk and no metadata. If the head of the later segment survives a power cut and the segment before
//! it does not, recovery finds that what should be stable is missing and replays nothing.
//!
//! Where the system lacks the call (`ENOSYS`), sled calls `fsync` instead, before it counts the write as durable
//! (`pagecache/iobuf.rs`, `write_to_log`). So this program defines the function itself and always answers that. See
//! docs/adr/037.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often the engine called [`sync_file_range`] in this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often the engine was told to sync the whole file, in this process. Rises with each of its writes on Linux, and never
/// elsewhere, where it syncs without asking.
pub(super) fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Takes the place of the C library's function of this name: fails with `ENOSYS`, for any file and range.
// The proof. An exported name is unsafe because it replaces what others link to by it. The C library's function has this
// signature (`int sync_file_range(int, off64_t, off64_t, unsigned int)`, glibc and musl, 64-bit offsets), it is allowed to
// fail with ENOSYS, and callers must expect that, as kernels before 2.6.17 and some sandboxes answer so. The body touches no
// memory of the caller and cannot panic. The one caller in this program is sled; a hint that is refused costs anyone else
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
