//! Backups that the server makes on a schedule.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use doorward::backup::check::{Nowhere, pass};
use doorward::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{SERVICE_TOKEN, TestApp, TestAppBuilder};

const HOUR: Duration = Duration::from_hours(1);

fn hourly(dir: &Path) -> TestAppBuilder {
    let dir = dir.to_owned();
    TestApp::builder().with(move |settings: &mut Settings| {
        settings.backup.every = Some(HOUR);
        settings.backup.keep = 2;
        settings.backup.dir = Some(dir);
    })
}

/// Returns the names in the directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The name of a backup that was made so many minutes after the start of the test.
fn named(minutes: u32) -> String {
    format!("scheduled-doorward-2025-01-01T{:02}{:02}00.000Z.backup", minutes / 60, minutes % 60)
}

async fn health(app: &TestApp) -> Value {
    // So that no earlier report is reused.
    app.pass(Duration::from_secs(1));
    app.send(app.request(Method::GET, "/health/actors").header("X-Service-Token", SERVICE_TOKEN)).await.body
}

async fn metric(app: &TestApp, name: &str) -> Option<String> {
    let metrics = app.send(app.request(Method::GET, "/metrics").header("X-Service-Token", SERVICE_TOKEN)).await;
    let line = metrics.text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_when_they_are_due_and_the_oldest_go() {
    let dir = TempDir::new().unwrap();
    let shelf = dir.path().join("made/anew");
    let app = hourly(&shelf).spawn().await;
    app.register("ann").await;
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(&shelf), [named(0)]);
    let file = shelf.join(named(0));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let checked = pass(&fs::read(&file).unwrap()[..], [7; 32], &mut Nowhere).unwrap();
    assert_eq!((checked.contents.accounts, checked.header.with_secrets), (1, true));
    assert_eq!(metric(&app, "doorward_backup_last_success_timestamp_seconds").await.as_deref(), Some("1735689600.0"));
    assert_eq!(metric(&app, "doorward_backup_interval_seconds").await.as_deref(), Some("3600.0"));

    app.pass(Duration::from_secs(3599));
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(&shelf), [named(0)], "it is not due yet");
    app.pass(Duration::from_secs(1));
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(&shelf), [named(0), named(60)]);
    // What else is there stays: other files, and a backup of a clock that was ahead.
    let others = [
        "doorward-2025-01-01T000000.000Z.backup",
        "doorward.backup",
        "notes",
        "scheduled-doorward-2031-01-01T000000.000Z.backup",
    ];
    for name in others {
        fs::write(shelf.join(name), "").unwrap();
    }
    app.pass(HOUR);
    app.handles.tend_backups().await.unwrap();
    let mut expected = others.map(str::to_owned).to_vec();
    expected.extend([named(60), named(120)]);
    expected.sort();
    assert_eq!(names(&shelf), expected);

    let report = health(&app).await;
    assert_eq!(report["status"], "ok", "{report}");
    let expected = json!({"every_seconds": 3600, "last_success": "2025-01-01T02:00:00.000Z", "failures": 0,
        "last_error": null, "last_error_at": null});
    assert_eq!(report["backups"], expected);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_stop_missed_is_made_after_the_start_and_no_other() {
    let dir = TempDir::new().unwrap();
    let app = hourly(dir.path()).spawn().await;
    app.handles.tend_backups().await.unwrap();
    app.pass(HOUR / 2);
    let app = app.restart().await;
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(dir.path()), [named(0)], "nothing was missed");
    // What a kill left is removed at the next look that reads the directory.
    fs::write(dir.path().join(format!("{}.unfinished", named(10))), "half").unwrap();
    app.pass(5 * HOUR);
    let app = app.restart().await;
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(dir.path()), [named(0), named(330)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_used_degrades_the_health_until_it_can() {
    let dir = TempDir::new().unwrap();
    let shelf = dir.path().join("shelf");
    fs::write(&shelf, "a file").unwrap();
    let app = hourly(&shelf).spawn().await;
    app.handles.tend_backups().await.unwrap();
    let report = health(&app).await;
    assert_eq!(report["status"], "degraded");
    assert_eq!(report["problems"], json!([{"check": "backup_overdue", "actor": null, "blocks": false}]));
    let error = report["backups"]["last_error"].as_str().unwrap();
    assert!(error.starts_with(&format!("BACKUP_DIR {} cannot be used", shelf.display())), "{error}");
    assert_eq!(app.get("/health/ready").await.status, 200, "the service goes on");
    assert_eq!(metric(&app, "doorward_backup_failures_total").await.as_deref(), Some("1"));
    assert_eq!(metric(&app, "doorward_check_failing{check=\"backup_overdue\"}").await.as_deref(), Some("1"));
    fs::remove_file(&shelf).unwrap();
    app.pass(Duration::from_mins(9));
    app.handles.tend_backups().await.unwrap();
    assert_eq!(health(&app).await["status"], "degraded", "it is tried again after ten minutes");
    app.pass(Duration::from_mins(1));
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(&shelf).len(), 1);
    let report = health(&app).await;
    assert_eq!((&report["status"], &report["backups"]["failures"]), (&json!("ok"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_backup_that_would_fill_the_disk_is_given_up_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let old = dir.path().join("scheduled-doorward-2024-12-31T000000.000Z.backup");
    fs::write(&old, "an older one").unwrap();
    let app = hourly(dir.path()).with(|settings| settings.storage.min_free = u64::MAX).spawn().await;
    app.handles.tend_backups().await.unwrap();
    assert_eq!(names(dir.path()), ["scheduled-doorward-2024-12-31T000000.000Z.backup"]);
    let report = health(&app).await;
    let error = report["backups"]["last_error"].as_str().unwrap();
    assert!(error.ends_with("less than MIN_FREE_MIB would be free"), "{error}");
}

#[tokio::test]
async fn without_a_schedule_there_are_no_backups_and_nothing_is_told_of_them() {
    let app = TestApp::spawn().await;
    assert!(app.handles.tend_backups().await.is_err());
    assert_eq!(health(&app).await["backups"], Value::Null);
    assert_eq!(metric(&app, "doorward_backup_interval_seconds").await, None);
}
