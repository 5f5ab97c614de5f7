//! Data directories after a power cut, disk damage or manual changes. A directory either opens with everything that was
//! acknowledged, or it is refused and left unchanged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{Server, doorward, run, run_with_input};

const PASSWORD: &str = "Quiet-lamp-7-tree";
/// The length of an engine segment and of its head, in bytes.
const SEGMENT: u64 = 512 * 1024;
const HEAD: usize = 20;

async fn register(server: &Server, name: &str) {
    let body = json!({"email": format!("{name}@example.com"), "nickname": name, "password": PASSWORD,
        "passphrase": "blue heron over water"});
    let (status, answer) = server.call(Method::POST, "/register", None, Some(body)).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

async fn can_log_in(server: &Server, name: &str) -> bool {
    server.login(&format!("{name}@example.com"), PASSWORD).await.unwrap().0 == StatusCode::OK
}

fn stop(server: Server) {
    server.terminate();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Returns a data directory in which `names` registered, after an orderly stop.
async fn directory_of(names: &[&str]) -> TempDir {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    for name in names {
        register(&server, name).await;
    }
    stop(server);
    directory
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// Returns every file below a directory with its content.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(path).unwrap());
        }
    }
    found
}

/// Returns the output of the program for a directory that it must refuse.
fn refused(data_dir: &Path, arguments: &[&str], code: i32) -> String {
    let mut command = doorward(data_dir);
    command.args(arguments);
    let (status, said) = run_with_input(command, "Quiet-lamp-7-tree\nblue heron over water\n");
    assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn accept(data_dir: &Path) {
    let mut command = doorward(data_dir);
    command.arg("accept-older-data");
    let (status, said) = run(command);
    assert_eq!(status.code(), Some(0), "{said}");
}

type Damage = fn(&Path);

#[tokio::test]
async fn r14_0b_a_database_that_is_gone_is_not_taken_for_a_new_one() {
    let whole = directory_of(&["root"]).await;
    let damages: [(&str, Damage); 6] = [
        ("the directory is removed", |db| fs::remove_dir_all(db).unwrap()),
        ("all in it is removed", |db| {
            fs::remove_dir_all(db).unwrap();
            fs::create_dir(db).unwrap();
        }),
        ("the data file is removed", |db| fs::remove_file(db.join("db")).unwrap()),
        ("the data file is cut off", |db| File::create(db.join("db")).unwrap().set_len(0).unwrap()),
        ("the data file is blank", |db| {
            let length = fs::metadata(db.join("db")).unwrap().len();
            File::create(db.join("db")).unwrap().set_len(length).unwrap();
        }),
        ("another, empty database is in its place", |db| {
            fs::remove_dir_all(db).unwrap();
            let empty = sled::open(db).unwrap();
            empty.flush().unwrap();
        }),
    ];
    for (what, damage) in damages {
        let directory = TempDir::new().unwrap();
        copy(whole.path(), directory.path());
        damage(&directory.path().join("db"));
        let before = content(directory.path());
        for (arguments, code) in [
            (&["serve"][..], 1),
            (&["admin", "create", "--email", "eve@example.com", "--nickname", "eve"], 1),
            (&["audit", "verify"], 2),
        ] {
            let said = refused(directory.path(), arguments, code);
            assert!(said.contains("doorward accept-older-data"), "{what}, {arguments:?}: {said}");
        }
        if !what.starts_with("another") {
            assert_eq!(content(directory.path()), before, "{what}");
        }
        accept(directory.path());
        let server = Server::start(directory.path());
        assert!(!can_log_in(&server, "root").await);
        server.kill();
    }
}

#[tokio::test]
async fn r14_0b_an_older_database_is_refused_until_it_is_accepted() {
    let directory = directory_of(&["root"]).await;
    let (db, older) = (directory.path().join("db"), directory.path().join("older"));
    copy(&db, &older);
    let server = Server::start(directory.path());
    register(&server, "late").await;
    stop(server);
    fs::remove_dir_all(&db).unwrap();
    fs::rename(&older, &db).unwrap();
    for arguments in [&["serve"][..], &["admin", "create", "--email", "eve@example.com", "--nickname", "eve"]] {
        let said = refused(directory.path(), arguments, 1);
        assert!(said.contains("is older than it was") && said.contains("doorward accept-older-data"), "{said}");
    }
    accept(directory.path());
    for _ in 0..2 {
        let server = Server::start(directory.path());
        assert!(can_log_in(&server, "root").await);
        assert!(!can_log_in(&server, "late").await);
        server.kill();
    }
}

#[tokio::test]
async fn r14_0b_data_is_not_accepted_beside_a_running_server_nor_where_nothing_was_noted() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    let witness = directory.path().join("witness.json");
    let noted = fs::read(&witness).unwrap();
    let said = refused(directory.path(), &["accept-older-data"], 1);
    assert!(said.contains("in use by another doorward process"), "{said}");
    assert_eq!(fs::read(&witness).unwrap(), noted);
    stop(server);
    // An older version leaves such a directory. It is accepted unchanged, and the witness is written from then on.
    fs::remove_file(&witness).unwrap();
    accept(directory.path());
    Server::start(directory.path()).kill();
    assert!(witness.exists());
    fs::write(&witness, "{").unwrap();
    let said = refused(directory.path(), &["serve"], 1);
    assert!(said.contains("witness.json cannot be read"), "{said}");
}

/// Returns the head of each segment: its number in the log, the position up to which it calls the log stable, and its
/// offset in the file.
fn heads(file: &File) -> Vec<(u64, i64, u64)> {
    let places = (0..file.metadata().unwrap().len()).step_by(usize::try_from(SEGMENT).unwrap());
    let heads = places.map(|place| {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, place).unwrap();
        let number = |at: usize| i64::from_le_bytes(head[at..at + 8].try_into().unwrap()) ^ i64::MAX;
        (u64::try_from(number(4)).unwrap_or(u64::MAX), number(12), place)
    });
    heads.filter(|(first, ..)| *first != u64::MAX && first % SEGMENT == 0).collect()
}

#[tokio::test]
async fn r14_0c_a_head_that_calls_a_lost_segment_stable_does_not_lose_the_others() {
    let whole = directory_of(&["root"]).await;
    // Simulates a directory of an older version, which has no witness.
    let _ = fs::remove_file(whole.path().join("witness.json"));
    let engine = sled::open(whole.path().join("db")).unwrap();
    for n in 0_u16..4000 {
        engine.insert([0xEE, n.to_be_bytes()[0], n.to_be_bytes()[1]], vec![7; 1000]).unwrap();
    }
    engine.flush().unwrap();
    drop(engine);
    for snapshot in [true, false] {
        let directory = TempDir::new().unwrap();
        copy(whole.path(), directory.path());
        for entry in fs::read_dir(directory.path().join("db")).unwrap().map(Result::unwrap) {
            if !snapshot && entry.file_name().to_str().unwrap().starts_with("snap.") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let file = File::options().read(true).write(true).open(directory.path().join("db/db")).unwrap();
        let heads = heads(&file);
        assert!(heads.len() > 4, "{heads:?}");
        let stable = heads.iter().map(|(_, stable, _)| u64::try_from(*stable).unwrap_or(0)).max().unwrap();
        let lost = heads.iter().find(|(first, ..)| *first == stable / SEGMENT * SEGMENT).unwrap();
        file.write_all_at(&vec![0; usize::try_from(SEGMENT).unwrap()], lost.2).unwrap();
        for _ in 0..2 {
            let server = Server::start(directory.path());
            assert!(can_log_in(&server, "root").await, "with a snapshot: {snapshot}");
            server.kill();
        }
    }
}

#[tokio::test]
async fn r14_0d_a_first_start_that_was_cut_short_is_no_obstacle() {
    let whole = directory_of(&["root"]).await;
    let conf = fs::read(whole.path().join("db/conf")).unwrap();
    let torn: [&[u8]; 5] = [&[], &conf[..9], &conf[..conf.len() - 1], &[0xFF; 12], &vec![0; conf.len()]];
    for torn in torn {
        // The engine writes its parameters in pieces and does not sync them.
        let directory = TempDir::new().unwrap();
        copy(whole.path(), directory.path());
        fs::write(directory.path().join("db/conf"), torn).unwrap();
        for _ in 0..2 {
            let server = Server::start(directory.path());
            assert!(can_log_in(&server, "root").await, "{torn:?}");
            server.kill();
        }
    }
}
