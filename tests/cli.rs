//! The built program: its exit codes, its output, and what it must never print.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may panic like the test itself")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use tempfile::TempDir;

const CANARY: &str = "kanarienvogel-kanarienvogel-kanarienvogel";

/// The program in an empty directory, with an empty environment.
struct Doorward {
    directory: TempDir,
    command: Command,
}

impl Doorward {
    fn new(arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.args(arguments).env_clear().current_dir(directory.path());
        Self { directory, command }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    fn run(mut self) -> Run {
        let output = self.command.output().unwrap();
        let run = Run::new(&output);
        assert!(!run.out.contains("kanarienvogel") && !run.err.contains("kanarienvogel"), "a secret was printed");
        run
    }
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Returns the line of a setting, with one space between columns.
    fn line(&self, name: &str) -> String {
        let columns = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.out.lines().find(|line| line.split(' ').next() == Some(name)).map(columns).unwrap()
    }
}

#[test]
fn check_config_prints_each_setting_with_its_source() {
    let run = Doorward::new(&["check-config", "--config", "my.toml"])
        .file("my.toml", "[http]\nport = 1\n")
        .file(".env", "HASH_QUEUE=2\n")
        .env("TOKEN_ISSUER", "here")
        .env("DATA_DIR", "/a\n/b\u{1b}[31m")
        .run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.line("PORT"), "PORT 1 my.toml: http.port");
    assert_eq!(run.line("HASH_QUEUE"), "HASH_QUEUE 2 .env: HASH_QUEUE");
    assert_eq!(run.line("TOKEN_ISSUER"), "TOKEN_ISSUER here environment variable TOKEN_ISSUER");
    assert_eq!(run.line("HASH_ITERATIONS"), "HASH_ITERATIONS 2 default");
    assert_eq!(run.line("DATA_DIR"), r"DATA_DIR /a\n/b\u{1b}[31m environment variable DATA_DIR");
}

#[test]
fn s09_check_config_masks_secrets_from_everywhere() {
    let file = format!("[tokens]\nservice_token = \"{CANARY}\"\n");
    let run = Doorward::new(&["check-config"])
        .file("my.toml", &file)
        .file("key", &format!("{CANARY}\n"))
        .env("DOORWARD_CONFIG", "my.toml")
        .env("SECRET_KEY_FILE", "key")
        .run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.line("SECRET_KEY"), "SECRET_KEY *** file key, named by environment variable SECRET_KEY_FILE");
    assert_eq!(run.line("SERVICE_TOKEN"), "SERVICE_TOKEN *** my.toml: tokens.service_token");
    let run = Doorward::new(&["check-config"])
        .file(".env", &format!("SECRET_KEY='{CANARY}'\n"))
        .env("SERVICE_TOKEN", CANARY)
        .run();
    assert_eq!(run.code, Some(0), "{}", run.err);
}

#[test]
fn r13_every_command_that_reads_settings_stops_on_a_mistake() {
    for arguments in [
        &["check-config"] as &[&str],
        &["serve"],
        &[],
        &["admin", "create", "--email", "a@example.org", "--nickname", "a"],
        &["accept-older-data"],
        &["backup", "--to", "file"],
        &["restore", "--from", "file"],
    ] {
        let run = Doorward::new(arguments).env("PORT", "65536").env("SECRET_KEY", "kanarienvogel").run();
        assert_eq!(run.code, Some(2), "{arguments:?}");
        assert!(run.err.contains("PORT: must be a whole number from 0 to 65535 (environment variable PORT)"));
        assert!(run.err.contains("SECRET_KEY: must be at least 32 bytes (environment variable SECRET_KEY)"));
        assert_eq!(run.out, "");
    }
}

#[test]
fn r13_mistakes_in_files_stop_the_program() {
    let run = Doorward::new(&["--config", "missing.toml"]).run();
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("missing.toml"), "{}", run.err);
    let run = Doorward::new(&[]).file(".env", "PROT=1\n").run();
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("PROT: is not a known setting (.env)"), "{}", run.err);
    let run = Doorward::new(&[])
        .file("my.toml", "[tokens]\nsecret_key = kanarienvogel\n")
        .env("DOORWARD_CONFIG", "my.toml")
        .run();
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("line 2 is not valid TOML (my.toml)"), "{}", run.err);
}

#[test]
fn a_wrong_command_line_is_refused() {
    assert_eq!(Doorward::new(&["dance"]).run().code, Some(2));
    assert_eq!(Doorward::new(&["admin", "create"]).run().code, Some(2));
    assert_eq!(Doorward::new(&["--version"]).run().code, Some(0));
}

/// Answers one request with `answer` and returns the request.
#[test]
fn a_package_gets_a_man_page_for_each_command_and_completions_for_each_shell() {
    let generated = Doorward::new(&["generate", "package"]);
    let directory = generated.directory.path().join("package");
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let mut command = generated.command;
    assert!(command.status().unwrap().success());
    let page = read("man/doorward.1");
    assert!(page.contains(".TH doorward 1") && page.contains("doorward\\-check\\-config(1)"), "{page}");
    assert!(!page.contains("doorward\\-generate"), "only those who make packages need it");
    assert!(read("man/doorward-admin-create.1").contains("DOORWARD_ADMIN_PASSWORD"));
    for name in ["doorward.bash", "_doorward", "doorward.fish"] {
        assert!(read(&format!("completions/{name}")).contains("verify-backup"), "{name}");
    }
}

fn answer_once(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            request.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, asked)
}

#[test]
fn health_asks_the_configured_server() {
    let (port, asked) = answer_once("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let run = Doorward::new(&["health"]).env("HOST", "0.0.0.0").env("PORT", &port.to_string()).run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("GET /health/ready HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")), "{asked}");
}

#[test]
fn health_fails_unless_the_answer_is_200() {
    for answer in [
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
        "",
        "SSH-2.0-x 200\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "200 200 200\r\n",
    ] {
        let (port, asked) = answer_once(answer);
        let run = Doorward::new(&["health", "--url", &format!("http://localhost:{port}/here")]).run();
        assert_eq!(run.code, Some(1), "{answer:?}");
        assert!(asked.join().unwrap().starts_with("GET /here HTTP/1.1\r\n"));
    }
    for url in ["https://localhost/", "localhost:8000", "http://", "http://a b/", "http://a/\r\nX: y", "http://a:0/"] {
        assert_eq!(Doorward::new(&["health", "--url", url]).run().code, Some(1), "{url:?}");
    }
    assert_eq!(Doorward::new(&["health"]).env("PORT", "x").run().code, Some(1));
    assert_eq!(Doorward::new(&["health"]).env("PORT", "0").run().code, Some(1));
}

#[test]
fn mail_test_writes_a_file_without_a_server_and_says_where() {
    let run = Doorward::new(&["mail", "test", "ann@example.org", "--locale", "ro-RO"]).run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.starts_with("The mail to ann@example.org was handed to the file ./data/mail/"), "{}", run.out);
    assert!(run.err.contains("Mesaj de test de la Doorward"), "{}", run.err);
}

#[test]
fn mail_test_says_what_is_wrong() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let unreachable = format!("smtp://ann:{CANARY}@{closed}");
    let run = Doorward::new(&["mail", "test", "ann@example.org"]).env("SMTP_URL", &unreachable).run();
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("doorward: the mail was not sent: no connection to the mail server: "), "{}", run.err);
    let run = Doorward::new(&["mail", "test", "ann"]).run();
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("the address: an e-mail address has"), "{}", run.err);
    let run = Doorward::new(&["mail", "test", "ann@example.org", "--locale", "it"]).run();
    assert!(
        run.code == Some(1) && run.err.contains("--locale: mails are written in en, de, fr, es, ro"),
        "{}",
        run.err
    );
    let run = Doorward::new(&["mail", "test", "ann@example.org"]).env("MAIL_TEMPLATES_DIR", "/nonexistent").run();
    assert!(run.code == Some(1) && run.err.contains("a mail template cannot be used: /nonexistent: "), "{}", run.err);
}

#[test]
fn r13_a_certificate_that_cannot_be_used_stops_the_start() {
    let run = |cert: &str, key: &str| {
        let run = Doorward::new(&["serve"]).file("cert.pem", "nonsense").file("key.pem", CANARY);
        run.env("PORT", "0").env("TLS_CERT", cert).env("TLS_KEY", key).run()
    };
    let missing = run("gone.pem", "key.pem");
    assert_eq!(missing.code, Some(1), "{}", missing.err);
    assert!(missing.err.contains("TLS_CERT: gone.pem cannot be read"), "{}", missing.err);
    let missing = run("cert.pem", "gone.pem");
    assert!(missing.err.contains("TLS_KEY: gone.pem cannot be read"), "{}", missing.err);
    let broken = run("cert.pem", "key.pem");
    assert_eq!(broken.code, Some(1), "{}", broken.err);
    assert!(broken.err.contains("TLS_CERT: cert.pem must hold PEM certificates"), "{}", broken.err);
}

#[test]
fn calibrate_prints_lines_for_the_settings_and_never_less_than_the_floor() {
    // No machine reaches this target, so the calibration ends after the first measurement.
    let run = Doorward::new(&["calibrate", "--target-ms", "1", "--threads", "1"]).run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("Even the least that Doorward takes needs "), "{}", run.out);
    let portable = Doorward::new(&["calibrate", "--target-ms", "1", "--threads", "1", "--backend", "portable"]).run();
    assert!(portable.out.starts_with("argon2id (portable) with 1 threads at once; "), "{}", portable.out);
    assert!(run.out.ends_with("\nHASH_MEMORY_KIB=19456\nHASH_ITERATIONS=2\nHASH_THREADS=1\n"), "{}", run.out);
    let pasted: Vec<_> = run.out.lines().filter(|line| line.starts_with("HASH_")).collect();
    let checked = Doorward::new(&["check-config"]).file(".env", &pasted.join("\n")).run();
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    for wrong in
        [["--threads", "0"], ["--threads", "65"], ["--target-ms", "0"], ["--target-ms", "x"], ["--backend", "fast"]]
    {
        assert_eq!(Doorward::new(&[&["calibrate"], &wrong[..]].concat()).run().code, Some(2), "{wrong:?}");
    }
}

#[test]
fn r13_a_list_of_breached_passwords_that_cannot_be_used_stops_the_program() {
    let (one, two) = ("0".repeat(40), "F".repeat(40));
    for (content, why) in [
        (None, "names a file that cannot be read: "),
        (Some(String::new()), "names a file that is empty"),
        (
            Some(format!("{two}\n{one}\n")),
            "names a file that is not sorted by hash: the line at byte 41 is out of order",
        ),
        (Some("kanarienvogel\n".to_owned()), "names a file that is no list of SHA-1 hashes: the line at byte 0 "),
    ] {
        for command in ["check-config", "serve"] {
            let mut doorward = Doorward::new(&[command]).env("BREACHED_PASSWORDS_FILE", "list.txt");
            if let Some(content) = &content {
                doorward = doorward.file("list.txt", content);
            }
            let run = doorward.run();
            assert_eq!(run.code, Some(2), "{command}: {}", run.err);
            assert!(run.err.contains(&format!("BREACHED_PASSWORDS_FILE: {why}")), "{}", run.err);
            assert!(run.err.contains("(environment variable BREACHED_PASSWORDS_FILE)"), "{}", run.err);
        }
    }
    let good = Doorward::new(&["check-config"]).env("BREACHED_PASSWORDS_FILE", "list.txt");
    let run = good.file("list.txt", &format!("{one}:1\r\n{two}:2\r\n")).run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(
        run.line("BREACHED_PASSWORDS_FILE"),
        "BREACHED_PASSWORDS_FILE list.txt environment variable BREACHED_PASSWORDS_FILE"
    );
}

#[test]
fn a02_a03_e17_check_config_warns_and_goes_on() {
    let run = Doorward::new(&["check-config"])
        .file(".env", "DATABASE_URL=postgresql://auth:kanarienvogel@db/auth\nLOG_LEVEL=INFO\n")
        .env("LOG_DATABASE_URL", "kanarienvogel")
        .env("SMTP_URL", "smtp://ann:kanarienvogel@mail.example.com")
        .env("SERVICE_TOKENS", "kanarienvogel")
        .run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    let warnings: Vec<_> = run.err.lines().collect();
    assert!(warnings.iter().all(|line| line.starts_with("doorward: warning: ")), "{}", run.err);
    for (warning, part) in warnings.iter().zip([
        "the nearest setting is SERVICE_TOKEN",
        "DATABASE_URL (.env), ",
        "PUBLIC_URL",
        "MAIL_FROM",
    ]) {
        assert!(warning.contains(part), "{part} in {warning}");
    }
    assert_eq!(warnings.len(), 4, "{}", run.err);
    assert_eq!(run.line("LOG_LEVEL"), "LOG_LEVEL INFO .env: LOG_LEVEL");
    assert_eq!(Doorward::new(&["check-config"]).run().err, "");
}

/// The time after which a test counts as hung. It measures nothing.
const PATIENCE: Duration = Duration::from_mins(1);
const PASSWORD: &str = "kanarienvogel-Lamp-7-tree";
const PASSPHRASE: &str = "a kanarienvogel over water";

/// `doorward admin create` at a terminal.
struct AtTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<u8>,
    shown: String,
    /// The program's side of the terminal. It stays open so that the test can read its modes.
    terminal: File,
    _directory: TempDir,
}

impl AtTerminal {
    fn start() -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let terminal = File::from(ioctl_tiocgptpeer(&controller, flags).unwrap());
        let keyboard = File::from(controller);
        let side = || Stdio::from(terminal.try_clone().unwrap());
        let Doorward { directory, mut command } =
            Doorward::new(&["admin", "create", "--email", "ann@example.org", "--nickname", "ann"]);
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let (sender, screen) = mpsc::channel();
        let mut reader = keyboard.try_clone().unwrap();
        thread::spawn(move || {
            let mut byte = [0];
            while reader.read(&mut byte).is_ok_and(|read| read == 1) && sender.send(byte[0]).is_ok() {}
        });
        Self { child, keyboard, screen, shown: String::new(), terminal, _directory: directory }
    }

    fn echoes(&self) -> bool {
        tcgetattr(self.terminal.as_fd()).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn until_shown(&mut self, text: &str) {
        while !self.shown.ends_with(text) {
            let byte = self.screen.recv_timeout(PATIENCE);
            self.shown.push(char::from(byte.unwrap_or_else(|_| panic!("{text:?} is not shown: {}", self.shown))));
        }
    }

    /// Answers a prompt. The terminal must not echo the answer.
    fn answer(&mut self, prompt: &str, answer: &str) {
        self.until_shown(prompt);
        assert!(!self.echoes(), "{prompt}");
        self.keyboard.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and returns the exit code and everything shown.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        assert!(self.echoes(), "the terminal shows again what is typed: {}", self.shown);
        while let Ok(byte) = self.screen.recv_timeout(Duration::from_millis(50)) {
            self.shown.push(char::from(byte));
        }
        assert!(!self.shown.contains("kanarienvogel"), "{}", self.shown);
        (code, self.shown)
    }
}

#[test]
fn g25_admin_create_asks_at_a_terminal_and_shows_nothing() {
    let mut terminal = AtTerminal::start();
    assert!(terminal.echoes());
    terminal.answer("Password: ", PASSWORD);
    terminal.answer("Password again: ", PASSWORD);
    terminal.answer("Passphrase: ", PASSPHRASE);
    terminal.answer("Passphrase again: ", PASSPHRASE);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
}

#[test]
fn g25_what_is_typed_differently_the_second_time_is_refused() {
    let mut terminal = AtTerminal::start();
    terminal.answer("Password: ", PASSWORD);
    terminal.answer("Password again: ", "kanarienvogel");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("the password: it was typed differently the second time"), "{shown}");
    let mut terminal = AtTerminal::start();
    terminal.answer("Password: ", PASSWORD);
    terminal.until_shown("Password again: ");
    terminal.keyboard.write_all(b"\x04").unwrap();
    assert_eq!(terminal.end().0, Some(1), "the end of the input");
}

#[test]
fn g25_a_signal_at_the_prompt_leaves_the_terminal_as_it_was() {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)] {
        let mut terminal = AtTerminal::start();
        terminal.until_shown("Password: ");
        assert!(!terminal.echoes());
        terminal.signal(name);
        let (ended, shown) = terminal.end();
        assert_eq!(ended, Some(code), "{name}: {shown}");
    }
}
