//! Parses the typed fields of a body into usable values. All fields are parsed, and all errors are reported together.

use std::fmt::Display;

use doorward_actors::{CustomerAccount, Email, Nickname, Passphrase, Password, Secret};

use crate::http::error::{ApiError, FieldError};

/// Collects the errors of a body.
#[derive(Debug, Default)]
pub(in crate::http) struct Fields(Vec<FieldError>);

impl Fields {
    fn take<T, E: Display>(&mut self, pointer: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.0.push(FieldError::new(pointer, sentence(&error)))).ok()
    }

    pub(in crate::http) fn email(&mut self, typed: &str) -> Option<Email> {
        self.take("/email", Email::parse(typed))
    }

    pub(in crate::http) fn nickname(&mut self, typed: &str) -> Option<Nickname> {
        self.take("/nickname", Nickname::parse(typed))
    }

    /// Parses a password. `pointer` is the field's name on this route.
    pub(in crate::http) fn password(&mut self, pointer: &str, typed: impl Into<Secret>) -> Option<Password> {
        self.take(pointer, Password::new(typed))
    }

    pub(in crate::http) fn passphrase(&mut self, typed: &str) -> Option<Passphrase> {
        self.take("/passphrase", Passphrase::parse(typed))
    }

    pub(in crate::http) fn customer_account(&mut self, typed: &str) -> Option<CustomerAccount> {
        self.take("/customer_account", CustomerAccount::parse(typed))
    }

    /// Fails if any field had an error. The error has all of them.
    pub(in crate::http) fn check(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

impl From<Fields> for ApiError {
    fn from(fields: Fields) -> Self {
        Self::Invalid(fields.0)
    }
}

/// Makes a sentence of an error. The domain writes its errors as clauses, but clients read sentences.
fn sentence(error: &impl Display) -> String {
    let clause = error.to_string();
    let mut chars = clause.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
