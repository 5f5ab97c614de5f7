//! What a backup and a restore refuse, and what an interruption leaves.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use doorward::backup::format::MAGIC;
use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::engine::{Engine as _, Verdict, View};
use doorward_actors::store::layout::ALL_ACCOUNTS;

use crate::fixture::{alone, backup, command, filled, run, write};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn foreign_files_and_newer_versions_are_refused() {
    let _alone = alone().await;
    let dir = filled().await;
    let good = backup(dir.path());
    let mut newer = good.clone();
    newer[MAGIC.len() + 3] = 2;
    for (bytes, why) in [
        (&b""[..], "it is not a backup of doorward"),
        (b"SQLite format 3\0 and so on", "it is not a backup of doorward"),
        (&good[1..], "it is not a backup of doorward"),
        (&good[..MAGIC.len() + 2], "it is damaged: the head of the file: the file ends in it"),
        (&newer, "it was made by a newer version of doorward (format 2, this one knows up to 1)"),
    ] {
        write(dir.path(), "other", bytes);
        run(dir.path(), "new", &["restore", "--from", "other"]).refused(why);
        run(dir.path(), "new", &["verify-backup", "other"]).refused(why);
    }
    run(dir.path(), "new", &["restore", "--from", "missing"]).refused("cannot use missing: ");
    run(dir.path(), "data", &["backup", "--to", "missing/b.dw"]).refused("cannot use missing/b.dw: ");
    run(dir.path(), "data", &["backup", "--to", "data"]).refused("there is something that is no file");
    assert!(!dir.path().join("new").exists());
}

#[tokio::test]
async fn a_backup_of_nothing_makes_no_database_and_keeps_the_older_backup() {
    let _alone = alone().await;
    let dir = filled().await;
    let good = backup(dir.path());
    for arguments in [&["backup", "--to", "backup.dw"][..], &["backup", "--to", "backup.dw", "--move"]] {
        run(dir.path(), "elsewhere", arguments).refused("there is no database in elsewhere");
        assert!(!dir.path().join("elsewhere/db").exists());
        assert_eq!(std::fs::read(dir.path().join("backup.dw")).unwrap(), good);
    }
}

#[tokio::test]
async fn a_restore_never_writes_over_data() {
    let _alone = alone().await;
    let dir = filled().await;
    backup(dir.path());
    let before = run(dir.path(), "data", &["audit", "verify"]).done();
    run(dir.path(), "data", &["restore", "--from", "backup.dw"]).refused("data has or had a database already");
    assert_eq!(run(dir.path(), "data", &["audit", "verify"]).done(), before);
    // A database that is gone is a database that was there.
    std::fs::remove_dir_all(dir.path().join("data/db")).unwrap();
    run(dir.path(), "data", &["restore", "--from", "backup.dw"]).refused("data has or had a database already");
    // Nothing can be created there, not even by the superuser.
    run(dir.path(), "/proc/new", &["restore", "--from", "backup.dw"]).refused("/proc/new");
}

#[tokio::test]
async fn a_backup_is_private_and_appears_when_it_is_complete() {
    let _alone = alone().await;
    let dir = filled().await;
    write(dir.path(), "backup.dw", b"an older one");
    write(dir.path(), "backup.dw.unfinished", b"half of one, left by a kill");
    backup(dir.path());
    assert_eq!(mode(&dir.path().join("backup.dw")), 0o600);
    assert!(!dir.path().join("backup.dw.unfinished").exists());
    run(dir.path(), "data", &["verify-backup", "backup.dw"]).done();
    let streamed = run(dir.path(), "data", &["backup", "--to", "-"]);
    assert_eq!(streamed.code, Some(0), "{}", streamed.err);
    assert!(streamed.err.contains("Digest: "), "{}", streamed.err);
    write(dir.path(), "streamed.dw", &streamed.out);
    run(dir.path(), "data", &["verify-backup", "streamed.dw"]).done();
    // A backup that cannot be completed leaves nothing.
    std::fs::write(dir.path().join("data/secret_key"), "short").unwrap();
    run(dir.path(), "data", &["backup", "--to", "later.dw"]).refused("secret_key");
    assert!(!dir.path().join("later.dw").exists() && !dir.path().join("later.dw.unfinished").exists());
}

#[tokio::test]
async fn secrets_come_along_unless_they_are_left_out_and_another_secret_is_refused() {
    let _alone = alone().await;
    let dir = filled().await;
    let secret = "0123456789abcdef0123456789abcdef";
    let file = write(&dir.path().join("data"), "secret_key", secret.as_bytes());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    backup(dir.path());
    run(dir.path(), "new", &["restore", "--from", "backup.dw"]).done();
    assert_eq!(std::fs::read_to_string(dir.path().join("new/secret_key")).unwrap(), secret);
    assert_eq!(mode(&dir.path().join("new/secret_key")), 0o600);

    run(dir.path(), "data", &["backup", "--to", "bare.dw", "--no-secrets"]).done();
    let restored = run(dir.path(), "bare", &["restore", "--from", "bare.dw"]);
    assert!(restored.err.contains("the backup has no secrets"), "{}", restored.err);
    restored.done();
    assert!(!dir.path().join("bare/secret_key").exists());

    let with_other = |data: &str, more: &[&str]| {
        let mut command = command(dir.path(), data, &[&["restore", "--from", "bare.dw"], more].concat());
        command.env("SECRET_KEY", "another-secret-another-secret-another").output().unwrap()
    };
    let refused = with_other("other", &[]);
    assert_eq!(refused.status.code(), Some(1));
    let why = "the backup belongs to another SECRET_KEY than that of the settings";
    assert!(String::from_utf8_lossy(&refused.stderr).contains(why));
    assert!(!dir.path().join("other/db").exists() && !dir.path().join("other/restoring").exists());
    assert_eq!(with_other("other", &["--accept-other-secret"]).status.code(), Some(0));

    // A file of the backup that is there already must be the same one.
    std::fs::create_dir(dir.path().join("taken")).unwrap();
    write(&dir.path().join("taken"), "secret_key", b"another-secret-another-secret-another");
    run(dir.path(), "taken", &["restore", "--from", "backup.dw"]).refused("secret_key");
}

#[tokio::test]
async fn r01_a_restore_that_was_killed_is_refused_at_the_start_and_redone() {
    let _alone = alone().await;
    let dir = filled().await;
    let bytes = backup(dir.path());
    let mut restore = command(dir.path(), "new", &["restore", "--from", "-"]);
    let mut restore = restore.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = restore.stdin.take().unwrap();
    input.write_all(&bytes[..bytes.len() - 40]).unwrap();
    let staging = dir.path().join("new/restoring/db/db");
    while !staging.exists() {
        assert!(restore.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    restore.kill().unwrap();
    restore.wait().unwrap();
    drop(input);
    for command in [&["audit", "verify"][..], &["backup", "--to", "b.dw"], &["serve"]] {
        let run = run(dir.path(), "new", command);
        assert!(run.code != Some(0), "{command:?}");
    }
    run(dir.path(), "new", &["serve"]).refused("a restore of a backup was interrupted");
    run(dir.path(), "new", &["restore", "--from", "backup.dw"]).done();
    assert!(!dir.path().join("new/restoring").exists());
    run(dir.path(), "new", &["audit", "verify"]).done();
    // One that was killed right after its end left an empty directory.
    std::fs::create_dir(dir.path().join("new/restoring")).unwrap();
    run(dir.path(), "new", &["backup", "--to", "b.dw"]).done();
    assert!(!dir.path().join("new/restoring").exists());
}

#[tokio::test]
async fn an_export_that_failed_leaves_no_file() {
    let _alone = alone().await;
    let dir = filled().await;
    let engine = SledEngine::open(&dir.path().join("data"), SledOptions::default()).unwrap();
    let damage = |view: &mut dyn View| {
        view.put_raw(&[ALL_ACCOUNTS, &7_u64.to_be_bytes()].concat(), vec![255]);
        Ok(Verdict::Keep)
    };
    engine.commit(Box::new(damage)).await.unwrap();
    drop(engine);
    run(dir.path(), "data", &["export", "--to", "out.ndjson"]).refused("the accounts cannot be read");
    assert!(!dir.path().join("out.ndjson").exists());
}
