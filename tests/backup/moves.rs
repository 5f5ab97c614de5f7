//! Moving a data directory elsewhere, with its sessions.

use crate::fixture::{alone, backup, filled, run};
use crate::server::Server;

#[tokio::test]
async fn sessions_live_on_after_a_move_alone_and_its_source_stays_stopped() {
    let _alone = alone().await;
    let dir = filled().await;
    backup(dir.path());
    run(dir.path(), "new", &["restore", "--from", "backup.dw", "--keep-sessions"])
        .refused("--keep-sessions takes only a backup that `doorward backup --move` made");
    assert!(!dir.path().join("new/db").exists());
    let moved = run(dir.path(), "data", &["backup", "--to", "move.dw", "--move"]).done();
    assert!(moved.starts_with("Move of "), "{moved}");
    for command in [&["serve"][..], &["backup", "--to", "again.dw"]] {
        run(dir.path(), "data", command).refused("this data directory was moved by `doorward backup --move`");
    }
    let restored = run(dir.path(), "new", &["restore", "--from", "move.dw", "--keep-sessions"]).done();
    assert!(restored.starts_with("Restored into new. Its 23 sessions live on.\n"), "{restored}");
    let kept = run(dir.path(), "new", &["backup", "--to", "kept.dw"]).done();
    assert!(kept.contains(" 23 sessions, "), "{kept}");
    // Without the wish, a move ends them too.
    run(dir.path(), "other", &["restore", "--from", "move.dw"]).done();
    assert!(run(dir.path(), "other", &["backup", "--to", "other.dw"]).done().contains(" 0 sessions, "));
    // The operator may go back, as the message says.
    std::fs::remove_file(dir.path().join("data/moved.json")).unwrap();
    drop(Server::start(&dir.path().join("data")));
}

#[tokio::test]
async fn a_move_that_fails_leaves_its_source_as_it_was() {
    let _alone = alone().await;
    let dir = filled().await;
    std::fs::write(dir.path().join("data/secret_key"), "short").unwrap();
    run(dir.path(), "data", &["backup", "--to", "move.dw", "--move"]).refused("secret_key");
    std::fs::remove_file(dir.path().join("data/secret_key")).unwrap();
    backup(dir.path());
}
