//! What travels in more than one family: parts of requests and answers.

use std::borrow::Cow;

use doorward_actors::{Account, Locale, Password, ProfileChange, Registration, Role, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::fields::Fields;

/// The message of every kind of recovery.
pub(super) const PASSWORD_CHANGED: &str = "Password changed successfully";

/// The result of a request.
#[derive(Serialize, ToSchema)]
pub(super) struct Message {
    /// One sentence.
    pub(super) message: Cow<'static, str>,
    /// A warning, such as that no mail can be sent to the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) warning: Option<&'static str>,
}

impl Message {
    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), warning: None }
    }

    pub(super) fn warning(self, warning: Option<&'static str>) -> Self {
        Self { warning, ..self }
    }
}

/// The result of a request.
#[derive(Serialize, ToSchema)]
pub(super) struct Detail {
    /// One sentence.
    pub(super) detail: &'static str,
}

/// What an account may do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Role)]
pub(super) enum WireRole {
    User,
    Admin,
}

impl From<Role> for WireRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Admin => Self::Admin,
        }
    }
}

impl From<WireRole> for Role {
    fn from(role: WireRole) -> Self {
        match role {
            WireRole::User => Self::User,
            WireRole::Admin => Self::Admin,
        }
    }
}

/// A language of mails.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Locale)]
pub(super) enum WireLocale {
    En,
    De,
    Fr,
    Es,
    Ro,
}

impl From<WireLocale> for Locale {
    fn from(locale: WireLocale) -> Self {
        match locale {
            WireLocale::En => Self::En,
            WireLocale::De => Self::De,
            WireLocale::Fr => Self::Fr,
            WireLocale::Es => Self::Es,
            WireLocale::Ro => Self::Ro,
        }
    }
}

impl From<Locale> for WireLocale {
    fn from(locale: Locale) -> Self {
        match locale {
            Locale::En => Self::En,
            Locale::De => Self::De,
            Locale::Fr => Self::Fr,
            Locale::Es => Self::Es,
            Locale::Ro => Self::Ro,
        }
    }
}

/// A new account. All members except `customer_account` and `locale` are required.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterRequest {
    /// Unique. Case is ignored.
    #[schema(format = Email, example = "ann@example.com", max_length = 254)]
    email: String,
    /// Unique.
    #[schema(example = "ann", min_length = 1, max_length = 64)]
    nickname: String,
    /// At least 15 characters, or 8 with upper case, lower case, digit and special; not easy to guess. At most 1,024
    /// bytes.
    #[schema(value_type = String, format = Password, example = "quiet-lamp-tree")]
    password: Secret,
    /// Recovers the account if the password is lost. Case and spacing are ignored. At most 1,024 bytes.
    #[schema(value_type = String, format = Password, min_length = 1, example = "my first car was blue")]
    passphrase: Secret,
    /// Only `none` unless the service lets users choose.
    #[schema(example = "none", max_length = 64)]
    customer_account: Option<String>,
    /// The language of its mails. If left out: the one that `Accept-Language` prefers, else the operator's.
    locale: Option<WireLocale>,
}

impl RegisterRequest {
    /// Parses the registration. Its language is `preferred` if the body names none.
    pub(super) fn parse(self, preferred: Option<Locale>) -> Result<Registration, ApiError> {
        let mut fields = Fields::default();
        let email = fields.email(&self.email);
        let nickname = fields.nickname(&self.nickname);
        let password = fields.password("/password", self.password);
        let passphrase = fields.passphrase(self.passphrase.expose());
        let mut profile = profile(&mut fields, self.customer_account, self.locale);
        profile.locale = profile.locale.or(preferred);
        match (email, nickname, password, passphrase, fields.check()) {
            (Some(email), Some(nickname), Some(password), Some(passphrase), Ok(())) => {
                Ok(Registration { email, nickname, password, passphrase, profile })
            }
            (.., Err(wrong)) => Err(wrong),
            // A field that is missing here has left an error in `fields`.
            (.., Ok(())) => Err(ApiError::Internal),
        }
    }
}

/// Parses the fields that need no proof.
pub(super) fn profile(
    fields: &mut Fields,
    customer_account: Option<String>,
    locale: Option<WireLocale>,
) -> ProfileChange {
    let customer_account = customer_account.and_then(|plan| fields.customer_account(&plan));
    ProfileChange { customer_account, locale: locale.map(Locale::from) }
}

/// Defines the body of a change of an account: the fields that owners and administrators share, and those of this body alone.
macro_rules! account_change {
    ($(#[$about:meta])* struct $name:ident {
        $(#[$proof:meta])* current_password,
        $($(#[$field_about:meta])* $field:ident: $kind:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        struct $name {
            #[schema(min_length = 1, max_length = 64)]
            nickname: Option<String>,
            #[schema(format = Email, max_length = 254)]
            email: Option<String>,
            #[schema(value_type = Option<String>, format = Password)]
            password: Option<Secret>,
            #[schema(value_type = Option<String>, format = Password, min_length = 1)]
            passphrase: Option<Secret>,
            #[schema(max_length = 64)]
            customer_account: Option<String>,
            /// The language of its mails.
            locale: Option<WireLocale>,
            $($(#[$field_about])* $field: $kind,)*
            $(#[$proof])*
            #[schema(value_type = Option<String>, format = Password)]
            current_password: Option<Secret>,
        }

        impl $name {
            /// Parses the shared fields, and the caller's current password if one was sent.
            fn parse(self) -> Result<(OwnChange, Option<Password>), ApiError> {
                let mut fields = Fields::default();
                let own = OwnChange {
                    email: self.email.and_then(|email| fields.email(&email)),
                    nickname: self.nickname.and_then(|nickname| fields.nickname(&nickname)),
                    password: self.password.and_then(|password| fields.password("/password", password)),
                    passphrase: self.passphrase.and_then(|passphrase| fields.passphrase(passphrase.expose())),
                    profile: profile(&mut fields, self.customer_account, self.locale),
                };
                let current = self.current_password.and_then(|password| fields.password("/current_password", password));
                fields.check()?;
                Ok((own, current))
            }
        }
    };
}
pub(super) use account_change;

/// The names of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountSummary<'a> {
    /// Never reused.
    #[schema(minimum = 1)]
    id: u64,
    nickname: &'a str,
    #[schema(format = Email)]
    email: &'a str,
    /// Says that no mail can be sent to the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) warning: Option<&'static str>,
}

impl<'a> AccountSummary<'a> {
    pub(super) fn of(account: &'a Account) -> Self {
        Self { id: account.id.get(), nickname: account.nickname.as_str(), email: account.email.as_str(), warning: None }
    }

    pub(super) fn warning(self, warning: Option<&'static str>) -> Self {
        Self { warning, ..self }
    }
}

/// Proof for a sensitive request: the password, unless the login is recent enough.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MyAccountDeletion)]
pub(super) struct Reauthentication {
    /// The caller's current password.
    #[schema(value_type = Option<String>, format = Password)]
    pub(super) current_password: Option<Secret>,
}

impl Reauthentication {
    /// Parses the password, if one was sent.
    pub(super) fn parse(self) -> Result<Option<Password>, ApiError> {
        current_password(self.current_password)
    }
}

/// Parses the caller's current password, if one was sent.
pub(super) fn current_password(typed: Option<Secret>) -> Result<Option<Password>, ApiError> {
    let mut fields = Fields::default();
    let current = typed.and_then(|password| fields.password("/current_password", password));
    fields.check()?;
    Ok(current)
}

/// An address that may have an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressRequest {
    #[schema(format = Email, example = "ann@example.com", max_length = 254)]
    email: String,
}

impl AddressRequest {
    pub(super) fn parse(&self) -> Result<doorward_actors::Email, ApiError> {
        let mut fields = Fields::default();
        fields.email(&self.email).ok_or_else(|| fields.into())
    }
}
