//! Protects the memory of this process, which holds keys and passwords. No core file contains it. On Linux, no other process of the
//! same user may read it.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Keeps the memory out of core files and debuggers until the process ends. The superuser can still read it.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn keep_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // `PR_SET_DUMPABLE`, prctl(2): a program that is set as core pattern gets no core either, and no process may attach a debugger.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::getrlimit;

    use super::*;

    #[test]
    fn g26_the_process_is_neither_dumped_nor_traced() {
        keep_private().unwrap();
        #[cfg(target_os = "linux")]
        assert!(matches!(rustix::process::dumpable_behavior(), Ok(rustix::process::DumpableBehavior::NotDumpable)));
        let core = getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    }
}
