//! Names of settings: the established names, those of the replaced service, and warnings about misspelt names.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::fs;
use std::time::Duration;

use doorward::settings::{Loaded, Settings, SettingsError, Sources, table};
use tempfile::TempDir;

fn load(variables: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    Settings::load(&Sources::default().environment(variables.iter().copied()))
}

fn load_file(name: &str, text: &str) -> Result<Loaded, SettingsError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    let sources = Sources::default();
    Settings::load(&if name == ".env" { sources.dotenv_file(path) } else { sources.config_file(path) })
}

fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
    load(variables).unwrap().warnings
}

// The established names.

#[test]
fn a01_the_established_names_of_the_time_units_work_and_their_longer_spelling_too() {
    let units = |loaded: Loaded| (loaded.settings.limits.public.per, loaded.settings.limits.private.per);
    let expected = (Duration::from_mins(2), Duration::from_hours(3));
    for (public, private) in [
        ("RATE_LIMITS_PUBLIC_TIME_UNIT", "RATE_LIMITS_PRIVATE_TIME_UNIT"),
        ("RATE_LIMITS_PUBLIC_ROUTES_TIME_UNIT", "RATE_LIMITS_PRIVATE_ROUTES_TIME_UNIT"),
    ] {
        let loaded = load(&[(public, "2minute"), (private, "3hour")]).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        assert_eq!(units(loaded), expected);
        assert_eq!(units(load_file(".env", &format!("{public}=2minute\n{private}=3hour\n")).unwrap()), expected);
    }
    for (public, private) in
        [("public_time_unit", "private_time_unit"), ("public_routes_time_unit", "private_routes_time_unit")]
    {
        let text = format!("[limits]\n{public} = \"2minute\"\n{private} = \"3hour\"\n");
        assert_eq!(units(load_file("doorward.toml", &text).unwrap()), expected);
    }
    assert!(table::ALL.iter().any(|key| key.name == "RATE_LIMITS_PUBLIC_TIME_UNIT"));
    assert!(table::ALL.iter().any(|key| key.name == "RATE_LIMITS_PRIVATE_TIME_UNIT"));
}

#[test]
fn a01_two_spellings_with_different_values_contradict_each_other() {
    let short = "RATE_LIMITS_PUBLIC_TIME_UNIT";
    let long = "RATE_LIMITS_PUBLIC_ROUTES_TIME_UNIT";
    let message = load(&[(short, "1hour"), (long, "2hour")]).unwrap_err().to_string();
    assert!(message.contains(&format!("{short}: contradicts {long}")), "{message}");
    let same = load(&[(short, "1hour"), (long, "1hour")]).unwrap();
    assert_eq!(same.settings.limits.public.per, Duration::from_hours(1));
    let both = |long| format!("[limits]\npublic_time_unit = \"1hour\"\npublic_routes_time_unit = \"{long}\"\n");
    let message = load_file("doorward.toml", &both("2hour")).unwrap_err().to_string();
    assert!(message.contains(&format!("{short}: contradicts ")) && message.contains("public_routes_time_unit"));
    load_file("doorward.toml", &both("1hour")).unwrap();
}

/// The `.env` of the service that Doorward replaces, with its twelve names.
const OLD_DOTENV: &str = "\
# Databases
DATABASE_URL=postgresql+asyncpg://auth:p%40ss$word#1@db:5432/auth
LOG_DATABASE_URL = \"postgresql+asyncpg://auth:p@ss@db:5432/logs

# Tokens
SECRET_KEY = \"3f0d6f1c4fb1b1a6f4a5b8f3d1e7c2a9e1d5c4b3a2f1e0d9c8b7a6f5e4d3c2b1\"
ALGORITHM = HS256
ACCESS_TOKEN_EXPIRE_MINUTES = 45
IDDLE_MINUTES=20
SERVICE_TOKEN='7f3b0c5d-e2a1-4c8f-9b6d-0a1b2c3d4e5f-x'

LOG_LEVEL=INFO
RATE_LIMITS_PUBLIC_ROUTES=50
RATE_LIMITS_PUBLIC_TIME_UNIT=minute
RATE_LIMITS_PRIVATE_ROUTES=200
RATE_LIMITS_PRIVATE_TIME_UNIT=1hour
";

#[test]
fn a02_the_env_file_of_the_service_before_works_as_it_is_with_one_warning() {
    let loaded = load_file(".env", OLD_DOTENV).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.tokens.secret_key.as_ref().unwrap().expose().len(), 64);
    assert_eq!(settings.tokens.service_token.as_ref().unwrap().expose(), "7f3b0c5d-e2a1-4c8f-9b6d-0a1b2c3d4e5f-x");
    assert_eq!(settings.tokens.access_token_lifetime, Duration::from_mins(45));
    assert_eq!(settings.sessions.idle_timeout, Duration::from_mins(20));
    assert_eq!((settings.limits.public.permits.get(), settings.limits.private.permits.get()), (50, 200));
    assert_eq!(settings.limits.public.per, Duration::from_mins(1));
    assert_eq!(settings.log.level, "INFO");
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    for part in ["DATABASE_URL (", "LOG_DATABASE_URL (", "accounts", "log", "DATA_DIR", "POST /accounts_management/"] {
        assert!(warning.contains(part), "{part} in {warning}");
    }
    assert!(!format!("{loaded:?}").contains("asyncpg"), "the URLs hold passwords");
}

#[test]
fn a02_the_databases_of_the_service_before_are_noted_wherever_they_are_given_and_once() {
    let url = "postgresql://auth:kanarienvogel@db/auth";
    for names in [&["DATABASE_URL"][..], &["LOG_DATABASE_URL"], &["DATABASE_URL", "LOG_DATABASE_URL"]] {
        let variables: Vec<_> = names.iter().map(|name| (*name, url)).collect();
        let found = warnings(&variables);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(names.iter().all(|name| found[0].contains(&format!("environment variable {name}"))), "{found:?}");
        assert!(!found[0].contains("kanarienvogel"));
    }
    assert_eq!(load_file(".env", "DATABASE_URL=\nLOG_DATABASE_URL= \n").unwrap().warnings, [""; 0]);
    // A settings file belongs to Doorward alone, so an unknown name in it is an error.
    assert!(load_file("doorward.toml", "database_url = \"x\"\n").is_err());
}

#[test]
fn a02_the_levels_of_python_are_levels_in_any_case() {
    for level in ["INFO", "info", "Info", "WARNING", "warning", "CRITICAL", "FATAL", "ERROR", "DEBUG", "NOTSET"] {
        load(&[("LOG_LEVEL", level)]).unwrap();
        load_file(".env", &format!("LOG_LEVEL=\"{level}\"\n")).unwrap();
    }
    assert!(load(&[("LOG_LEVEL", "WARNINGS")]).is_err());
}

// Warnings.

const DOCKER: &str = "\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOSTNAME=3f1b5c9d2e7a
HOME=/
TERM=xterm
TZ=Europe/Berlin
LANG=C.UTF-8
LC_ALL=C.UTF-8
GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D
container=docker
PWD=/
SHLVL=1
OLDPWD=/data
DEBIAN_FRONTEND=noninteractive
no_proxy=localhost
NO_PROXY=localhost
http_proxy=http://proxy:3128
HTTP_PROXY=http://proxy:3128
HTTPS_PROXY=http://proxy:3128
MALLOC_ARENA_MAX=2
MAIL_PORT=tcp://172.17.0.5:25
MAIL_PORT_25_TCP=tcp://172.17.0.5:25
MAIL_PORT_25_TCP_ADDR=172.17.0.5
MAIL_NAME=/doorward/mail
MAIL_ENV_MAILNAME=mail.example.com
";

const SYSTEMD: &str = "\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
LANG=de_DE.UTF-8
LANGUAGE=de
HOME=/var/lib/doorward
LOGNAME=doorward
USER=doorward
SHELL=/usr/sbin/nologin
INVOCATION_ID=5c1e1d0a3f4b4b0f9a7d2c3e4f5a6b7c
JOURNAL_STREAM=8:123456
SYSTEMD_EXEC_PID=4711
NOTIFY_SOCKET=/run/systemd/notify
WATCHDOG_USEC=30000000
WATCHDOG_PID=4711
LISTEN_FDS=1
LISTEN_PID=4711
LISTEN_FDNAMES=http
MAINPID=4711
MANAGERPID=1
RUNTIME_DIRECTORY=/run/doorward
STATE_DIRECTORY=/var/lib/doorward
CACHE_DIRECTORY=/var/cache/doorward
LOGS_DIRECTORY=/var/log/doorward
CONFIGURATION_DIRECTORY=/etc/doorward
CREDENTIALS_DIRECTORY=/run/credentials/doorward.service
MEMORY_PRESSURE_WATCH=/sys/fs/cgroup/system.slice/doorward.service/memory.pressure
MEMORY_PRESSURE_WRITE=c29tZSAyMDAwMDAgMjAwMDAwMAA=
LOG_NAMESPACE=doorward
FDSTORE=0
PIDFILE=/run/doorward.pid
SERVICE_RESULT=success
EXIT_CODE=exited
EXIT_STATUS=0
MONITOR_SERVICE_RESULT=success
REMOTE_ADDR=127.0.0.1
REMOTE_PORT=1234
TRIGGER_UNIT=doorward.timer
";

const KUBERNETES: &str = "\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOSTNAME=doorward-6d4cf56db6-abcde
HOME=/
KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
DOORWARD_SERVICE_HOST=10.96.7.1
DOORWARD_SERVICE_PORT=8000
DOORWARD_SERVICE_PORT_HTTP=8000
DOORWARD_PORT=tcp://10.96.7.1:8000
DOORWARD_PORT_8000_TCP=tcp://10.96.7.1:8000
DOORWARD_PORT_8000_TCP_ADDR=10.96.7.1
SMTP_SERVICE_HOST=10.96.7.2
SMTP_SERVICE_PORT=25
SMTP_SERVICE_PORT_SUBMISSION=587
SMTP_PORT=tcp://10.96.7.2:25
SMTP_PORT_25_TCP=tcp://10.96.7.2:25
SMTP_PORT_25_TCP_PROTO=tcp
MAIL_SERVICE_HOST=10.96.7.3
MAIL_PORT=tcp://10.96.7.3:25
AUDIT_LOG_SERVICE_HOST=10.96.7.4
AUDIT_LOG_PORT_514_UDP=udp://10.96.7.4:514
LOG_PORT=udp://10.96.7.5:514
KEY_SERVICE_HOST=10.96.7.6
KEY_PORT=tcp://10.96.7.6:80
RATE_LIMITS_SERVICE_PORT=80
TOKEN_PORT_80_SCTP_PORT=80
POD_NAME=doorward-0
POD_NAMESPACE=auth
POD_IP=10.244.0.7
NODE_NAME=node-1
HOST_IP=192.0.2.1
";

const DEVELOPER: &str = "\
SHELL=/bin/zsh
USER=ann
LOGNAME=ann
USERNAME=ann
MAIL=/var/mail/ann
MAILTO=ann
MAILCHECK=60
EDITOR=vim
VISUAL=vim
PAGER=less
LESS=-R
LS_COLORS=rs=0
TERM=xterm-256color
TERM_PROGRAM=vscode
TERM_PROGRAM_VERSION=1.90
TERM_SESSION_ID=w0t0p0
COLORTERM=truecolor
DISPLAY=:0
WAYLAND_DISPLAY=wayland-0
XAUTHORITY=/run/user/1000/xauth
SESSION_MANAGER=local/ann:@/tmp/.ICE-unix/1234
DESKTOP_SESSION=gnome
GDMSESSION=gnome
XDG_SESSION_ID=2
XDG_SESSION_TYPE=wayland
XDG_DATA_DIRS=/usr/share
XDG_DATA_HOME=/srv/ann/.local/share
XDG_RUNTIME_DIR=/run/user/1000
DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus
SSH_AUTH_SOCK=/run/user/1000/ssh
SSH_AGENT_PID=1234
SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22
GPG_TTY=/dev/pts/0
PASSWORD_STORE_DIR=/srv/ann/.pass
CARGO_HOME=/srv/ann/.cargo
RUSTUP_HOME=/srv/ann/.rustup
RUST_LOG=info
RUST_LOG_STYLE=auto
RUST_BACKTRACE=1
CARGO_MANIFEST_DIR=/srv/ann/doorward
CARGO_TERM_COLOR=always
GOPATH=/srv/ann/go
JAVA_HOME=/usr/lib/jvm
VIRTUAL_ENV=/srv/ann/venv
PYENV_ROOT=/srv/ann/.pyenv
PYTHONPATH=.
REQUESTS_CA_BUNDLE=/etc/ssl/ca.pem
SSL_CERT_FILE=/etc/ssl/ca.pem
CURL_CA_BUNDLE=/etc/ssl/ca.pem
NVM_DIR=/srv/ann/.nvm
NODE_OPTIONS=--inspect
DOCKER_HOST=unix:///run/docker.sock
DOCKER_TLS_VERIFY=1
DOCKER_CERT_PATH=/srv/ann/.docker
COMPOSE_PROJECT_NAME=doorward
AWS_SECRET_ACCESS_KEY=x
AWS_ACCESS_KEY_ID=x
AWS_SESSION_TOKEN=x
GITHUB_TOKEN=x
HISTSIZE=1000
LINES=50
COLUMNS=120
WINDOWID=1
SHLVL=2
_=/usr/bin/env
";

#[test]
fn a03_a_plain_environment_gives_no_warning() {
    for (what, text) in
        [("Docker", DOCKER), ("systemd", SYSTEMD), ("Kubernetes", KUBERNETES), ("a developer's shell", DEVELOPER)]
    {
        let variables: Vec<_> = text.lines().map(|line| line.split_once('=').unwrap()).collect();
        assert_eq!(warnings(&variables), [""; 0], "{what}");
    }
}

#[test]
fn a03_a_name_that_nearly_is_a_setting_is_warned_of_with_the_setting_that_was_meant() {
    for (name, meant) in [
        // Misspelt letters.
        ("SERCET_KEY", "SECRET_KEY"),
        ("SECRETKEY", "SECRET_KEY"),
        ("SECRET-KEY", "SECRET_KEY"),
        ("secret_key", "SECRET_KEY"),
        ("SERVICE_TOKENS", "SERVICE_TOKEN"),
        ("SERVICE_TOKEN_FLE", "SERVICE_TOKEN_FILE"),
        ("ALGORYTHM", "ALGORITHM"),
        ("ALGORITHMS", "ALGORITHM"),
        ("IDDLE_MINUTE", "IDDLE_MINUTES"),
        ("IDEL_MINUTES", "IDDLE_MINUTES"),
        ("ACCESS_TOKEN_EXPIRES_MINUTES", "ACCESS_TOKEN_EXPIRE_MINUTES"),
        ("PUBLIC_URI", "PUBLIC_URL"),
        ("DATADIR_", "DATA_DIR"),
        ("DATA_DRI", "DATA_DIR"),
        ("MAX_CONECTIONS", "MAX_CONNECTIONS"),
        ("FIRST_USER_IS_ADMN", "FIRST_USER_IS_ADMIN"),
        ("REQUIRE_MAIL_VERIFICATION", "REQUIRE_EMAIL_VERIFICATION"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("LOG_LEVLE", "LOG_LEVEL"),
        ("RATE_LIMITS_PUBLIC_TIME_UNITS", "RATE_LIMITS_PUBLIC_TIME_UNIT"),
        ("RATE_LIMIT_PUBLIC_TIME_UNIT", "RATE_LIMITS_PUBLIC_TIME_UNIT"),
        // Names that share the beginning of a setting.
        ("RATE_LIMITS_PUBLIC", "RATE_LIMITS_PUBLIC_ROUTES"),
        ("RATE_LIMITS_PUBLIC_UNIT", "RATE_LIMITS_PUBLIC_TIME_UNIT"),
        ("RATE_LIMITS_PRIVATE_WINDOW", "RATE_LIMITS_PRIVATE_ROUTES"),
        ("SMTP_HOST", "SMTP_URL"),
        ("SMTP_PORT", "SMTP_URL"),
        ("SMTP_PASSWORD", "SMTP_URL"),
        ("MAIL_FROM_NAME", "MAIL_FROM"),
        ("AUDIT_DAYS", "AUDIT_RETENTION_DAYS"),
        ("AUDIT_MAX_MB", "AUDIT_MAX_MEBIBYTES"),
        ("HASH_MEMORY", "HASH_MEMORY_KIB"),
        ("TLS_CERTIFICATE", "TLS_CERT"),
        ("CORS_ALLOWED_ORIGINS", "CORS_ORIGINS"),
        ("SESSION_DAYS", "SESSION_MAX_DAYS"),
        ("PASSWORD_SCORE", "PASSWORD_MIN_SCORE"),
        ("ACCESS_TOKEN_MINUTES", "ACCESS_TOKEN_EXPIRE_MINUTES"),
        ("KEY_ROTATION_PERIOD", "KEY_ROTATION_DAYS"),
        ("LOG_VERIFY", "LOG_VERIFY_SAMPLE"),
        // The prefix of Doorward itself.
        ("DOORWARD_PORT", "PORT"),
        ("DOORWARD_SECRET_KEY", "SECRET_KEY"),
        ("DOORWARD_SMTP_HOST", "SMTP_URL"),
    ] {
        let found = warnings(&[(name, "587")]);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(found[0].contains(&format!("environment variable {name} is not a setting")), "{found:?}");
        assert!(found[0].ends_with(&format!("the nearest setting is {meant}")), "{found:?}");
        assert_eq!(warnings(&[(name, "")]), [""; 0], "an empty value counts as not given");
    }
}

#[test]
fn a03_no_setting_is_warned_of_and_an_unknown_name_in_a_file_still_stops_the_program() {
    let everything: Vec<_> = table::ALL.iter().flat_map(|key| key.names()).collect();
    for name in everything {
        if let Ok(loaded) = load(&[(name, "1")]) {
            assert_eq!(loaded.warnings, [""; 0], "{name}");
        }
    }
    assert_eq!(warnings(&[("DOORWARD_CONFIG", "x"), ("DOORWARD_ADMIN_PASSWORD", "x")]), [""; 0]);
    assert!(load_file(".env", "SMTP_HOST=x\n").unwrap_err().to_string().contains("SMTP_HOST: is not a known setting"));
}

#[test]
fn e17_a_mail_server_without_an_address_of_its_own_is_warned_of() {
    let smtp = ("SMTP_URL", "smtp://mail.example.com");
    let url = ("PUBLIC_URL", "https://auth.example.com");
    let from = ("MAIL_FROM", "Doorward <auth@example.com>");
    let found = warnings(&[smtp]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("PUBLIC_URL leads to 127.0.0.1") && found[1].contains("MAIL_FROM ends in localhost"));
    assert!(matches!(&warnings(&[smtp, url])[..], [one] if one.contains("MAIL_FROM")));
    assert!(matches!(&warnings(&[smtp, from])[..], [one] if one.contains("PUBLIC_URL")));
    assert_eq!(warnings(&[smtp, url, from]), [""; 0]);
    // Without a mail server mails are files, and their links are opened on this machine.
    assert_eq!(warnings(&[("PUBLIC_URL", "http://localhost:8000")]), [""; 0]);
    for local in
        ["http://localhost:8400", "http://127.0.0.2", "http://[::1]:8000", "http://0.0.0.0", "http://x.localhost"]
    {
        assert_eq!(warnings(&[smtp, from, ("PUBLIC_URL", local)]).len(), 1, "{local}");
    }
    for local in ["a@localhost", "a@localhost.localdomain"] {
        assert_eq!(warnings(&[smtp, url, ("MAIL_FROM", local)]).len(), 1, "{local}");
    }
}
