//! What the kernel says of a process.

use std::fs;

/// How many ticks of `/proc/PID/stat` are a second: 100 on every Linux that programs see.
const TICKS: f64 = 100.0;

/// A process, by what `/proc` calls it: its number or `self`.
pub(crate) struct Process(pub(crate) String);

impl Process {
    /// This one.
    pub(crate) fn own() -> Self {
        Self("self".to_owned())
    }

    /// Memory that is resident, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        mib_of(&self.read("status"), "VmRSS:")
    }

    /// The most that was resident since the start or the last [`Self::forget_peak`], in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        mib_of(&self.read("status"), "VmHWM:")
    }

    /// Lets the peak begin anew from what is resident now (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) {
        fs::write(self.path("clear_refs"), "5").unwrap();
    }

    /// How long it has been computing on all cores together, in seconds.
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

/// A line of `/proc/PID/status` that counts kB, in MiB.
pub(crate) fn mib_of(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// User and system time of `/proc/PID/stat`: the 14th and 15th field, where the 2nd is a name in brackets that may hold anything.
pub(crate) fn cpu_seconds_of(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / TICKS
}
