//! `doorward top` of the built program, beside a running server.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use doorward_actors::testing::Fault;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use tempfile::TempDir;

use crate::support::{SERVICE_TOKEN, TestApp};

/// How long the program may take to show something.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the command, in an empty directory, for the server of an application.
fn top(app: &TestApp, directory: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.arg("top").args(arguments).env_clear().current_dir(directory.path());
    command.env("PORT", app.address.port().to_string()).env("SERVICE_TOKEN", SERVICE_TOKEN);
    command
}

async fn output(mut command: Command) -> (Option<i32>, String, String) {
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn r19_into_a_pipe_the_tree_is_written_once_and_a_frozen_actor_is_named() {
    let (app, directory) = (TestApp::spawn().await, TempDir::new().unwrap());
    let (code, shown, _) = output(top(&app, &directory, &[])).await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.starts_with("doorward: ok, up 0s, 0 sessions\nstore: works, "), "{shown}");
    let tree: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("supervisor")).collect();
    assert_eq!(tree.len(), 9, "{shown}");
    assert!(tree[1].starts_with("├─ user ") && tree[8].starts_with("└─ mailer "), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");

    app.handles.inject("keys", Fault::Hang(Duration::from_mins(10))).await.unwrap();
    app.pass(Duration::from_secs(2));
    let (_, shown, _) = output(top(&app, &directory, &[])).await;
    assert!(shown.starts_with("doorward: degraded, ") && shown.contains("\nproblem: actor (keys)\n"), "{shown}");
}

#[tokio::test]
async fn without_a_server_or_its_token_the_reason_is_told() {
    let (app, directory) = (TestApp::spawn().await, TempDir::new().unwrap());
    let mut wrong = top(&app, &directory, &[]);
    wrong.env("SERVICE_TOKEN", "another-service-token-0123456789abcdef");
    let (code, shown, told) = output(wrong).await;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(told.contains("doorward: the server refuses to answer: HTTP/1.1 404 Not Found"), "{told}");
    let mut without = top(&app, &directory, &[]);
    without.env_remove("SERVICE_TOKEN");
    let (code, _, told) = output(without).await;
    assert!(code == Some(1) && told.contains("doorward: there is no service token"), "{told}");
    let nobody = top(&app, &directory, &[]);
    app.stop().await.unwrap();
    let (code, _, told) = output(nobody).await;
    assert!(code == Some(1) && told.contains("doorward: no answer: "), "{told}");
}

#[tokio::test]
async fn in_a_terminal_it_goes_on_with_sparklines_until_it_is_interrupted() {
    let (app, directory) = (TestApp::spawn().await, TempDir::new().unwrap());
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let terminal = File::from(ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
    let mut command = top(&app, &directory, &["--interval", "1"]);
    let mut child = command.stdin(Stdio::null()).stdout(terminal).stderr(Stdio::null()).spawn().unwrap();
    let (sender, screen) = mpsc::channel();
    let mut reader = File::from(controller);
    thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut part) {
            if sender.send(part[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    let pid = Pid::from_child(&child);
    let ended = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        // Two looks are needed before there is a rate.
        while !String::from_utf8_lossy(&shown).contains("/s  ") {
            shown.extend(screen.recv_timeout(PATIENCE).unwrap());
        }
        kill_process(pid, Signal::INT).unwrap();
        (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
    });
    let (code, shown) = ended.await.unwrap();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.starts_with("\u{1b}[H\u{1b}[2Jdoorward: ok, "), "{shown}");
    assert!(shown.contains("└─ mailer ") && shown.contains("messages"), "{shown}");
}
