//! The templates that are built into the binary.

/// The mails of one language, each in a file of its own. Every kind is listed here once. A missing file is a compile error.
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

/// The layout of text parts.
pub(super) const TEXT_FRAME: &str = "frame.txt";
/// The layout of HTML parts.
pub(super) const HTML_FRAME: &str = "frame.html";

/// Returns the names and sources of all built-in templates.
pub(super) fn templates() -> impl Iterator<Item = (&'static str, &'static str)> {
    let frames: &[_] =
        &[(TEXT_FRAME, include_str!("templates/frame.txt")), (HTML_FRAME, include_str!("templates/frame.html"))];
    let all: [&[(&str, &str)]; 6] = [frames, mails!("en"), mails!("de"), mails!("fr"), mails!("es"), mails!("ro")];
    all.into_iter().flatten().copied()
}
