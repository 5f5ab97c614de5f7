//! The alert rules and the dashboard of `docs/monitoring/` name metrics that there are, and the documents name every alert.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Returns the words of a text that begin with `doorward_`.
fn metrics_named_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("doorward_")).collect()
}

/// Returns the metrics that the service has, by the snapshot of a test.
fn known(snapshot: &str) -> BTreeSet<String> {
    let lines = snapshot.lines().filter(|line| line.starts_with("doorward_"));
    let names = lines.filter_map(|line| line.split_once(' '));
    names
        .flat_map(|(name, kind)| {
            let parts = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            parts.iter().map(move |part| format!("{name}{part}"))
        })
        .collect()
}

fn alerts(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let snapshot = read("tests/api/snapshots/api__metrics__every_metric_with_its_labels_is_as_it_was.snap");
    let known = known(&snapshot);
    for file in ["doorward.rules.yml", "doorward.rules.test.yml", "grafana-dashboard.json"] {
        let text = read(&format!("docs/monitoring/{file}"));
        let named = metrics_named_in(&text);
        assert!(named.len() > 5, "{file}");
        let unknown: Vec<_> = named.into_iter().filter(|name| !known.contains(*name)).collect();
        assert_eq!(unknown, Vec::<&str>::new(), "{file}");
    }
}

#[test]
fn the_documents_say_of_every_alert_what_to_do() {
    let (rules, page) = (read("docs/monitoring/doorward.rules.yml"), read("docs/operations.md"));
    let alerts = alerts(&rules);
    assert!(alerts.len() > 10);
    let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| `Doorward")?.split('`').next()).collect();
    let rows: Vec<_> = rows.into_iter().map(|row| format!("Doorward{row}")).collect();
    assert_eq!(rows, alerts, "one row for each alert, in the order of the rules");
}

#[test]
fn a_metric_that_is_not_there_would_be_found() {
    let known = known("doorward_ready gauge\n  x: y\ndoorward_commit_seconds histogram\n");
    assert_eq!(known.len(), 4);
    let named = metrics_named_in("sum(rate(doorward_commit_seconds_bucket{a=\"b\"}[5m])) + doorward_gone");
    assert_eq!(named.into_iter().filter(|name| !known.contains(*name)).collect::<Vec<_>>(), ["doorward_gone"]);
}
