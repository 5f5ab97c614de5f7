//! `doorward mail test`.

use doorward_actors::ports::Clock as _;
use doorward_actors::{Email, Locale};

use super::TestMail;
use crate::ambient::SystemClock;
use crate::mail::Transport;
use crate::run::RunError;
use crate::settings::Settings;

/// Sends a test mail in the same way as any other mail, and prints the result.
pub(super) async fn send_test(settings: Settings, test: TestMail) -> Result<(), RunError> {
    let to =
        Email::parse(&test.address).map_err(|error| RunError::Input { what: "the address", why: error.to_string() })?;
    let locale = match test.locale.as_deref() {
        None => settings.mail.locale,
        Some(tag) => Locale::from_tag(tag).ok_or_else(|| RunError::Input {
            what: "--locale",
            why: format!("mails are written in {}", Locale::ALL.map(Locale::as_str).join(", ")),
        })?,
    };
    let transport = Transport::new(&settings)?;
    let place = transport.send_test(&to, locale, SystemClock::new().now()).await?;
    super::print(&format!("The mail to {to} was handed to {place}.\n"));
    Ok(())
}
