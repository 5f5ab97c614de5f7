//! Sessions: a login opens one, and these rules say when it ends.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::account::{AccountId, Role};
use super::time::Timestamp;

/// The longest user agent that is kept, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;

/// The id of a session: 128 random bits (S40), written as 22 characters of URL-safe base64.
/// The id alone gives no access; only a signed token that contains it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Makes a session id from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses the written form; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        // The decoder checks the buffer against its own size estimate, which is two bytes more than an id has.
        let mut buffer = [0; 18];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?;
        if length != bytes.len() {
            return None;
        }
        bytes.copy_from_slice(&buffer[..length]);
        Some(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The origin of a request, for the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The client's `User-Agent`, cut to 256 bytes, without control characters.
    pub user_agent: Option<String>,
    /// The id of the request, as in `X-Request-Id`.
    pub request_id: Option<String>,
}

impl Origin {
    /// Makes an origin. Cuts and cleans the user agent, so that it is safe to keep and to show.
    #[must_use]
    pub fn new(address: Option<IpAddr>, user_agent: Option<&str>, request_id: Option<String>) -> Self {
        let user_agent = user_agent.map(|agent| {
            let mut kept = String::new();
            for c in agent.chars().filter(|c| !c.is_control()) {
                if kept.len() + c.len_utf8() > MAX_USER_AGENT_BYTES {
                    break;
                }
                kept.push(c);
            }
            kept
        });
        Self { address, user_agent, request_id }
    }
}

/// The longest label, in characters.
const MAX_LABEL_CHARS: usize = 64;

/// The owner's name for a session: 1 to 64 characters, no control characters, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLabel(Box<str>);

/// The error for a text that is not a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a label is 1 to 64 characters, none of them a control character")]
pub struct SessionLabelError;

impl SessionLabel {
    /// Parses a label; removes spaces around it.
    pub fn parse(typed: &str) -> Result<Self, SessionLabelError> {
        let typed = typed.trim();
        let fits = (1..=MAX_LABEL_CHARS).contains(&typed.chars().count()) && !typed.chars().any(is_invisible);
        if fits { Ok(Self(typed.into())) } else { Err(SessionLabelError) }
    }

    /// Returns the label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a character is a control character, breaks lines or changes the text direction (S71).
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A session as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The account's `session_epoch` when it was opened. The session has ended if the account's epoch is another one now.
    pub epoch: u64,
    /// When its owner logged in.
    pub created_at: Timestamp,
    /// When the owner last proved their identity in it (`auth_time` of `OpenID` Connect Core, section 2).
    /// `None` once a new password was set in it: the holder of the session may not know that password (S05, S74).
    pub authenticated_at: Option<Timestamp>,
    /// When it ends at the latest (S39).
    pub expires_at: Timestamp,
    /// When it was last used. A crash loses up to the last 5 s of uses, or more if very many sessions are in use (ADR 035).
    pub last_active_at: Timestamp,
    /// The address of the login or the last refresh.
    pub address: Option<IpAddr>,
    /// The client's `User-Agent` at that time.
    pub user_agent: Option<String>,
    /// When its owner was last notified of a refresh from an unknown network.
    pub notified_at: Option<Timestamp>,
    /// The owner's name for it.
    pub label: Option<SessionLabel>,
    /// Whether it is to stay alive through days without use.
    pub remembered: bool,
}

/// The lifetimes of sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPolicy {
    /// The maximum pause between two uses (`IDDLE_MINUTES`).
    pub idle_timeout: Duration,
    /// The same for remembered sessions (`REMEMBER_DAYS`).
    pub remembered_idle_timeout: Duration,
    /// The maximum lifetime from login on (`SESSION_MAX_DAYS`), at least that of an access token.
    pub lifetime: Duration,
    /// The lifetime of an access token (`ACCESS_TOKEN_EXPIRE_MINUTES`), unless its session ends earlier.
    pub access_lifetime: Duration,
    /// How long a refresh token is still accepted after its rotation (`REFRESH_GRACE_SECONDS`).
    pub refresh_grace: Duration,
    /// The maximum number of live sessions of an account; a login beyond it ends the session that was idle for longest (S42).
    pub max_per_account: usize,
}

impl SessionPolicy {
    /// Returns whether a session is alive at `now`: not idle for too long and not past its end.
    /// At the exact time of expiry it has already expired (RFC 7519 §4.1.4).
    #[must_use]
    pub fn is_alive(&self, session: &Session, now: Timestamp) -> bool {
        now < self.ends_at(session) && now.since(session.last_active_at) <= self.idle_timeout_of(session)
    }

    /// Returns when a session ends at the latest. A lowered maximum also applies to sessions that were opened before.
    #[must_use]
    pub fn ends_at(&self, session: &Session) -> Timestamp {
        session.expires_at.min(session.created_at.plus(self.lifetime))
    }

    /// Returns the maximum pause between two uses of a session.
    #[must_use]
    pub fn idle_timeout_of(&self, session: &Session) -> Duration {
        if session.remembered { self.remembered_idle_timeout } else { self.idle_timeout }
    }

    /// Returns when an access token that is issued to a session now expires.
    pub(crate) fn access_ends_at(&self, session: &Session, now: Timestamp) -> Timestamp {
        now.plus(self.access_lifetime).min(self.ends_at(session))
    }
}

/// How far ahead of the clock the last use of a stored session may lie.
/// A use further ahead was stored before the clock was set back, so its real age is unknown.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

/// The current time, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The wall clock, which an operator or NTP may set.
    pub(crate) wall: Timestamp,
    /// The monotonic clock, which never jumps.
    pub(crate) monotonic: Duration,
}

/// When the owner of a session presented a password, on both clocks.
/// Setting either clock back does not make a login recent again (S05, R05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginTime {
    wall: Timestamp,
    /// Milliseconds on the monotonic clock; negative before the process started.
    monotonic: i64,
}

impl LoginTime {
    /// Makes the time of a login at `wall`. The age of a login from before the process started is known from the wall clock alone.
    pub(crate) fn of(wall: Timestamp, now: Now) -> Self {
        Self { wall, monotonic: millis(now.monotonic).saturating_sub(millis(now.wall.since(wall))) }
    }

    /// Returns the age of the login: the longer of the two clocks' values.
    pub(crate) fn age(&self, now: Now) -> Duration {
        let passed = millis(now.monotonic).saturating_sub(self.monotonic);
        now.wall.since(self.wall).max(Duration::from_millis(u64::try_from(passed).unwrap_or(0)))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When a live session ends on the monotonic clock. Setting the wall clock back therefore keeps no session alive (R05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    idle_until: Duration,
    ends_at: Duration,
}

impl Deadlines {
    /// Computes the deadlines of a session that is alive on the wall clock.
    pub(crate) fn of(session: &Session, policy: &SessionPolicy, now: Now) -> Self {
        let idle_for = now.wall.since(session.last_active_at);
        let lifetime = policy.ends_at(session).since(now.wall).min(policy.lifetime);
        Self {
            idle_until: now.monotonic.saturating_add(policy.idle_timeout_of(session).saturating_sub(idle_for)),
            ends_at: now.monotonic.saturating_add(lifetime),
        }
    }

    /// Restarts the idle period, because the session was used.
    pub(crate) fn restart_idle(&mut self, session: &Session, policy: &SessionPolicy, now: Now) {
        self.idle_until = now.monotonic.saturating_add(policy.idle_timeout_of(session));
    }

    /// Updates the idle deadline after another process used the session, as its stored last use says.
    /// This never moves the end of the session to a later time.
    pub(crate) fn used_elsewhere(&mut self, session: &Session, policy: &SessionPolicy, now: Now) {
        let anew = Self::of(session, policy, now);
        *self = Self { idle_until: anew.idle_until, ends_at: self.ends_at.min(anew.ends_at) };
    }

    /// Returns the time that is left of the idle period.
    pub(crate) fn idle_left(&self, now: Now) -> Duration {
        self.idle_until.saturating_sub(now.monotonic)
    }

    /// Returns whether the session is alive on this clock.
    pub(crate) fn hold(&self, now: Now) -> bool {
        now.monotonic <= self.idle_until && now.monotonic < self.ends_at
    }
}

impl SessionPolicy {
    /// Returns whether a session that an earlier process stored may be considered alive.
    pub(crate) fn may_revive(&self, session: &Session, now: Timestamp) -> bool {
        self.is_alive(session, now) && session.last_active_at <= now.plus(CLOCK_TOLERANCE)
    }
}

/// The session in whose name a change is made.
/// The commit makes the change only if the session still exists, its account is unlocked, has the session's epoch and has this role.
/// So a logout, a lock or a demotion that was acknowledged before stops the change (S37, S38).
/// The idle time is not checked here; the shard of the session does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting {
    /// The account that acts.
    pub account: AccountId,
    /// The session in which it acts.
    pub session: SessionId,
    /// The required role. An administrator may act as a user, but not the reverse.
    pub role: Role,
    /// For a change that requires proof of identity: the account's epoch when the proof was checked.
    /// A new password increments the epoch and ends the recency of the login, so the change is refused (S05, S77).
    pub proven_at: Option<u64>,
}

/// A selection of an account's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichSessions {
    /// This one.
    One(SessionId),
    /// All sessions except this one.
    AllBut(SessionId),
    /// All sessions.
    All,
}

impl WhichSessions {
    pub(crate) fn include(self, session: SessionId) -> bool {
        match self {
            Self::One(one) => session == one,
            Self::AllBut(kept) => session != kept,
            Self::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            id: SessionId::from_bytes([7; 16]),
            account: AccountId::new(1).unwrap(),
            epoch: 0,
            created_at: Timestamp::from_millis(0),
            authenticated_at: Some(Timestamp::from_millis(0)),
            expires_at: Timestamp::from_millis(100_000),
            last_active_at: Timestamp::from_millis(10_000),
            address: None,
            user_agent: None,
            notified_at: None,
            label: None,
            remembered: false,
        }
    }

    fn policy(lifetime: u64) -> SessionPolicy {
        SessionPolicy {
            idle_timeout: Duration::from_secs(30),
            remembered_idle_timeout: Duration::from_mins(1),
            lifetime: Duration::from_secs(lifetime),
            access_lifetime: Duration::from_secs(20),
            refresh_grace: Duration::from_secs(10),
            max_per_account: 3,
        }
    }

    #[test]
    fn s39_a_lowered_maximum_counts_for_sessions_from_before() {
        let (policy, session) = (policy(25), session());
        let end = Timestamp::from_millis(25_000);
        assert_eq!(policy.ends_at(&session), end);
        assert!(policy.is_alive(&session, Timestamp::from_millis(24_999)) && !policy.is_alive(&session, end));
        assert_eq!(policy.access_ends_at(&session, Timestamp::from_millis(20_000)), end);
    }

    #[test]
    fn s39_a_remembered_session_may_rest_for_longer_and_lives_no_longer() {
        let remembered = Session { remembered: true, ..session() };
        let at = |millis| policy(100).is_alive(&remembered, Timestamp::from_millis(millis));
        assert!(at(70_000));
        assert!(!at(70_001));
        let busy = Session { last_active_at: Timestamp::from_millis(99_000), ..remembered.clone() };
        assert!(!policy(100).is_alive(&busy, Timestamp::from_millis(100_000)));
        let at =
            |wall, monotonic| Now { wall: Timestamp::from_millis(wall), monotonic: Duration::from_millis(monotonic) };
        let mut deadlines = Deadlines::of(&remembered, &policy(100), at(20_000, 0));
        assert!(deadlines.hold(at(0, 50_000)));
        assert!(!deadlines.hold(at(0, 50_001)));
        deadlines.restart_idle(&remembered, &policy(100), at(0, 10_000));
        assert!(deadlines.hold(at(0, 70_000)));
        assert!(!deadlines.hold(at(0, 80_000)), "its end came");
        let end = policy(100).access_ends_at(&remembered, Timestamp::from_millis(90_000));
        assert_eq!(end.as_millis(), 100_000, "no token outlives its session");
    }

    #[test]
    fn a_label_is_short_and_visible() {
        for good in ["Phone", " Phone ", "Büro, 2. Stock", &"é".repeat(64)] {
            assert_eq!(SessionLabel::parse(good).unwrap().as_str(), good.trim());
        }
        for bad in ["", "  ", "a\nb", "a\u{1b}[31m", "\u{202e}abc", &"é".repeat(65)] {
            assert_eq!(SessionLabel::parse(bad), Err(SessionLabelError), "{bad:?}");
        }
    }

    #[test]
    fn s39_idle_and_absolute_lifetimes_end_a_session() {
        let policy = policy(100);
        let at = |millis| policy.is_alive(&session(), Timestamp::from_millis(millis));
        assert!(at(40_000));
        assert!(!at(40_001));
        let busy = Session { last_active_at: Timestamp::from_millis(99_000), ..session() };
        assert!(policy.is_alive(&busy, Timestamp::from_millis(99_999)));
        assert!(!policy.is_alive(&busy, Timestamp::from_millis(100_000)));
    }

    #[test]
    fn r05_a_wall_clock_set_back_keeps_no_session_alive() {
        let policy = policy(100);
        let at =
            |wall, monotonic| Now { wall: Timestamp::from_millis(wall), monotonic: Duration::from_millis(monotonic) };
        let mut deadlines = Deadlines::of(&session(), &policy, at(20_000, 500));
        assert!(deadlines.hold(at(0, 20_500)));
        assert_eq!(deadlines.idle_left(at(0, 20_500)), Duration::ZERO);
        assert_eq!(deadlines.idle_left(at(0, 500)), Duration::from_secs(20));
        assert!(!deadlines.hold(at(0, 20_501)));
        deadlines.restart_idle(&session(), &policy, at(0, 60_000));
        assert!(deadlines.hold(at(0, 80_499)));
        assert!(!deadlines.hold(at(0, 80_500)), "its end came");
        // Read by a process that started after its clock had been set back.
        let early = Deadlines::of(&session(), &policy, at(-500_000, 0));
        assert!(!early.hold(at(-400_000, 100_000)), "not longer than a lifetime");
        assert!(policy.may_revive(&session(), Timestamp::from_millis(-50_000)));
        assert!(!policy.may_revive(&session(), Timestamp::from_millis(-50_001)));
    }

    #[test]
    fn s05_r05_a_clock_set_back_makes_no_login_fresh() {
        let at =
            |wall, monotonic| Now { wall: Timestamp::from_millis(wall), monotonic: Duration::from_millis(monotonic) };
        let age = |login: LoginTime, now| login.age(now).as_millis();
        let login = LoginTime::of(Timestamp::from_millis(10_000), at(10_000, 500));
        assert_eq!(age(login, at(17_000, 7_500)), 7_000);
        assert_eq!(age(login, at(-90_000, 7_500)), 7_000, "set back");
        assert_eq!(age(login, at(90_000, 7_500)), 80_000, "set forward");
        let before = LoginTime::of(Timestamp::from_millis(-20_000), at(10_000, 500));
        assert_eq!(age(before, at(-90_000, 1_500)), 31_000, "in an earlier process");
    }

    #[test]
    fn a_session_id_reads_back_and_nothing_else_does() {
        let id = SessionId::from_bytes([0xF5; 16]);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        for bad in [
            "",
            "x",
            "9fX19fX19fX19fX19fX19",
            "9fX19fX19fX19fX19fX19fX19fX1",
            "9fX19fX19fX19fX19fX19!",
            &"a".repeat(5000),
        ] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn s71_a_user_agent_is_cut_and_cleaned() {
        let origin = Origin::new(None, Some("a\r\nb\x1b[31m"), None);
        assert_eq!(origin.user_agent.as_deref(), Some("ab[31m"));
        let long = Origin::new(None, Some(&"é".repeat(500)), None);
        assert_eq!(long.user_agent.unwrap().len(), 256);
    }
}
