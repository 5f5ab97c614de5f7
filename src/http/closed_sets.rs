//! The closed sets of texts that the interface takes and gives, as `openapi.json` names them. A generated client has one
//! type for each.
//!
//! Nothing is ever of these types: what the program works with is the enumeration behind each, where there is one.

use std::borrow::Cow;

use doorward_actors::LimitKey;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Declares the schema of each set: its name, and every text of it.
macro_rules! closed_sets {
    ($($(#[doc = $doc:literal])+ $name:ident = $texts:expr;)+) => {$(
        $(#[doc = $doc])+
        pub(super) enum $name {}

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
    /// Something that is put on record.
    AuditEvent = doorward_actors::AuditEvent::ALL.iter().map(|event| event.as_str());
    /// Whether it was done.
    AuditOutcome = doorward_actors::AuditOutcome::ALL.map(doorward_actors::AuditOutcome::as_str);
    /// Why it was not done.
    AuditRefusal = doorward_actors::AuditRefusal::ALL.iter().map(|refusal| refusal.as_str());
    /// What a file of the audit log is.
    ExportFormat = ["ndjson", "csv"];
    /// What a mail is about.
    MailTemplate = doorward_actors::MailKind::ALL.map(doorward_actors::MailKind::as_str);
    /// Whether a mail will be tried (`queued`), or not unless an administrator says so (`dead`).
    MailState = ["queued", "dead"];
    /// What is counted: `public` and `private` are requests, all others failed attempts.
    RateLimitPolicy = LimitKey::POLICIES;
    /// What was revoked.
    RevocationKind = ["session_ended", "account_locked", "account_deleted", "role_changed", "keys_replaced"];
    /// What a service may do.
    ServiceScope = doorward_actors::ServiceScope::ALL.iter().map(|scope| scope.as_str());
    /// How access tokens are signed.
    SigningAlgorithm = doorward_actors::SigningAlgorithm::ALL.map(doorward_actors::SigningAlgorithm::as_str);
    /// `next`: published, and signs soon. `signing`. `retired`: its tokens are accepted until they are over.
    KeyState = ["next", "signing", "retired"];
    /// Whether an actor runs.
    ActorState = ["starting", "running", "restarting", "stopped"];
    /// The vector instructions of the fast implementation of password hashes; `portable`: the one that runs everywhere.
    HasherBackend = ["avx512", "avx2", "neon", "portable"];
    /// `verification`: logins and sensitive changes. `creation`: registrations, new passwords, recoveries, password checks.
    HasherLaneName = ["verification", "creation"];
    /// Whether everything works.
    SystemStatus = ["ok", "degraded"];
    /// Whether the process answers (`ok`), and whether it can work.
    ProbeStatus = ["ok", "ready", "not_ready"];
    /// The codes of RFC 6749 §5.2 and RFC 6750 §3.1.
    OauthError = ["invalid_client", "invalid_request", "insufficient_scope"];
}

/// A file of text. Clients must not take it apart by its media type, as a line of it is no JSON document of the whole.
pub(super) enum TextFile {}

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
