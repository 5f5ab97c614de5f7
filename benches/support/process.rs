//! What the kernel reports about a process.

use std::fs;

/// The ticks per second in `/proc/PID/stat`: 100 on every Linux, as user space sees it.
const TICKS: f64 = 100.0;

/// A process by its name in `/proc`: its number or `self`.
pub(crate) struct Process(pub(crate) String);

impl Process {
    /// Returns this process.
    pub(crate) fn own() -> Self {
        Self("self".to_owned())
    }

    /// Returns the resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        mib_of(&self.read("status"), "VmRSS:")
    }

    /// Returns the peak of the resident memory since the start or the last [`Self::forget_peak`], in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        mib_of(&self.read("status"), "VmHWM:")
    }

    /// Resets the peak to the memory that is resident now (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) {
        fs::write(self.path("clear_refs"), "5").unwrap();
    }

    /// Returns the CPU time on all cores together, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds_of(&self.read("stat"))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }
}

/// Returns a value in kB of `/proc/PID/status`, converted to MiB.
pub(crate) fn mib_of(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Returns user plus system time of `/proc/PID/stat`, its 14th and 15th fields. The 2nd field is a name in brackets,
/// which may contain any character.
pub(crate) fn cpu_seconds_of(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / TICKS
}
