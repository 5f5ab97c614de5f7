//! The metrics: all figures of the service, written in the text formats of Prometheus and OpenMetrics.
//!
//! Every label is a word of the program: the template of a route, the name of an enumeration or of an actor. None comes from a request.

mod outcomes;
mod sheet;

use std::fmt;

use doorward_actors::{BackupHealth, Check, HasherHealth, HealthReport, OutboxHealth, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::{Registry, Unit};

use crate::http::figures::RouteCounts;
use crate::http::negotiation::weight;
use crate::telemetry::LogCounts;
use outcomes::Outcomes;
use sheet::{Labels, Sheet};

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Format {
    /// The text format 0.0.4 of Prometheus.
    Prometheus,
    /// The text format of OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format for an `Accept` header: OpenMetrics if the client prefers it or likes both equally.
    pub(in crate::http) fn accepted(accept: &str) -> Self {
        let open = weight(accept, "application/openmetrics-text");
        if open > 0.0 && open >= weight(accept, "text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the media type.
    pub(in crate::http) const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All figures at one moment.
#[derive(Debug)]
pub(in crate::http) struct Metrics {
    pub(in crate::http) report: HealthReport,
    pub(in crate::http) requests: Vec<RouteCounts>,
    /// How many services wait for revocations.
    pub(in crate::http) readers: usize,
    pub(in crate::http) log: LogCounts,
}

impl Metrics {
    /// Writes all figures.
    pub(in crate::http) fn write(self, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("doorward");
        registry.register_collector(Box::new(self));
        let mut written = String::with_capacity(64 * 1024);
        match format {
            Format::Prometheus => prometheus_text::encode(&mut written, &registry)?,
            Format::OpenMetrics => text::encode(&mut written, &registry)?,
        }
        Ok(written)
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        self.process(&mut sheet)?;
        self.requests(&mut sheet)?;
        self.outcomes(&mut sheet)?;
        self.actors(&mut sheet)?;
        self.store(&mut sheet)?;
        hasher(&mut sheet, &self.report.hasher)?;
        outbox(&mut sheet, self.report.outbox.as_ref(), self.report.at)?;
        backups(&mut sheet, self.report.backups.as_ref())?;
        self.limiter(&mut sheet)?;
        self.feed(&mut sheet)
    }
}

/// Returns a time as seconds since 1970.
fn seconds(at: Timestamp) -> f64 {
    std::time::Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0)).as_secs_f64()
}

impl Metrics {
    fn process(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let report = &self.report;
        sheet.info("build", "The version of the program", &vec![("version", env!("CARGO_PKG_VERSION"))])?;
        let started = seconds(report.at.minus(report.uptime));
        sheet.one("start_time", Some(&Unit::Seconds), "When the service started, since 1970", started)?;
        let ready = !report.problems.iter().any(|problem| problem.check.blocks());
        sheet.one("ready", None, "1 if no check fails that makes the service not ready", u64::from(ready))?;
        let checks = Check::ALL.map(|check| {
            let failing = report.problems.iter().filter(|problem| problem.check == check).count();
            (vec![("check", check.as_str())], failing)
        });
        sheet.gauge("check_failing", None, "How often a check fails now: once, or once for each actor", checks)?;
        let LogCounts { written, dropped } = self.log;
        let lines = [("written", written), ("dropped", dropped)];
        let lines = lines.map(|(outcome, count)| (vec![("outcome", outcome)], count));
        sheet.counter("log_lines", "Lines of the log, written or lost", lines)
    }

    fn requests(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let named = |counts: &RouteCounts| vec![("method", counts.method), ("route", counts.route)];
        let statuses: Vec<(Labels<'_>, String, u64)> = self
            .requests
            .iter()
            .flat_map(|counts| {
                counts.statuses.iter().map(|(status, count)| (named(counts), status.to_string(), *count))
            })
            .collect();
        let statuses = statuses.iter().map(|(labels, status, count)| {
            let status = if status == "0" { "other" } else { status.as_str() };
            ([labels.as_slice(), &[("status", status)]].concat(), *count)
        });
        sheet.counter("http_requests", "Requests by route and status", statuses)?;
        let occurred = self.requests.iter().filter(|counts| counts.times.count() > 0);
        let times = occurred.map(|counts| (named(counts), &counts.times));
        sheet.times("http_request_duration", "How long requests took until their answer began", times)
    }

    /// Writes the outcomes of logins, recoveries and token checks, which are those of their routes.
    fn outcomes(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let of = |route: &str, refused: &[u16]| {
            let counts = self.requests.iter().filter(|counts| counts.route == route && counts.method != "GET");
            Outcomes::of(counts.flat_map(|counts| counts.statuses.iter().copied()), refused)
        };
        let logins = of("/login", &[401]).rows(&[]);
        sheet.counter("logins", "Logins by outcome", logins)?;
        let recoveries = [("passphrase", of("/recovery", &[400])), ("mail", of("/recovery/confirm", &[400]))];
        let recoveries = recoveries.iter().flat_map(|(by, outcomes)| outcomes.rows(&[("by", by)]));
        sheet.counter("recoveries", "Recoveries of accounts by outcome", recoveries)?;
        let checks = self.requests.iter().filter(|counts| ["/verify", "/forward_auth"].contains(&counts.route));
        let checks = checks.flat_map(|counts| {
            let outcomes = Outcomes::of(counts.statuses.iter().copied(), &[401, 403, 404]);
            outcomes.rows(&[("route", counts.route)])
        });
        sheet.counter("token_checks", "Checks of tokens by outcome", checks)?;
        let live = self.report.live_sessions;
        sheet.one("sessions", None, "How many sessions live", live)
    }

    fn actors(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let actors = &self.report.actors;
        let rows = || actors.iter().map(|actor| (vec![("actor", actor.name.as_str())], actor));
        let up = rows().map(|(labels, actor)| (labels, u64::from(actor.state == "running")));
        sheet.gauge("actor_up", None, "1 if the actor runs", up)?;
        let waiting = rows().map(|(labels, actor)| (labels, actor.mailbox));
        sheet.gauge("actor_mailbox_messages", None, "How many messages wait for the actor", waiting)?;
        let oldest = rows().map(|(labels, actor)| (labels, actor.oldest_message.unwrap_or_default().as_secs_f64()));
        let help = "For how long the oldest waiting message has waited at least";
        sheet.gauge("actor_oldest_message", Some(&Unit::Seconds), help, oldest)?;
        let handled = rows().map(|(labels, actor)| (labels, actor.handled));
        sheet.counter("actor_messages", "Messages that the actor handled", handled)?;
        let failed = rows().map(|(labels, actor)| (labels, actor.failed));
        sheet.counter("actor_failures", "Failures of the actor and of its work", failed)?;
        let restarts = rows().map(|(labels, actor)| (labels, actor.restarts));
        sheet.counter("actor_restarts", "Restarts of the actor", restarts)?;
        let times = rows().map(|(labels, actor)| (labels, &actor.handling));
        let help = "How long messages took: the first 1,024 of an actor, and every eighth after them";
        sheet.times("actor_handling", help, times)
    }

    fn store(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let (store, engine) = (&self.report.store, &self.report.store.engine);
        sheet.one("store_up", None, "1 if the store works", u64::from(store.ok))?;
        let help = "How long commits took until they were durable";
        sheet.times("store_commit", help, [(Vec::new(), &engine.commits)])?;
        sheet.sizes(
            "store_group_changes",
            "How many changes had one commit together",
            [(Vec::new(), &engine.groups)],
        )?;
        sheet.one("store_waiting_changes", None, "How many changes wait for their commit", engine.waiting)?;
        let synced = engine.last_sync.map(|ago| (Vec::new(), seconds(self.report.at.minus(ago))));
        let help = "When a commit was last made durable, since 1970";
        sheet.gauge("store_last_sync_timestamp", Some(&Unit::Seconds), help, synced)?;
        let used = engine.disk.and_then(|disk| disk.used_bytes).map(|bytes| (Vec::new(), bytes));
        sheet.gauge("store_disk_used", Some(&Unit::Bytes), "How much of the disk the database takes", used)?;
        let free = engine.disk.map(|disk| (Vec::new(), disk.free_bytes));
        sheet.gauge("store_disk_free", Some(&Unit::Bytes), "How much of the disk of the database is free", free)
    }

    fn limiter(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let limiter = &self.report.limiter;
        let keys = limiter.quotas.map(|quota| (vec![("policy", quota.policy)], quota.keys));
        sheet.gauge("limiter_keys", None, "How many clients or accounts have used some of a quota", keys)?;
        let refused = limiter.quotas.map(|quota| (vec![("policy", quota.policy)], quota.refused));
        sheet.counter("limiter_refused", "Requests that a quota refused", refused)?;
        let help = "How many counters of failed attempts are stored";
        sheet.one("limiter_failure_counters", None, help, limiter.failures)
    }

    fn feed(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let feed = &self.report.feed;
        sheet.one("feed_position", None, "The number of the last commit since the start", feed.position)?;
        sheet.one("feed_settled", None, "The number of the last durable commit since the start", feed.settled)?;
        sheet.one("audit_head", None, "The number of the newest audit record", feed.audit_head)?;
        sheet.one("revocation_head", None, "The number of the newest revocation", feed.revocation_head)?;
        sheet.one("revocation_readers", None, "How many services wait for revocations", self.readers)
    }
}

fn hasher(sheet: &mut Sheet<'_>, hasher: &HasherHealth) -> fmt::Result {
    sheet.info("hasher", "The implementation that computes hashes", &vec![("backend", hasher.backend)])?;
    sheet.one("hasher_threads", None, "How many threads hash passwords", hasher.threads)?;
    sheet.one("hasher_busy_threads", None, "How many threads compute a hash now", hasher.busy)?;
    sheet.counter("hasher_hashes", "Computed hashes", [(Vec::new(), hasher.done)])?;
    sheet.counter("hasher_failures", "Jobs that ended in an error", [(Vec::new(), hasher.failed)])?;
    let lane = |lane: &doorward_actors::LaneHealth| vec![("lane", lane.name)];
    let waiting = hasher.lanes.each_ref().map(|of| (lane(of), of.queued));
    sheet.gauge("hasher_waiting_jobs", None, "How many jobs wait", waiting)?;
    let capacity = hasher.lanes.each_ref().map(|of| (lane(of), of.capacity));
    sheet.gauge("hasher_capacity_jobs", None, "How many jobs may wait", capacity)?;
    let handled = hasher.lanes.each_ref().map(|of| (lane(of), of.handled));
    sheet.counter("hasher_jobs", "Jobs that were done", handled)?;
    let refused = hasher.lanes.each_ref().map(|of| (lane(of), of.refused));
    sheet.counter("hasher_refused", "Jobs that were refused because too many waited", refused)?;
    let readable = hasher.breached_list_readable.map(|readable| (Vec::new(), u64::from(readable)));
    sheet.gauge("breached_list_readable", None, "1 if the list of breached passwords can be read", readable)
}

fn backups(sheet: &mut Sheet<'_>, backups: Option<&BackupHealth>) -> fmt::Result {
    let every = backups.map(|backups| (Vec::new(), backups.every.as_secs_f64()));
    sheet.gauge("backup_interval", Some(&Unit::Seconds), "How long after a backup the next one is due", every)?;
    let last = backups.and_then(|backups| backups.last_success).map(|at| (Vec::new(), seconds(at)));
    let help = "When the newest scheduled backup was made, since 1970, on the node that makes them";
    sheet.gauge("backup_last_success_timestamp", Some(&Unit::Seconds), help, last)?;
    let failures = backups.map(|backups| (Vec::new(), backups.failures));
    sheet.counter("backup_failures", "Scheduled backups that failed", failures)
}

fn outbox(sheet: &mut Sheet<'_>, outbox: Option<&OutboxHealth>, now: Timestamp) -> fmt::Result {
    let mails = outbox.map(|outbox| {
        let waiting = u64::try_from(outbox.waiting).unwrap_or(u64::MAX);
        [(vec![("state", "waiting")], waiting), (vec![("state", "dead")], outbox.dead)]
    });
    sheet.gauge("outbox_mails", None, "Mails that are not delivered", mails.into_iter().flatten())?;
    let oldest = outbox.map(|outbox| outbox.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64()));
    let help = "How old the oldest waiting mail is";
    sheet.gauge("outbox_oldest", Some(&Unit::Seconds), help, oldest.map(|oldest| (Vec::new(), oldest)))?;
    let failed = outbox.and_then(|outbox| outbox.last_error.as_ref()).map(|(at, _)| (Vec::new(), seconds(*at)));
    let help = "When an attempt to send a mail last failed, since 1970";
    sheet.gauge("outbox_last_error_timestamp", Some(&Unit::Seconds), help, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for open in [prometheus, "application/openmetrics-text", "text/plain, application/OpenMetrics-text"] {
            assert_eq!(Format::accepted(open), Format::OpenMetrics, "{open}");
        }
        for classic in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "text/plain,application/openmetrics-text;q=0.9",
        ] {
            assert_eq!(Format::accepted(classic), Format::Prometheus, "{classic}");
        }
    }
}
