//! The closed sets of texts in requests and answers, as `openapi.json` names them. A generated client has one type for
//! each.
//!
//! These types have no values. The program works with the enumeration behind each, if there is one.

use std::borrow::Cow;

use doorward_actors::LimitKey;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Declares the schema of each set: its name and all its texts.
macro_rules! closed_sets {
    ($($(#[doc = $doc:literal])+ $name:ident = $texts:expr;)+) => {$(
        $(#[doc = $doc])+
        pub(in crate::http) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let description = concat!($($doc),+).trim();
                let texts = ObjectBuilder::new().schema_type(Type::String).enum_values(Some($texts));
                texts.description(Some(description)).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )+};
}

closed_sets! {
    /// An event of the audit log.
    AuditEvent = doorward_actors::AuditEvent::ALL.iter().map(|event| event.as_str());
    /// Whether it was done or refused.
    AuditOutcome = doorward_actors::AuditOutcome::ALL.map(doorward_actors::AuditOutcome::as_str);
    /// Why it was refused.
    AuditRefusal = doorward_actors::AuditRefusal::ALL.iter().map(|refusal| refusal.as_str());
    /// The format of an export of the audit log.
    ExportFormat = ["ndjson", "csv"];
    /// Who made an account: its owner, an administrator, or an import from another system.
    AccountOrigin = ["owner", "admin", "import"];
    /// What the link in a mail is for.
    LinkPurpose = doorward_actors::TokenPurpose::ALL.map(doorward_actors::TokenPurpose::as_str);
    /// What a mail is about.
    MailTemplate = doorward_actors::MailKind::ALL.map(doorward_actors::MailKind::as_str);
    /// `queued`: it will be tried. `dead`: it will not, unless an administrator retries it.
    MailState = ["queued", "dead"];
    /// What is counted: requests for `public` and `private`, failed attempts for all others.
    RateLimitPolicy = LimitKey::POLICIES;
    /// What was revoked.
    RevocationKind = ["session_ended", "account_locked", "account_deleted", "role_changed", "keys_replaced"];
    /// What a service may do.
    ServiceScope = doorward_actors::ServiceScope::ALL.iter().map(|scope| scope.as_str());
    /// How access tokens are signed.
    SigningAlgorithm = doorward_actors::SigningAlgorithm::ALL.map(doorward_actors::SigningAlgorithm::as_str);
    /// `next`: published, will sign soon. `signing`: signs now. `retired`: its tokens are accepted until they expire.
    KeyState = ["next", "signing", "retired"];
    /// Whether an actor runs.
    ActorState = ["starting", "running", "restarting", "stopped"];
    /// The vector instructions of the fast password hashing. `portable`: the implementation that runs everywhere.
    HasherBackend = ["avx512", "avx2", "neon", "portable"];
    /// `verification`: logins and sensitive changes. `creation`: registrations, new passwords, recoveries, password checks.
    HasherLaneName = ["verification", "creation"];
    /// What is wrong. `stopping`: the service stops. `store`: it does not take a write and return it. `disk_full`: the next commits may
    /// fail. `disk_low`: less is free than `MIN_FREE_MIB`. `backup_overdue`: a scheduled backup failed or takes too long. `actor`: it does not answer. `stuck_actor`: it has messages and finishes none.
    /// `restart_storm`: it was restarted five times or more within a minute.
    HealthCheck = doorward_actors::Check::ALL.map(doorward_actors::Check::as_str);
    /// A quota of requests.
    QuotaPolicy = ["public", "docs", "private"];
    /// Whether everything works.
    SystemStatus = ["ok", "degraded"];
    /// Whether the process answers (`ok`), and whether it can work.
    ProbeStatus = ["ok", "ready", "not_ready"];
    /// The codes of RFC 6749 §5.2 and RFC 6750 §3.1.
    OauthError = ["invalid_client", "invalid_request", "insufficient_scope"];
}

/// A file of another format than text.
pub(in crate::http) enum BinaryFile {}

impl PartialSchema for BinaryFile {
    fn schema() -> RefOr<Schema> {
        TextFile::schema()
    }
}

impl ToSchema for BinaryFile {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("BinaryFile")
    }
}

/// A text file. Its schema is binary, so that clients do not parse it by its media type: a line is not the whole document.
pub(in crate::http) enum TextFile {}

impl PartialSchema for TextFile {
    fn schema() -> RefOr<Schema> {
        let binary = utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(binary)).into()
    }
}

impl ToSchema for TextFile {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("TextFile")
    }
}
