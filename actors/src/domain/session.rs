//! Sessions: what a login opens, and when it is over.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::account::{AccountId, Role};
use super::time::Timestamp;

/// The longest user agent that is kept, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;

/// The name of a session: 128 random bits (S40), written as 22 characters of URL-safe base64. Knowing it opens nothing; only a
/// signed token that carries it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A session id from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads the written form; `None` for anything that is not exactly one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        // The decoder wants room for its own estimate, so it gets two bytes more than an id has.
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

/// Where a request came from, for the record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// What the client calls itself, cut to 256 bytes with control characters removed.
    pub user_agent: Option<String>,
    /// The id of the request, as in `X-Request-Id`.
    pub request_id: Option<String>,
}

impl Origin {
    /// An origin; the user agent is made safe to keep and to show.
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

/// What an owner calls a session: 1 to 64 characters, none of them a control character, and no space at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLabel(Box<str>);

/// Why a text is not a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a label is 1 to 64 characters, none of them a control character")]
pub struct SessionLabelError;

impl SessionLabel {
    /// Takes a label; spaces around it are dropped.
    pub fn parse(typed: &str) -> Result<Self, SessionLabelError> {
        let typed = typed.trim();
        let fits = (1..=MAX_LABEL_CHARS).contains(&typed.chars().count()) && !typed.chars().any(is_invisible);
        if fits { Ok(Self(typed.into())) } else { Err(SessionLabelError) }
    }

    /// The label.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, and what breaks lines or turns the direction of what is shown after it (S71).
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A session as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whose it is.
    pub account: AccountId,
    /// The account's `session_epoch` when it was opened; another number there means it is over.
    pub epoch: u64,
    /// When its owner logged in.
    pub created_at: Timestamp,
    /// When its owner last proved in it who they are (`auth_time` of `OpenID` Connect Core, section 2). `None` since a new
    /// password was set in it: whoever holds the session could not know that one (S05, S74).
    pub authenticated_at: Option<Timestamp>,
    /// When it ends, whatever happens (S39).
    pub expires_at: Timestamp,
    /// When it was last used. A crash loses the last 5 s of it, or more where very many sessions are in use (ADR 035).
    pub last_active_at: Timestamp,
    /// Where the login or the last refresh came from.
    pub address: Option<IpAddr>,
    /// What the client called itself then.
    pub user_agent: Option<String>,
    /// When its owner was last told that it was refreshed from an unknown network.
    pub notified_at: Option<Timestamp>,
    /// What its owner calls it.
    pub label: Option<SessionLabel>,
    /// Whether it was asked to live through days without use.
    pub remembered: bool,
}

/// How long sessions live.
#[derive(Debug, Clone, Copy)]
pub struct SessionPolicy {
    /// The longest pause between two uses (`IDDLE_MINUTES`).
    pub idle_timeout: Duration,
    /// The same for sessions that are to be remembered (`REMEMBER_DAYS`).
    pub remembered_idle_timeout: Duration,
    /// The longest life from login on (`SESSION_MAX_DAYS`), at least that of an access token.
    pub lifetime: Duration,
    /// How long an access token is good for (`ACCESS_TOKEN_EXPIRE_MINUTES`), unless its session ends before.
    pub access_lifetime: Duration,
    /// How long a refresh token is honoured once it was replaced (`REFRESH_GRACE_SECONDS`).
    pub refresh_grace: Duration,
    /// How many live sessions an account may have; a login beyond it ends the one idle for longest (S42).
    pub max_per_account: usize,
}

impl SessionPolicy {
    /// Whether a session is still alive at `now`: not idle for longer than allowed, and not past its end. The moment of
    /// expiry itself counts as over (RFC 7519 §4.1.4).
    #[must_use]
    pub fn is_alive(&self, session: &Session, now: Timestamp) -> bool {
        now < self.ends_at(session) && now.since(session.last_active_at) <= self.idle_timeout_of(session)
    }

    /// When a session is over, whatever happens: a maximum that was lowered counts for those that were opened before, too.
    #[must_use]
    pub fn ends_at(&self, session: &Session) -> Timestamp {
        session.expires_at.min(session.created_at.plus(self.lifetime))
    }

    /// The longest pause between two uses of a session.
    #[must_use]
    pub fn idle_timeout_of(&self, session: &Session) -> Duration {
        if session.remembered { self.remembered_idle_timeout } else { self.idle_timeout }
    }

    /// When an access token issued now to a session is over.
    pub(crate) fn access_ends_at(&self, session: &Session, now: Timestamp) -> Timestamp {
        now.plus(self.access_lifetime).min(self.ends_at(session))
    }
}

/// How far ahead of the clock the last use of a stored session may lie. One further ahead was noted before the clock was set
/// back, and nobody knows how long ago that was.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

/// The present, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The time of day, which an operator or NTP may set.
    pub(crate) wall: Timestamp,
    /// Time since some moment, which never jumps.
    pub(crate) monotonic: Duration,
}

/// When the owner of a session showed a password, by both clocks: neither, set back, makes a login fresh again (S05, R05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoginTime {
    wall: Timestamp,
    /// Milliseconds on the clock that never jumps; negative before the process began.
    monotonic: i64,
}

impl LoginTime {
    /// A login that was `wall` by the time of day. What happened before the process began is known by that clock alone.
    pub(crate) fn of(wall: Timestamp, now: Now) -> Self {
        Self { wall, monotonic: millis(now.monotonic).saturating_sub(millis(now.wall.since(wall))) }
    }

    /// How long ago it was: the longer of what the two clocks say.
    pub(crate) fn age(&self, now: Now) -> Duration {
        let passed = millis(now.monotonic).saturating_sub(self.monotonic);
        now.wall.since(self.wall).max(Duration::from_millis(u64::try_from(passed).unwrap_or(0)))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When a live session is over by the clock that never jumps: the wall clock, set back, must keep none alive (R05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    idle_until: Duration,
    ends_at: Duration,
}

impl Deadlines {
    /// The deadlines of a session that is alive by the wall clock.
    pub(crate) fn of(session: &Session, policy: &SessionPolicy, now: Now) -> Self {
        let idle_for = now.wall.since(session.last_active_at);
        let lifetime = policy.ends_at(session).since(now.wall).min(policy.lifetime);
        Self {
            idle_until: now.monotonic.saturating_add(policy.idle_timeout_of(session).saturating_sub(idle_for)),
            ends_at: now.monotonic.saturating_add(lifetime),
        }
    }

    /// The session was used.
    pub(crate) fn restart_idle(&mut self, session: &Session, policy: &SessionPolicy, now: Now) {
        self.idle_until = now.monotonic.saturating_add(policy.idle_timeout_of(session));
    }

    /// Another process used the session, as its stored last use says. Its end comes no later for that.
    pub(crate) fn used_elsewhere(&mut self, session: &Session, policy: &SessionPolicy, now: Now) {
        let anew = Self::of(session, policy, now);
        *self = Self { idle_until: anew.idle_until, ends_at: self.ends_at.min(anew.ends_at) };
    }

    /// How much longer it may go unused.
    pub(crate) fn idle_left(&self, now: Now) -> Duration {
        self.idle_until.saturating_sub(now.monotonic)
    }

    /// Whether the session is alive by this clock.
    pub(crate) fn hold(&self, now: Now) -> bool {
        now.monotonic <= self.idle_until && now.monotonic < self.ends_at
    }
}

impl SessionPolicy {
    /// Whether a session that was stored by an earlier process may be taken for alive.
    pub(crate) fn may_revive(&self, session: &Session, now: Timestamp) -> bool {
        self.is_alive(session, now) && session.last_active_at <= now.plus(CLOCK_TOLERANCE)
    }
}

/// In whose name a change is made. It is made only if the session is there still, its account is unlocked and at its epoch, and
/// has this role: checked in the commit itself, so that a logout, a lock or a demotion that was acknowledged before stops
/// the change (S37, S38). Whether the session was idle for too long is its shard's business and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting {
    /// Who acts.
    pub account: AccountId,
    /// In which session.
    pub session: SessionId,
    /// What that needs: an administrator may act as a user, but not the other way round.
    pub role: Role,
    /// For what needs proof of who acts: the epoch of the account when that proof was looked at. A new password since then
    /// raised it and ended the freshness of the session, so the change is refused (S05, S77).
    pub proven_at: Option<u64>,
}

/// Which of the sessions of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichSessions {
    /// This one.
    One(SessionId),
    /// All but this one.
    AllBut(SessionId),
    /// All of them.
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
        // Read by a process whose clock was set back before it began.
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
