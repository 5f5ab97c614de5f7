//! Settings: which values are accepted, which are refused and with which message. The documents must agree with the
//! table.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test may panic like the test itself")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward::settings::table::{self, Kind};
use doorward::settings::{Algorithm, Loaded, LogFormat, Settings, SettingsError, Sources};
use doorward_actors::{HashBackendChoice, Locale};
use tempfile::TempDir;

/// Stands for a secret: no message may contain it. As a value it is too short for a secret and invalid for most
/// settings.
const CANARY: &str = "kanarienvogel";
const KEY_A: &str = "a-signing-key-of-forty-characters-length";
const KEY_B: &str = "another-signing-key-of-forty-characters!";

fn load(variables: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    Settings::load(&Sources::default().environment(variables.iter().copied()))
}

fn load_ok(variables: &[(&str, &str)]) -> Settings {
    load(variables).unwrap().settings
}

/// Returns the message of a refusal. Fails if the message contains the canary.
fn refusal(outcome: Result<Loaded, SettingsError>) -> String {
    let error = outcome.expect_err("these settings must be refused");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    assert!(!error.to_string().contains(CANARY), "{error}");
    error.to_string()
}

fn refused(variables: &[(&str, &str)]) -> String {
    refusal(load(variables))
}

/// A temporary directory for files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn load_toml(text: &str) -> Result<Loaded, SettingsError> {
    let files = Files::new();
    Settings::load(&Sources::default().config_file(files.write("doorward.toml", text)))
}

fn load_dotenv(text: &str) -> Result<Loaded, SettingsError> {
    let files = Files::new();
    Settings::load(&Sources::default().dotenv_file(files.write(".env", text)))
}

/// Writes `section.key = value` as a TOML document.
fn toml_of(path: &str, value: &str) -> String {
    let (section, key) = path.split_once('.').unwrap();
    format!("[{section}]\n{key} = {value}\n")
}

fn source_of<'a>(loaded: &'a Loaded, name: &str) -> &'a str {
    &loaded.entries.iter().find(|entry| entry.key.name == name).unwrap().source
}

// Accepted values.

#[test]
fn without_any_source_the_defaults_of_the_contract_hold() {
    let settings = load_ok(&[]);
    assert_eq!(settings.http.host.to_string(), "127.0.0.1");
    assert_eq!(settings.http.port, 8000);
    assert_eq!(settings.storage.data_dir, Path::new("./data"));
    assert_eq!(settings.tokens.algorithm, Algorithm::Hs256);
    assert_eq!(settings.tokens.key_rotation, Some(Duration::from_hours(90 * 24)));
    assert_eq!(load_ok(&[("KEY_ROTATION_DAYS", "0")]).tokens.key_rotation, None);
    assert_eq!(settings.tokens.access_token_lifetime, Duration::from_mins(30));
    assert_eq!(settings.sessions.idle_timeout, Duration::from_mins(30));
    assert_eq!(settings.sessions.reauth_window, Duration::from_mins(5));
    assert_eq!(settings.limits.public.permits.get(), 100);
    assert_eq!(settings.limits.public.per, Duration::from_mins(10));
    assert_eq!(settings.limits.private.permits.get(), 300);
    assert_eq!(settings.limits.private.per, Duration::from_hours(1));
    assert!(settings.limits.allow.is_empty() && settings.limits.deny.is_empty());
    assert_eq!((settings.limits.login_failures, settings.limits.address_failures), (5, 50));
    assert!(settings.http.trusted_proxies.is_empty());
    assert_eq!(settings.http.ipv6_prefix, 64);
    assert_eq!(settings.http.max_connections_per_address, 256);
    assert!(settings.http.tls.is_none() && settings.http.cors_origins.iter().next().is_none());
    assert!(settings.accounts.first_user_is_admin);
    assert!(!settings.accounts.customer_account_self_service);
    assert_eq!(settings.passwords.hash_memory_kib, 19_456);
    assert_eq!(settings.passwords.hash_iterations, 2);
    assert_eq!(settings.passwords.hash_backend, HashBackendChoice::Auto);
    assert_eq!(load_ok(&[("HASH_BACKEND", "portable")]).passwords.hash_backend, HashBackendChoice::Portable);
    assert!(settings.mail.smtp.is_none() && settings.mail.templates_dir.is_none());
    assert_eq!(settings.mail.from.to_string(), "Doorward <doorward@localhost>");
    assert_eq!(settings.mail.public_url.as_str(), "http://127.0.0.1:8000");
    assert_eq!(settings.mail.locale, Locale::En);
    assert_eq!(settings.mail.send_timeout, Duration::from_secs(30));
    assert_eq!((settings.mail.max_attempts, settings.mail.concurrency), (56, 4));
    assert_eq!(settings.log.level, "info");
    assert_eq!(settings.log.format, LogFormat::Auto);
    assert!((1..=64).contains(&settings.passwords.hash_threads));
    assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
}

#[test]
fn a_list_of_networks_is_a_text_or_an_array_and_may_be_empty() {
    let list =
        |value: &str| load_toml(&format!("[http]\ntrusted_proxies = {value}\n")).unwrap().settings.http.trusted_proxies;
    for value in ["\"10.0.0.0/8, fd00::/8\"", "[\"10.0.0.0/8\", \"fd00::/8\"]"] {
        assert_eq!(list(value), load_ok(&[("TRUSTED_PROXIES", "fd00::/8,10.0.0.0/8")]).http.trusted_proxies, "{value}");
        assert!(list(value).contains("10.1.2.3".parse().unwrap()));
    }
    for empty in ["\"\"", "[]"] {
        assert!(list(empty).is_empty(), "{empty}");
    }
}

#[test]
fn s07_no_secret_has_a_default() {
    let settings = load_ok(&[]);
    assert!(settings.tokens.secret_key.is_none());
    assert!(settings.tokens.service_token.is_none());
    assert!(settings.tokens.previous_secret_key.is_none());
}

#[test]
fn the_environment_goes_over_dotenv_over_the_file_over_the_defaults() {
    let files = Files::new();
    let config = files.write("doorward.toml", "[http]\nport = 1\nhost = \"192.0.2.1\"\nmax_connections = 1\n");
    let dotenv = files.write(".env", "PORT=2\nMAX_CONNECTIONS=2\n");
    let sources = Sources::default().config_file(&config).dotenv_file(&dotenv).environment([("PORT", "3")]);
    let loaded = Settings::load(&sources).unwrap();
    assert_eq!(loaded.settings.http.port, 3);
    assert_eq!(loaded.settings.http.max_connections, 2);
    assert_eq!(loaded.settings.http.host.to_string(), "192.0.2.1");
    assert_eq!(loaded.settings.http.header_timeout, Duration::from_secs(10));
    assert_eq!(source_of(&loaded, "PORT"), "environment variable PORT");
    assert_eq!(source_of(&loaded, "MAX_CONNECTIONS"), format!("{}: MAX_CONNECTIONS", dotenv.display()));
    assert_eq!(source_of(&loaded, "HOST"), format!("{}: http.host", config.display()));
    assert_eq!(source_of(&loaded, "HEADER_TIMEOUT_SECONDS"), "default");
}

#[test]
fn an_empty_value_counts_as_not_given() {
    let everything: Vec<_> = table::ALL.iter().flat_map(|key| key.names()).map(|name| (name, "")).collect();
    assert_eq!(format!("{:?}", load_ok(&everything)), format!("{:?}", Settings::default()));
    let files = Files::new();
    let dotenv = files.write(".env", "PORT=9000\nALGORITHM=\n");
    let sources = Sources::default().dotenv_file(dotenv).environment([("PORT", ""), ("SECRET_KEY_FILE", "")]);
    assert_eq!(Settings::load(&sources).unwrap().settings.http.port, 9000);
}

#[test]
fn other_variables_of_the_environment_are_ignored() {
    load_ok(&[("PATH", "/bin"), ("PORTS", "1"), ("port", "x"), ("HOST_FILE", "/x")]);
    let odd = [(OsString::from_vec(vec![0xff]), OsString::from_vec(vec![0xff]))];
    assert!(Settings::load(&Sources::default().environment(odd)).is_ok());
}

#[test]
fn a_missing_dotenv_file_is_no_mistake() {
    assert!(Settings::load(&Sources::default().dotenv_file("/nonexistent/.env")).is_ok());
}

#[test]
fn a_secret_of_digits_stays_text() {
    let digits = "0123456789012345678901234567890123456789";
    let secret = |settings: &Settings| settings.tokens.secret_key.as_ref().unwrap().expose().to_owned();
    assert_eq!(secret(&load_ok(&[("SECRET_KEY", digits)])), digits);
    assert_eq!(secret(&load_dotenv(&format!("SECRET_KEY={digits}\n")).unwrap().settings), digits);
    assert_eq!(load_ok(&[("TOKEN_ISSUER", "007")]).tokens.issuer, "007");
    assert_eq!(load_ok(&[("TOKEN_AUDIENCE", "true")]).tokens.audience, "true");
}

#[test]
fn a_secret_is_read_from_its_file_without_the_newline_at_its_end() {
    let files = Files::new();
    for (text, from) in [("\n", "lf"), ("\r\n", "crlf"), ("", "bare")] {
        let file = files.write(from, &format!("{KEY_A}{text}"));
        let by_environment = load_ok(&[("SECRET_KEY_FILE", file.to_str().unwrap())]);
        assert_eq!(by_environment.tokens.secret_key.unwrap().expose(), KEY_A, "{from}");
        let by_toml = load_toml(&toml_of("tokens.service_token_file", &format!("{file:?}"))).unwrap();
        assert_eq!(by_toml.settings.tokens.service_token.unwrap().expose(), KEY_A, "{from}");
    }
}

#[test]
fn g24_a_secret_in_env_is_what_docker_compose_and_node_read() {
    let secret = |text: &str| {
        let loaded = load_dotenv(&format!("{text}\nPORT=9000\n")).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(loaded.settings.http.port, 9000, "{text}");
        loaded.settings.tokens.secret_key.unwrap().expose().to_owned()
    };
    for odd in [r#"a"b'c`d"#, r"a\b\\c\n", "a'b", "a\"b", "it's", "a=b==", "a b"] {
        let expected = format!("{odd}{KEY_A}{odd}");
        let expected = expected.trim_start_matches(['\'', '"', '`']);
        assert_eq!(secret(&format!("SECRET_KEY={expected}")), expected);
        assert_eq!(secret(&format!("SECRET_KEY = {expected} # comment\r")), expected);
    }
    assert_eq!(secret(&format!("SECRET_KEY='{KEY_A}#$\"\\x'")), format!("{KEY_A}#$\"\\x"));
    assert_eq!(secret(&format!("SECRET_KEY=\"{KEY_A}#'\\n'\"")), format!("{KEY_A}#'\n'"));
}

#[test]
fn g24_an_apostrophe_in_each_of_two_values_swallows_nothing() {
    let between = format!("TOKEN_ISSUER=ann's\nSECRET_KEY={KEY_A}\nPORT=9000\nTOKEN_AUDIENCE=bob's\n");
    let settings = load_dotenv(&between).unwrap().settings;
    assert_eq!((settings.tokens.issuer.as_str(), settings.tokens.audience.as_str()), ("ann's", "bob's"));
    assert_eq!((settings.http.port, settings.tokens.secret_key.unwrap().expose()), (9000, KEY_A));
    let opened = format!("TOKEN_ISSUER='ann\nSECRET_KEY={KEY_A}\nTOKEN_AUDIENCE=bob'\n");
    let message = refusal(load_dotenv(&opened));
    assert!(message.contains("line 1 is not NAME=value: its quote is not closed"), "{message}");
}

#[test]
fn g24_every_line_that_cannot_be_read_is_named() {
    let message = refusal(load_dotenv(&format!("SECRET_KEY=`{CANARY}`\n\nPORT=\"1\" x\nHOST: x\n")));
    for line in [
        "line 1 has a value that begins with a backtick",
        "line 3 has text or a tab behind the quote",
        "line 4 is not NAME",
    ] {
        assert!(message.contains(line), "{message}");
    }
}

#[test]
fn g24_one_line_break_at_the_end_of_a_secret_is_cut_whichever_way_it_comes_in() {
    let files = Files::new();
    let all_ways = |end: &str| {
        let text = format!("{KEY_A}{end}");
        let file = files.write("secret", &text);
        let toml = text.replace('\r', "\\r").replace('\n', "\\n");
        let mut loaded = vec![
            load(&[("SECRET_KEY", &text)]),
            load(&[("SECRET_KEY_FILE", file.to_str().unwrap())]),
            load_toml(&toml_of("tokens.secret_key", &format!("\"{toml}\""))),
            load_toml(&toml_of("tokens.secret_key_file", &format!("{file:?}"))),
        ];
        if !end.contains('\r') {
            loaded.push(load_dotenv(&format!("SECRET_KEY=\"{toml}\"\n")));
        }
        loaded
    };
    for end in ["", "\n", "\r\n"] {
        for loaded in all_ways(end) {
            assert_eq!(loaded.unwrap().settings.tokens.secret_key.unwrap().expose(), KEY_A, "{end:?}");
        }
    }
    for end in ["\n\n", "\r\n\r\n", "\r"] {
        for loaded in all_ways(end) {
            assert!(refusal(loaded).contains("SECRET_KEY: ends with more than one line break"), "{end:?}");
        }
    }
    let url = load(&[("SMTP_URL", "smtp://mail.example.com\n")]).unwrap();
    assert_eq!(url.settings.mail.smtp.unwrap().host, "mail.example.com");
}

#[test]
fn idle_minutes_is_another_name_for_iddle_minutes() {
    assert_eq!(load_ok(&[("IDLE_MINUTES", "7")]).sessions.idle_timeout, Duration::from_mins(7));
    assert_eq!(load_ok(&[("IDDLE_MINUTES", "7")]).sessions.idle_timeout, Duration::from_mins(7));
    assert_eq!(load_ok(&[("IDLE_MINUTES", "7"), ("IDDLE_MINUTES", "7")]).sessions.idle_timeout.as_secs(), 420);
}

#[test]
fn the_limits_themselves_are_allowed() {
    for key in table::ALL {
        if let Kind::Integer { min, max } | Kind::PerCore { min, max } = key.kind {
            for value in [min, max] {
                load_ok(&[(key.name, &value.to_string())]);
            }
        }
    }
    let longest = "ä".repeat(255);
    assert_eq!(load_ok(&[("TOKEN_ISSUER", &longest)]).tokens.issuer, longest);
    let shortest = "x".repeat(32);
    assert!(load_ok(&[("SECRET_KEY", &shortest)]).tokens.secret_key.is_some());
    assert!(!load_ok(&[("FIRST_USER_IS_ADMIN", "False")]).accounts.first_user_is_admin);
    assert_eq!(load_ok(&[("HOST", "::1")]).http.host.to_string(), "::1");
    assert_eq!(load_ok(&[("LOG_FORMAT", "json")]).log.format, LogFormat::Json);
}

// Refused values (R13: the message names the setting and its source, and never prints a secret).

#[test]
fn r13_a_bad_value_names_the_setting_and_its_source() {
    // No setting takes a NUL character, so this also shows that a section reads every key of the table.
    let bad = format!("{CANARY}\0");
    for key in table::ALL {
        // A secret of this length is too short. A longer secret may contain any character.
        for name in key.names() {
            let message = refused(&[(name, &bad)]);
            assert!(message.contains(&format!("{}: ", key.name)), "{message}");
            assert!(message.contains(&format!("(environment variable {name})")), "{message}");

            let message = refusal(load_dotenv(&format!("{name}={bad}\n")));
            assert!(message.contains(&format!("{}: ", key.name)), "{message}");
            assert!(message.contains(&format!("/.env: {name})")), "{message}");
        }
        let message = refusal(load_toml(&toml_of(key.path, &format!("\"{CANARY}\\u0000\""))));
        assert!(message.contains(&format!("{}: ", key.name)), "{message}");
        assert!(message.contains(&format!("/doorward.toml: {})", key.path)), "{message}");
    }
}

#[test]
fn r13_values_just_outside_the_limits_are_refused() {
    for key in table::ALL {
        if let Kind::Integer { min, max } | Kind::PerCore { min, max } = key.kind {
            let mut values = vec![(max + 1).to_string(), "18446744073709551616".into(), "-1".into(), "1.0".into()];
            values.extend(min.checked_sub(1).map(|below| below.to_string()));
            values.extend([format!("+{min}"), format!(" {min}"), format!("{min} "), "0x10".into(), "1_000".into()]);
            for value in values {
                assert!(refused(&[(key.name, &value)]).contains(key.name), "{} = {value:?}", key.name);
            }
        }
    }
    for (name, value) in [
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("RATE_LIMITS_ALLOW", "10.0.0.0/33"),
        ("RATE_LIMITS_DENY", "*"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://app.example.com/"),
        ("ALGORITHM", "none"),
        ("ALGORITHM", "hs256"),
        ("ALGORITHM", "RS512"),
        ("ALGORITHM", "EDDSA"),
        ("HOST", "localhost"),
        ("HOST", "127.0.0.1:8000"),
        ("METRICS_ADDR", "0.0.0.0:9100"),
        ("METRICS_ADDR", "192.0.2.7:9100"),
        ("METRICS_ADDR", "[::]:9100"),
        ("METRICS_ADDR", "localhost:9100"),
        ("METRICS_ADDR", "127.0.0.1"),
        ("METRICS_ADDR", "9100"),
        ("FIRST_USER_IS_ADMIN", "yes"),
        ("FIRST_USER_IS_ADMIN", "1"),
        ("LOG_LEVEL", "inof"),
        ("LOG_FORMAT", "JSON"),
        ("HASH_THREADS", "Auto"),
        ("HASH_BACKEND", "fast"),
        ("PORT", "auto"),
        ("TOKEN_ISSUER", "door\nward"),
        ("TOKEN_AUDIENCE", &"x".repeat(256)),
        ("DATA_DIR", "da\0ta"),
        ("SMTP_URL", "mail.example.com:25"),
        ("SMTP_URL", "smtp://kanarienvogel@mail.example.com"),
        ("MAIL_FROM", "Doorward"),
        ("PUBLIC_URL", "https://auth.example.com?x=1"),
        ("MAIL_LOCALE", "de-AT"),
        ("RATE_LIMITS_PUBLIC_TIME_UNIT", "10minutes"),
        ("RATE_LIMITS_PRIVATE_TIME_UNIT", "0hour"),
    ] {
        assert!(refused(&[(name, value)]).contains(&format!("{name}: must be")), "{name} = {value:?}");
    }
}

#[test]
fn r13_s07_a_weak_secret_is_refused() {
    let spaced = format!("{KEY_A} {CANARY}");
    for name in ["SECRET_KEY", "SECRET_KEY_PREVIOUS", "SERVICE_TOKEN"] {
        assert!(refused(&[(name, "your_secret_key_here")]).contains(&format!("{name}: is still the placeholder")));
        assert!(refused(&[(name, &"x".repeat(31))]).contains(&format!("{name}: must be at least 32 bytes")));
    }
    assert!(refused(&[("SERVICE_TOKEN", &spaced)]).contains("SERVICE_TOKEN: must be visible ASCII"));
    assert!(load(&[("SECRET_KEY", &spaced)]).is_ok());
}

#[test]
fn r13_a_secret_file_is_checked_like_a_secret() {
    let files = Files::new();
    let short = files.write("short", &format!("{CANARY}\n"));
    let message = refused(&[("SECRET_KEY_FILE", short.to_str().unwrap())]);
    assert!(message.contains("SECRET_KEY: must be at least 32 bytes"), "{message}");
    assert!(message.contains(&format!("file {}, named by environment variable SECRET_KEY_FILE", short.display())));

    let message = refused(&[("SERVICE_TOKEN_FILE", "/nonexistent/token")]);
    assert!(message.contains("SERVICE_TOKEN: cannot be read"), "{message}");
    assert!(message.contains("/nonexistent/token"), "{message}");
    assert!(refused(&[("SECRET_KEY_FILE", files.0.path().to_str().unwrap())]).contains("SECRET_KEY: cannot be read"));
}

#[test]
fn s09_the_url_of_the_mail_server_is_kept_like_a_secret() {
    let url = format!("smtps://ann:{CANARY}@mail.example.com");
    let files = Files::new();
    let file = files.write("smtp", &format!("{url}\n"));
    for sources in [vec![("SMTP_URL", url.as_str())], vec![("SMTP_URL_FILE", file.to_str().unwrap())]] {
        let loaded = load(&sources).unwrap();
        let login = loaded.settings.mail.smtp.as_ref().unwrap().login.as_ref().unwrap();
        assert_eq!(login.password.expose(), CANARY);
        assert!(!format!("{loaded:?}").contains(CANARY), "{loaded:?}");
        assert_eq!(loaded.entries.iter().find(|entry| entry.key.name == "SMTP_URL").unwrap().value, "***");
    }
    let message = refused(&[("SMTP_URL", &url), ("SMTP_URL_FILE", file.to_str().unwrap())]);
    assert!(message.contains("SMTP_URL: is given as a value too"), "{message}");
}

#[test]
fn r13_a_secret_and_its_file_contradict_each_other_wherever_they_are() {
    let files = Files::new();
    let file = files.write("key", KEY_A);
    let file = file.to_str().unwrap();
    let message = refused(&[("SECRET_KEY", KEY_B), ("SECRET_KEY_FILE", file)]);
    assert!(message.contains("SECRET_KEY: is given as a value too, by environment variable SECRET_KEY"), "{message}");
    assert!(!message.contains(KEY_A) && !message.contains(KEY_B));

    let dotenv = files.write(".env", &format!("SECRET_KEY={KEY_B}\n"));
    let sources = Sources::default().dotenv_file(dotenv).environment([("SECRET_KEY_FILE", file)]);
    assert!(refusal(Settings::load(&sources)).contains("/.env: SECRET_KEY"));
    let both = format!("[tokens]\nsecret_key = {KEY_B:?}\nsecret_key_file = {file:?}\n");
    assert!(refusal(load_toml(&both)).contains("tokens.secret_key"));
}

#[test]
fn r13_two_names_with_different_values_contradict_each_other() {
    let message = refused(&[("IDLE_MINUTES", "7"), ("IDDLE_MINUTES", "8")]);
    assert!(message.contains("IDDLE_MINUTES: contradicts IDLE_MINUTES"), "{message}");
    let files = Files::new();
    let dotenv = files.write(".env", "IDDLE_MINUTES=8\n");
    let sources = Sources::default().dotenv_file(dotenv).environment([("IDLE_MINUTES", "7")]);
    assert_eq!(Settings::load(&sources).unwrap().settings.sessions.idle_timeout, Duration::from_mins(7));
}

#[test]
fn r13_a_config_file_must_be_there_and_be_toml() {
    let message = refusal(Settings::load(&Sources::default().config_file("/nonexistent/doorward.toml")));
    assert!(message.contains("settings file: cannot be read"), "{message}");
    assert!(message.contains("/nonexistent/doorward.toml"), "{message}");
    let message = refusal(load_toml(&format!("[tokens]\n\nsecret_key = \"{CANARY}\n")));
    assert!(message.contains("line 3 is not valid TOML"), "{message}");
    assert!(message.contains("/doorward.toml"), "{message}");
    let twice = format!("[tokens]\nsecret_key = \"{CANARY}\"\nsecret_key = \"{CANARY}\"\n");
    assert!(refusal(load_toml(&twice)).contains("line 3 is not valid TOML"));
}

#[test]
fn r13_an_unknown_name_in_a_file_is_refused() {
    for (toml, name) in [
        ("[http]\nprot = 1\n", "http.prot"),
        ("[htpp]\nport = 1\n", "htpp.port"),
        ("port = 1\n", "port"),
        ("PORT = 1\n", "PORT"),
        ("[http]\nPORT = 1\n", "(a name that is not shown)"),
        ("[http.port]\nport = 1\n", "PORT: must be"),
        ("[http]\nhost_file = \"/x\"\n", "http.host_file"),
    ] {
        let message = refusal(load_toml(toml));
        assert!(message.contains(name) && message.contains("/doorward.toml"), "{message}");
    }
    for name in ["PROT", "port", "HOST_FILE", "PORT_FILE"] {
        let message = refusal(load_dotenv(&format!("PORT=1\n{name}={CANARY}\n")));
        assert!(message.contains(&format!("{name}: is not a known setting")), "{message}");
        assert!(message.contains("/.env"), "{message}");
    }
}

#[test]
fn r13_a_certificate_without_its_key_is_refused() {
    for (given, missing) in [("TLS_CERT", "TLS_KEY"), ("TLS_KEY", "TLS_CERT")] {
        let message = refused(&[(given, "x.pem")]);
        assert!(
            message.contains(&format!("{given}: needs {missing} beside it (environment variable {given})")),
            "{message}"
        );
    }
    let both = load_ok(&[("TLS_CERT", "cert.pem"), ("TLS_KEY", "key.pem")]).http.tls.unwrap();
    assert_eq!((both.cert.to_str(), both.key.to_str()), (Some("cert.pem"), Some("key.pem")));
}

#[test]
fn r13_a_toml_value_of_the_wrong_type_is_refused() {
    for (path, value) in [
        ("tokens.issuer", "7"),
        ("tokens.secret_key", "1111111111111111111"),
        ("tokens.secret_key_file", "7"),
        ("tokens.algorithm", "true"),
        ("http.port", "8000.0"),
        ("http.port", "true"),
        ("http.port", "[8000]"),
        ("http.port", "2026-01-01"),
        ("http.port", "-1"),
        ("http.trusted_proxies", "7"),
        ("http.trusted_proxies", "[7]"),
        ("http.trusted_proxies", "[\"10.0.0.0/8,10.1.0.0/16\"]"),
        ("http.trusted_proxies", "[\"10.0.0.1/8\"]"),
        ("http.host", "\"\""),
        ("log.level", "\"\""),
        ("storage.data_dir", "\"\""),
        ("tokens.issuer", "\"\""),
        ("tokens.secret_key", "\"\""),
        ("accounts.first_user_is_admin", "1"),
    ] {
        let message = refusal(load_toml(&toml_of(path, value)));
        assert!(message.contains("must be") && message.contains(path), "{path} = {value}: {message}");
    }
    assert_eq!(load_toml("[http]\nport = \"8001\"\n").unwrap().settings.http.port, 8001);
}

#[test]
fn r13_a_dotenv_line_that_would_be_misread_is_refused() {
    for (text, problem) in [
        (format!("PORT=1\nSECRET_KEY=abc${CANARY}\n"), "line 2 has a $"),
        (format!("SECRET_KEY=\"abc${{{CANARY}}}\"\n"), "line 1 has a $"),
        (format!("PORT=1\nSECRET_KEY=#{CANARY}\n"), "line 2 has a value that begins with #"),
        (format!("PORT=1\nSECRET_KEY= # {CANARY}\n"), "line 2 has a value that begins with #"),
        (format!("SECRET_KEY={CANARY}#{CANARY}\n"), "line 1 has a # in its value"),
        (format!("# $ in a comment\n\nSECRET_KEY=\"{CANARY}\n"), "line 3 is not NAME=value"),
        (format!("PORT=1\n{CANARY} is no setting\n"), "line 2 is not NAME=value"),
        (format!("PORT=1\nPORT=2\nSECRET_KEY='{KEY_A}'\n"), "PORT: is given twice"),
        // The second line of a wrapped secret looks like a setting. The message must not repeat it as a name.
        (
            "SECRET_KEY=a\nKanarienVogel8Kanarienvogel=\n".to_owned(),
            "(a name that is not shown): is not a known setting",
        ),
    ] {
        let message = refusal(load_dotenv(&text));
        assert!(message.contains(problem), "{message}");
        assert!(message.contains("/.env"), "{message}");
        assert!(!message.contains("Kanarien") && !message.contains(KEY_A), "{message}");
    }
    let quoted =
        load_dotenv(&format!("\u{feff}# costs $5\nHOST=\nSECRET_KEY='$dollar$-{KEY_A}' # $\nexport PORT=1\n")).unwrap();
    assert_eq!(quoted.settings.tokens.secret_key.unwrap().expose(), format!("$dollar$-{KEY_A}"));
}

#[test]
fn r13_a_value_that_is_not_utf_8_is_refused() {
    let bytes = OsString::from_vec([CANARY.as_bytes(), &[0xff]].concat());
    let message = refusal(Settings::load(&Sources::default().environment([("SECRET_KEY", bytes)])));
    assert!(message.contains("SECRET_KEY: must be UTF-8 (environment variable SECRET_KEY)"), "{message}");
    let files = Files::new();
    let path = files.0.path().join(".env");
    fs::write(&path, [b"SECRET_KEY=".as_slice(), &[0xff]].concat()).unwrap();
    assert!(refusal(Settings::load(&Sources::default().dotenv_file(path))).contains(".env: cannot be read"));
}

#[test]
fn r13_all_mistakes_are_listed_at_once() {
    let files = Files::new();
    let config = files.write("doorward.toml", "[http]\nprot = 1\nport = \"x\"\n[log]\nformat = 1\n");
    let dotenv = files.write(".env", "HASH_QUEUE=0\nUNKNOWN=1\n");
    let sources = Sources::default().config_file(config).dotenv_file(dotenv).environment([
        ("ALGORITHM", "x"),
        ("SECRET_KEY", CANARY),
        ("HASH_ITERATIONS", "1"),
    ]);
    let message = refusal(Settings::load(&sources));
    let names =
        ["http.prot", "PORT", "LOG_FORMAT", "HASH_QUEUE", "UNKNOWN", "ALGORITHM", "SECRET_KEY", "HASH_ITERATIONS"];
    for name in names {
        assert!(message.contains(&format!("  {name}: ")), "{name} in {message}");
    }
    assert_eq!(message.lines().count(), 1 + names.len(), "{message}");
}

#[test]
fn s09_loaded_settings_do_not_print_their_secrets() {
    let files = Files::new();
    let file = files.write("token", KEY_B);
    let loaded = load(&[("SECRET_KEY", KEY_A), ("SERVICE_TOKEN_FILE", file.to_str().unwrap())]).unwrap();
    let printed = format!("{loaded:?}{:#?}", loaded.settings);
    assert!(!printed.contains(KEY_A) && !printed.contains(KEY_B));
    let value = |name: &str| loaded.entries.iter().find(|entry| entry.key.name == name).unwrap().value.clone();
    assert_eq!(value("SECRET_KEY"), "***");
    assert_eq!(value("SERVICE_TOKEN"), "***");
}
