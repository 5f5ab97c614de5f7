//! How long and how often things are measured.

use std::time::Duration;

/// The extent of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// How long one measurement of a steady load lasts.
    pub(crate) round: Duration,
    /// How often each is repeated; the rounds of what is compared alternate, so that a slow minute hits both.
    pub(crate) rounds: usize,
    /// How long a storm lasts, and the quiet before it.
    pub(crate) storm: Duration,
    /// How many storms there are.
    pub(crate) storms: usize,
    /// How many samples each way of an answer has that costs a hash.
    pub(crate) samples: usize,
    /// How many each of the others has, which take a hundredth of the time.
    pub(crate) quick_samples: usize,
    /// How many keys the limiter is filled with.
    pub(crate) keys: u32,
    /// How many connections a crowd holds.
    pub(crate) crowd: usize,
    /// How many accounts a large directory has.
    pub(crate) accounts: usize,
    /// How many sessions it has.
    pub(crate) sessions: usize,
}

impl Extent {
    const FULL: Self = Self {
        round: Duration::from_secs(8),
        rounds: 5,
        storm: Duration::from_secs(20),
        storms: 3,
        samples: 300,
        quick_samples: 3000,
        keys: 1_000_000,
        crowd: 5000,
        accounts: 1_000_000,
        sessions: 100_000,
    };
    /// Shows that everything runs. Its numbers mean nothing.
    const SHORT: Self = Self {
        round: Duration::from_secs(1),
        rounds: 1,
        storm: Duration::from_secs(3),
        storms: 1,
        samples: 10,
        quick_samples: 50,
        keys: 20_000,
        crowd: 400,
        accounts: 10_000,
        sessions: 5000,
    };

    /// As the command line says: `--short`, and `--seconds=N` for how long a storm lasts.
    pub(crate) fn of_command_line() -> Self {
        let mut extent = if std::env::args().any(|argument| argument == "--short") { Self::SHORT } else { Self::FULL };
        if let Some(seconds) = std::env::args().find_map(|argument| argument.strip_prefix("--seconds=")?.parse().ok()) {
            extent.storm = Duration::from_secs(seconds);
        }
        extent
    }
}
