//! The templates that are in the binary.

/// The mails of one language; each is one file. Every kind is named here once, and the compiler wants the file of each.
macro_rules! mails {
    ($language:literal) => {
        mails!(
            $language: "common",
            "account_deleted",
            "account_locked",
            "account_unlocked",
            "address_change_pending",
            "address_changed",
            "address_in_use",
            "confirm_new_address",
            "new_sign_in",
            "passphrase_changed",
            "passphrase_needed",
            "password_changed",
            "recovery_used",
            "refresh_reused",
            "reset_password",
            "test",
            "verify_address",
        )
    };
    ($language:literal: $($name:literal,)*) => {
        &[$((
            concat!($language, "/", $name, ".jinja"),
            include_str!(concat!("templates/", $language, "/", $name, ".jinja")),
        )),*]
    };
}

/// How text parts are laid out.
pub(super) const TEXT_FRAME: &str = "frame.txt";
/// How HTML parts are laid out.
pub(super) const HTML_FRAME: &str = "frame.html";

/// Names and sources.
pub(super) fn templates() -> impl Iterator<Item = (&'static str, &'static str)> {
    let frames: &[_] =
        &[(TEXT_FRAME, include_str!("templates/frame.txt")), (HTML_FRAME, include_str!("templates/frame.html"))];
    let all: [&[(&str, &str)]; 6] = [frames, mails!("en"), mails!("de"), mails!("fr"), mails!("es"), mails!("ro")];
    all.into_iter().flatten().copied()
}
