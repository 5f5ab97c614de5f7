//! The table of all settings: the only place that names them.
//!
//! The loader reads it and `check-config` prints it. A test compares `config/default.toml`, `docs/settings.md` and `docker-compose.yml`
//! with it.

use std::fmt;

/// One setting, as operators see it.
#[derive(Debug)]
pub struct Key {
    /// Its name in the environment and in `.env`.
    pub name: &'static str,
    /// Other names for it in the environment.
    pub aliases: &'static [&'static str],
    /// Its place in the TOML file, `section.key`.
    pub path: &'static str,
    /// Other places for it in the TOML file.
    pub path_aliases: &'static [&'static str],
    /// The kind of its values.
    pub kind: Kind,
    /// The default value. `None` if the setting then has no value; see [`Key::when_unset`].
    pub default: Option<&'static str>,
    /// Its meaning, in one line.
    pub meaning: &'static str,
    /// Whether SIGHUP brings a changed value into force. Otherwise it takes a restart.
    pub reloads: bool,
}

/// The kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text of 1 to 255 characters without control characters.
    Text,
    /// An IP address, not a host name.
    Address,
    /// A loopback IP address with a port.
    LoopbackSocket,
    /// A whole number between two limits, both included.
    Integer {
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// A whole number with the same limits, or `auto`: the number of cores.
    PerCore {
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A span of time such as `minute`, `10minute`, `1hour`, `30second` or `1day`.
    TimeUnit,
    /// A path of the file system.
    Path,
    /// A tracing level, or a filter made of directives.
    LogFilter,
    /// A secret of at least 32 bytes, never printed; `NAME_FILE` may name a file that holds it.
    Secret,
    /// The URL of an SMTP server, treated as a secret because it may hold a password.
    SmtpUrl,
    /// A mailbox of RFC 5322: an address, or a name with an address in angle brackets.
    Mailbox,
    /// An absolute web URL with nothing after its path.
    WebUrl,
    /// IP addresses and networks, separated by commas. In the TOML file also an array.
    Networks,
    /// Web origins, separated by commas. In the TOML file also an array.
    Origins,
}

impl Key {
    const fn new(
        name: &'static str,
        path: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        meaning: &'static str,
    ) -> Self {
        Self { name, aliases: &[], path, path_aliases: &[], kind, default, meaning, reloads: false }
    }

    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn also_at(mut self, path_aliases: &'static [&'static str]) -> Self {
        self.path_aliases = path_aliases;
        self
    }

    const fn reloads(mut self, reloads: bool) -> Self {
        self.reloads = reloads;
        self
    }

    /// Returns whether the value must never be printed.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::SmtpUrl)
    }

    /// Describes what a setting without a default means when it is not set.
    #[must_use]
    pub fn when_unset(&self) -> &'static str {
        match self.kind {
            Kind::Secret if self.name == "SECRET_KEY_PREVIOUS" => "none",
            Kind::Secret => "made at the first start",
            Kind::Networks | Kind::Origins => "none",
            _ => "not set",
        }
    }

    /// Returns the name that holds the path of a file with the value. Only secrets have one.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        self.is_secret().then(|| format!("{}_FILE", self.name))
    }

    /// Returns the place of [`Key::file_name`] in the TOML file.
    #[must_use]
    pub fn file_path(&self) -> Option<String> {
        self.is_secret().then(|| format!("{}_file", self.path))
    }

    /// Returns the name and all aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Returns the place in the TOML file and all its aliases.
    pub fn places(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.path).chain(self.path_aliases.iter().copied())
    }
}

impl fmt::Display for Kind {
    /// Writes the limits as text that follows "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("1 to 255 characters, none of them a control character"),
            Self::Address => f.write_str("an IP address"),
            Self::LoopbackSocket => f.write_str("a loopback IP address with a port, such as 127.0.0.1:9100 or [::1]:9100"),
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::PerCore { min, max } => {
                write!(f, "a whole number from {min} to {max}, or auto (the number of cores)")
            }
            Self::Flag => f.write_str("true or false"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::TimeUnit => {
                f.write_str("second, minute, hour or day, optionally with a whole number before it, at most 366day")
            }
            Self::Path => f.write_str("a path"),
            Self::LogFilter => f.write_str("off, error, warn, info, debug, trace, or a list of target=level"),
            Self::Secret => f.write_str("at least 32 bytes"),
            Self::SmtpUrl => f.write_str(
                "an smtp://, smtp+starttls:// or smtps:// URL with a host, and optionally a port and a user with a password",
            ),
            Self::Mailbox => f.write_str("an e-mail address, or a name followed by one in angle brackets"),
            Self::WebUrl => f.write_str("an http:// or https:// URL without user, query and fragment"),
            Self::Origins => f.write_str("origins such as https://app.example.com, separated by commas, as browsers send them"),
            Self::Networks => f.write_str(
                "IP addresses and networks such as 192.0.2.7, 10.0.0.0/8 and fd00::/8, separated by commas, with no bits set after the prefix",
            ),
        }
    }
}

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

const fn per_core(min: u64, max: u64) -> Kind {
    Kind::PerCore { min, max }
}

/// The maximum number of requests that a limit may grant in its span of time.
const MAX_PERMITS: u64 = 1_000_000;
/// A year, in minutes.
const YEAR_MINUTES: u64 = 365 * 24 * 60;

/// Settings of the service that Doorward replaces, without a counterpart here: its account database and its log database.
pub static RETIRED: &[&str] = &["DATABASE_URL", "LOG_DATABASE_URL"];

macro_rules! keys {
    ($($name:ident = $path:literal, $kind:expr, $default:expr, $meaning:expr
        $(, or $aliases:expr)? $(, also_at $places:expr)?
        $(, reloads $reloads:literal)?;)*) => {
        $(
            #[doc = concat!("`", $path, "`")]
            pub static $name: Key =
                Key::new(stringify!($name), $path, $kind, $default, $meaning)$(.or($aliases))?$(.also_at($places))?
                    $(.reloads($reloads))?;
        )*

        /// Every setting, in the order in which the documents list them.
        pub static ALL: &[&Key] = &[$(&$name),*];
    };
}

keys! {
    HOST = "http.host", Kind::Address, Some("127.0.0.1"),
        "The address to listen on; 0.0.0.0 or :: means every interface.";
    PORT = "http.port", integer(0, 65_535), Some("8000"),
        "The TCP port to listen on; 0 selects a free one, which the log names.";
    MAX_CONNECTIONS = "http.max_connections", integer(1, 1_000_000), Some("8192"),
        "How many connections may be open at once; further ones wait to be accepted. Also how many HTTP/2 requests may be open at once; further ones are answered with 503.";
    MAX_CONNECTIONS_PER_ADDRESS = "http.max_connections_per_address", integer(1, 1_000_000), Some("256"),
        "How many connections one client address may have open at once; further ones are closed. Also how many HTTP/2 requests; further ones are answered with 503. TRUSTED_PROXIES are exempt.";
    HEADER_TIMEOUT_SECONDS = "http.header_timeout_seconds", integer(1, 300), Some("10"),
        "How long a client may take to send the head of a request, in seconds; then its connection is closed. An idle connection is closed after the same time.";
    REQUEST_TIMEOUT_SECONDS = "http.request_timeout_seconds", integer(1, 3600), Some("30"),
        "How long a request may take from its head to its answer, in seconds; then it is answered with 408 if its body is still arriving, else with 503.";
    SHUTDOWN_TIMEOUT_SECONDS = "http.shutdown_timeout_seconds", integer(1, 600), Some("7"),
        "How long a stop may take before it is forced, in seconds; Docker kills the process after 10 seconds by default.";
    TRUSTED_PROXIES = "http.trusted_proxies", Kind::Networks, None,
        "The proxies whose Forwarded or X-Forwarded-For header is trusted to name the client address.";
    IPV6_PREFIX = "http.ipv6_prefix", integer(32, 128), Some("64"),
        "How many leading bits of an IPv6 address identify one client, for every limit by address.";
    TLS_CERT = "http.tls_cert", Kind::Path, None,
        "A PEM file with the certificate of the server and its chain; the port then accepts TLS only. A changed file is loaded without a restart.";
    TLS_KEY = "http.tls_key", Kind::Path, None,
        "A PEM file with the private key of TLS_CERT.";
    CORS_ORIGINS = "http.cors_origins", Kind::Origins, None,
        "The origins whose pages may read answers in browsers (CORS), on every route except those of services.", reloads true;
    DOCS = "http.docs", Kind::Choice(&["on", "off"]), Some("on"),
        "Whether /docs and /openapi.json are served; with off, both answer 404.";
    METRICS_ADDR = "http.metrics_addr", Kind::LoopbackSocket, None,
        "An address of this machine on which /metrics is served without a token, over plain HTTP, for a Prometheus on the same machine.";

    DATA_DIR = "storage.data_dir", Kind::Path, Some("./data"),
        "The directory of the database, the generated secrets and the mail spool.";
    MIN_FREE_MIB = "storage.min_free_mib", integer(0, 1_048_576), Some("256"),
        "How much of the disk of DATA_DIR must be free, in MiB; with less, the health is degraded and the log warns. 0 switches this off.";

    BACKUP_EVERY = "backup.every", Kind::TimeUnit, None,
        "How long after a backup the server makes the next one; if it is not set, the server makes none by itself.";
    BACKUP_KEEP = "backup.keep", integer(1, 10_000), Some("7"),
        "How many of the backups that the server made by itself are kept; the oldest are removed after a new one was checked.";
    BACKUP_DIR = "backup.dir", Kind::Path, None,
        "The directory of these backups; if it is not set, it is backups in DATA_DIR. Use another disk than that of DATA_DIR.";

    SECRET_KEY = "tokens.secret_key", Kind::Secret, None,
        "The secret that signs access tokens; if it is not set, the first start creates one in the data directory.";
    SECRET_KEY_PREVIOUS = "tokens.secret_key_previous", Kind::Secret, None,
        "The SECRET_KEY before the present one; its tokens and the links in queued mails stay valid until they expire.";
    ALGORITHM = "tokens.algorithm", Kind::Choice(&["HS256", "HS384", "HS512", "EdDSA", "ES256", "RS256"]), Some("HS256"),
        "The algorithm that signs access tokens: HS* uses SECRET_KEY; the others use key pairs, which Doorward creates and whose public keys it publishes.";
    KEY_ROTATION_DAYS = "tokens.key_rotation_days", integer(0, 3650), Some("90"),
        "After how many days a new key pair replaces the one that signs; 0 means never. Only the operator can change SECRET_KEY.";
    ACCESS_TOKEN_EXPIRE_MINUTES = "tokens.access_token_expire_minutes", integer(1, YEAR_MINUTES), Some("30"),
        "The lifetime of an access token, in minutes.";
    TOKEN_ISSUER = "tokens.issuer", Kind::Text, Some("doorward"),
        "The iss claim of access tokens.";
    TOKEN_AUDIENCE = "tokens.audience", Kind::Text, Some("doorward"),
        "The aud claim of access tokens.";
    SERVICE_TOKEN = "tokens.service_token", Kind::Secret, None,
        "The token that services without a token of their own send in X-Service-Token; if it is not set, the first start creates one in the data directory.";
    VERIFY_CACHE_SECONDS = "tokens.verify_cache_seconds", integer(0, 300), Some("0"),
        "How long a service may cache the answer of /verify, in seconds; it may accept a revoked token for that much longer. 0 forbids caching.";

    IDDLE_MINUTES = "sessions.idle_minutes", integer(1, YEAR_MINUTES), Some("30"),
        "How long a session may be idle before it expires, in minutes; REMEMBER_DAYS replaces it for remembered sessions.", or &["IDLE_MINUTES"];
    SESSION_MAX_DAYS = "sessions.max_days", integer(1, 365), Some("30"),
        "How long after its login a session expires, in days, even if it is in use.";
    REMEMBER_DAYS = "sessions.remember_days", integer(1, 365), Some("30"),
        "How long a session may be idle before it expires, in days, if its login asked to be remembered.";
    REFRESH_GRACE_SECONDS = "sessions.refresh_grace_seconds", integer(0, 300), Some("10"),
        "How long a refresh token is still accepted after it was exchanged, in seconds; a later use ends the session.";
    REAUTH_MINUTES = "sessions.reauth_minutes", integer(1, 1440), Some("5"),
        "How long after a login sensitive changes need no current_password, in minutes.";
    ADMIN_REAUTH_MINUTES = "sessions.admin_reauth_minutes", integer(1, 1440), Some("15"),
        "How long after a login an administrator may change other accounts, service tokens and signing keys without current_password, in minutes.";
    MAX_SESSIONS_PER_USER = "sessions.max_per_user", integer(1, 1000), Some("20"),
        "How many sessions an account may have; a further login ends the one that was idle for longest.";
    SESSION_SHARDS = "sessions.shards", per_core(1, 64), Some("auto"),
        "How many actors share the live sessions.";

    HASH_THREADS = "passwords.hash_threads", per_core(1, 64), Some("auto"),
        "How many threads hash passwords; this number times HASH_MEMORY_KIB is the maximum memory of hashing.";
    HASH_BACKEND = "passwords.hash_backend", Kind::Choice(&["auto", "portable"]), Some("auto"),
        "Which implementation computes hashes; auto selects a faster one if the processor supports it and it passes a self-test at the start.";
    HASH_MEMORY_KIB = "passwords.hash_memory_kib", integer(19_456, 1_048_576), Some("19456"),
        "The memory cost of one argon2id hash, in KiB.";
    HASH_ITERATIONS = "passwords.hash_iterations", integer(2, 16), Some("2"),
        "The number of passes of one argon2id hash.";
    HASH_QUEUE = "passwords.hash_queue", integer(1, 65_536), Some("256"),
        "How many logins may wait for their hash; as many new passwords may wait as well. Further requests are answered with 503.";
    HASH_DEADLINE_MS = "passwords.hash_deadline_ms", integer(100, 60_000), Some("5000"),
        "How long a hash may wait before it starts, in milliseconds; then its request is answered with 503.";
    PASSWORD_MIN_SCORE = "passwords.min_score", integer(0, 4), Some("2"),
        "The minimum zxcvbn score of a new password; 0 accepts every score, 4 only passwords that are very hard to guess.";
    BREACHED_PASSWORDS_FILE = "passwords.breached_file", Kind::Path, None,
        "A file with the SHA-1 hashes of breached passwords, sorted, in the format of Have I Been Pwned; new passwords on this list are refused.", reloads true;

    RATE_LIMITS_PUBLIC_ROUTES = "limits.public_routes", integer(1, MAX_PERMITS), Some("100"),
        "How many requests a client address may make on public routes in RATE_LIMITS_PUBLIC_TIME_UNIT; further ones are answered with 429.", reloads true;
    RATE_LIMITS_PUBLIC_TIME_UNIT = "limits.public_time_unit", Kind::TimeUnit, Some("10minute"),
        "The period for which RATE_LIMITS_PUBLIC_ROUTES counts requests.",
        or &["RATE_LIMITS_PUBLIC_ROUTES_TIME_UNIT"], also_at &["limits.public_routes_time_unit"], reloads true;
    RATE_LIMITS_PRIVATE_ROUTES = "limits.private_routes", integer(1, MAX_PERMITS), Some("300"),
        "How many requests an account may make on bearer routes in RATE_LIMITS_PRIVATE_TIME_UNIT; further ones are answered with 429.", reloads true;
    RATE_LIMITS_PRIVATE_TIME_UNIT = "limits.private_time_unit", Kind::TimeUnit, Some("60minute"),
        "The period for which RATE_LIMITS_PRIVATE_ROUTES counts requests.",
        or &["RATE_LIMITS_PRIVATE_ROUTES_TIME_UNIT"], also_at &["limits.private_routes_time_unit"], reloads true;
    RATE_LIMITS_ALLOW = "limits.allow", Kind::Networks, None,
        "The client addresses whose requests are not counted by address.", reloads true;
    RATE_LIMITS_DENY = "limits.deny", Kind::Networks, None,
        "The client addresses whose requests are refused with 429.", reloads true;
    LOGIN_FAILURES = "limits.login_failures", integer(1, 100), Some("5"),
        "How many attempts at an account may fail from unknown addresses; then it answers them with 429 for 1, 2, 4 … 60 minutes.", reloads true;
    ADDRESS_FAILURES = "limits.address_failures", integer(1, 10_000), Some("50"),
        "How many attempts of one client address may fail, over all accounts; then it gets 429 for 1, 2, 4 … 60 minutes.", reloads true;

    FIRST_USER_IS_ADMIN = "accounts.first_user_is_admin", Kind::Flag, Some("true"),
        "Whether the first account ever registered in a data directory becomes an administrator.";
    CUSTOMER_ACCOUNT_SELF_SERVICE = "accounts.customer_account_self_service", Kind::Flag, Some("false"),
        "Whether people may choose their own customer_account; otherwise only administrators can.";
    REQUIRE_EMAIL_VERIFICATION = "accounts.require_email_verification", Kind::Flag, Some("false"),
        "Whether people can log in only after their address is verified; a newer registration then replaces an unverified account.";
    UNVERIFIED_TTL_DAYS = "accounts.unverified_ttl_days", Kind::Integer { min: 1, max: 365 }, Some("7"),
        "After how many days an account that was never verified is removed, if REQUIRE_EMAIL_VERIFICATION is true.";
    ENUMERATION_SAFE_REGISTRATION = "accounts.enumeration_safe_registration", Kind::Flag, Some("false"),
        "Whether a registration gets the same answer for a free and a taken address; the owner of a taken one gets a mail.";
    RECOVERY_MODE = "accounts.recovery_mode", Kind::Choice(&["passphrase", "email", "either", "email_and_passphrase"]), Some("either"),
        "How a forgotten password is replaced: with the passphrase, with a link in a mail, with either, or with both together.";
    VERIFICATION_TTL_HOURS = "accounts.verification_ttl_hours", Kind::Integer { min: 1, max: 720 }, Some("48"),
        "How long a link to verify an address is valid, in hours.";
    RECOVERY_TTL_MINUTES = "accounts.recovery_ttl_minutes", Kind::Integer { min: 5, max: 1440 }, Some("30"),
        "How long a link to choose a new password is valid, in minutes.";
    ADDRESS_CHANGE_TTL_HOURS = "accounts.address_change_ttl_hours", Kind::Integer { min: 1, max: 720 }, Some("24"),
        "How long a link to confirm a new address is valid, in hours.";
    ADDRESS_CHANGE_UNDO_HOURS = "accounts.address_change_undo_hours", Kind::Integer { min: 1, max: 720 }, Some("72"),
        "How long a link to undo a change of address, password or passphrase is valid, in hours; until then the old address stays reserved.";

    SMTP_URL = "mail.smtp_url", Kind::SmtpUrl, None,
        "The mail server; the scheme selects the encryption. If it is not set, mails are written to files in DATA_DIR/mail.";
    SMTP_CA_FILE = "mail.smtp_ca_file", Kind::Path, None,
        "A PEM file with certificates that are trusted for the mail server in addition to the public authorities.";
    MAIL_FROM = "mail.from", Kind::Mailbox, Some("Doorward <doorward@localhost>"),
        "The sender of mails.";
    PUBLIC_URL = "mail.public_url", Kind::WebUrl, Some("http://127.0.0.1:8000"),
        "The URL at which people reach this service; every link in a mail begins with it.";
    UNREACHABLE_ADDRESSES = "mail.unreachable_addresses", Kind::Choice(&["warn", "refuse"]), Some("warn"),
        "What happens to an address that cannot get mail because the mail server lacks SMTPUTF8: warn accepts it with a warning in the answer, refuse answers 400.";
    MAIL_LOCALE = "mail.locale", Kind::Choice(&["en", "de", "fr", "es", "ro"]), Some("en"),
        "The language of mails to people whose language is not known.";
    MAIL_TEMPLATES_DIR = "mail.templates_dir", Kind::Path, None,
        "A directory of templates that replace the built-in ones of the same names.", reloads true;
    MAIL_SEND_TIMEOUT_SECONDS = "mail.send_timeout_seconds", integer(1, 600), Some("30"),
        "How long the delivery of one mail may take, in seconds; then the attempt has failed.";
    MAIL_MAX_ATTEMPTS = "mail.max_attempts", integer(1, 100), Some("56"),
        "How many times a mail is tried before it is given up; 56 attempts take about two days.";
    MAIL_CONCURRENCY = "mail.concurrency", integer(1, 64), Some("4"),
        "How many mails may be sent at once.";

    AUDIT_RETENTION_DAYS = "audit.retention_days", integer(1, 3650), Some("365"),
        "After how many days an audit record is removed.";
    AUDIT_MAX_MEBIBYTES = "audit.max_mebibytes", integer(1, 1_048_576), Some("1024"),
        "The maximum size of the audit log, in MiB of records; beyond it the oldest records are removed.";

    LOG_LEVEL = "log.level", Kind::LogFilter, Some("info"),
        "What is logged: a level, or a list of target=level.", reloads true;
    LOG_FORMAT = "log.format", Kind::Choice(&["auto", "pretty", "json"]), Some("auto"),
        "The format of the log on standard error; auto means pretty on a terminal, else json.";
    LOG_PII = "log.pii", Kind::Flag, Some("false"),
        "Whether the log contains e-mail addresses; otherwise it contains pseudonyms that change with each start.";
    LOG_VERIFY_SAMPLE = "log.verify_sample", integer(0, 1_000_000), Some("1000"),
        "The log contains one of this many successful token checks; 0 logs none of them.";
}
