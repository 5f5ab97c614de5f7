use super::{
    AdminChange, ConfirmError, Confirmed, DeleteError, LoggedIn, LoginAttempt, LoginError, MailedRecovery,
    MailedRecoveryError, OwnChange, OwnChanged, ProofError, RecoverError, RecoveryAttempt, RefreshError, Refreshed,
    RegisterError, Registered, Registration, UpdateError,
};
use crate::ask::Unavailable;
use crate::domain::account::AccountId;
use crate::domain::audit::AuditEvent;
use crate::domain::email::Email;
use crate::domain::password::Password;
use crate::domain::secret::Secret;
use crate::domain::session::Acting;
use crate::domain::session::Origin;
use crate::process::Reply;
use crate::session::Principal;

/// A request to the user actor and its origin.
pub(crate) struct Message {
    pub(crate) origin: Origin,
    /// The span of the request, so that every line logged on its behalf carries its id.
    pub(crate) span: tracing::Span,
    pub(crate) request: Request,
}

/// The creator of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creator {
    /// The owner, by registering.
    Owner,
    /// An administrator, for somebody else.
    Admin(Acting),
}

pub(crate) enum Request {
    Register {
        registration: Registration,
        by: Creator,
        reply: Reply<Result<Registered, RegisterError>>,
    },
    Login {
        attempt: LoginAttempt,
        reply: Reply<Result<LoggedIn, LoginError>>,
    },
    Refresh {
        token: Secret,
        reply: Reply<Result<Refreshed, RefreshError>>,
    },
    HolderOfRefresh {
        token: Secret,
        reply: Reply<Result<Principal, RefreshError>>,
    },
    OwnerOfRefresh {
        token: Secret,
        reply: Reply<Result<Option<AccountId>, Unavailable>>,
    },
    LookAtRefresh {
        token: Secret,
        reply: Reply<Result<Option<Principal>, Unavailable>>,
    },
    Recover {
        attempt: RecoveryAttempt,
        reply: Reply<Result<(), RecoverError>>,
    },
    ResendVerification {
        email: Email,
        reply: Reply<()>,
    },
    MailReset {
        email: Email,
        reply: Reply<()>,
    },
    RecoverByMail {
        recovery: MailedRecovery,
        reply: Reply<Result<(), MailedRecoveryError>>,
    },
    RepeatRecovery {
        token: Secret,
        password: Password,
        reply: Reply<Result<bool, MailedRecoveryError>>,
    },
    ConfirmEmail {
        token: Secret,
        reply: Reply<Result<Confirmed, ConfirmError>>,
    },
    Undo {
        token: Secret,
        reply: Reply<Result<(), ConfirmError>>,
    },
    /// Remove accounts that were not verified in time. Sent by a timer.
    RemoveUnverified,
    UpdateOwn {
        principal: Principal,
        change: OwnChange,
        current_password: Option<Password>,
        reply: Reply<Result<OwnChanged, UpdateError>>,
    },
    DeleteOwn {
        principal: Principal,
        current_password: Option<Password>,
        reply: Reply<Result<(), DeleteError>>,
    },
    /// Verify that an administrator may do something sensitive.
    Prove {
        admin: Principal,
        event: AuditEvent,
        current_password: Option<Password>,
        reply: Reply<Result<Principal, ProofError>>,
    },
    UpdateByAdmin {
        admin: Principal,
        id: AccountId,
        change: AdminChange,
        current_password: Option<Password>,
        reply: Reply<Result<(), UpdateError>>,
    },
    DeleteByAdmin {
        admin: Principal,
        id: AccountId,
        current_password: Option<Password>,
        reply: Reply<Result<(), DeleteError>>,
    },
}
