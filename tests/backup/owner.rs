//! Commands of the superuser on the data directory of another user.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use crate::fixture::{alone, backup, filled, run};
use crate::round_trip::stop;
use crate::server::{Server, doorward};

/// A user that is not the superuser. It needs no name.
const USER: u32 = 10_001;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Returns everything below a directory.
fn below(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::from([path.to_owned()]);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            found.extend(below(&entry.unwrap().path()));
        }
    }
    found
}

fn give_away(path: &Path) {
    for path in below(path) {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
}

#[tokio::test]
async fn root_leaves_no_file_in_the_data_directory_of_another_user() {
    // Only the superuser can give a directory away.
    if !is_root() {
        return;
    }
    let _alone = alone().await;
    let dir = filled().await;
    backup(dir.path());
    let data = dir.path().join("data");
    give_away(dir.path());
    let before = below(&data);
    let why = "belongs to user 10001, and as root this command would leave files there that the server cannot read; run it as that \
               user: `sudo -u '#10001' doorward …`";
    std::fs::create_dir(dir.path().join("new")).unwrap();
    chown(dir.path().join("new"), Some(USER), Some(USER)).unwrap();
    std::fs::write(dir.path().join("accounts.ndjson"), "{\"email\":\"zoe@example.com\"}\n").unwrap();
    run(dir.path(), "new", &["restore", "--from", "backup.dw"]).refused(why);
    for arguments in [
        &["backup", "--to", "other.dw"][..],
        &["backup", "--to", "other.dw", "--move"],
        &["export", "--to", "out.ndjson"],
        &["import", "--ndjson", "accounts.ndjson"],
        &["keys", "rotate"],
    ] {
        run(dir.path(), "data", arguments).refused(why);
    }
    let verified = run(dir.path(), "data", &["audit", "verify"]);
    assert!(verified.code == Some(2) && verified.err.contains(why), "{}", verified.err);
    assert_eq!(below(&data), before);
    assert!(!dir.path().join("other.dw").exists() && !dir.path().join("out.ndjson").exists());
    assert_eq!(below(&dir.path().join("new")).len(), 1);

    // The server of that user makes a backup for root, too.
    let mut program = doorward(&data);
    program.uid(USER).gid(USER);
    let server = Server::start_with(program);
    run(dir.path(), "data", &["backup", "--to", "asked.dw"]).done();
    run(dir.path(), "data", &["verify-backup", "asked.dw"]).done();
    assert!(below(&data).iter().all(|path| std::fs::metadata(path).unwrap().uid() == USER));
    stop(server);
}
