//! Mails: composed from templates, then sent by SMTP or written to files.
//!
//! This is the only part that knows the format and the transport of a message. The rest of the program sees [`MailTransport`].

mod embedded;
mod message;
mod plain;
mod smtp;
mod spool;
mod templates;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use doorward_actors::ports::{MailTransport, SendError};
use doorward_actors::{Email, Locale, OutgoingMail, Timestamp};

use crate::settings::{MailSettings, Settings};
use message::{Composed, Composer};
use smtp::Smtp;
use spool::Spool;
use templates::Templates;

pub use smtp::TlsSetupError;
pub use templates::TemplateError;

/// The directory in the data directory that holds mails if there is no mail server.
const SPOOL: &str = "mail";

/// Why mails cannot be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub enum MailSetupError {
    /// A template is wrong.
    #[error("a mail template cannot be used: {0}")]
    Template(#[from] TemplateError),
    /// The certificates for the mail server are not usable.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The directory for mails is not usable.
    #[error("the directory {} for mails cannot be used: {source}", path.display())]
    Spool {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Returns the mail transport of the settings. Reads and checks the templates and certificates.
pub fn transport(settings: &Settings) -> Result<Arc<dyn MailTransport>, MailSetupError> {
    Ok(Arc::new(Transport::new(settings)?))
}

/// Composes mails and delivers them.
pub(crate) struct Transport {
    /// A reload replaces it.
    composer: ArcSwap<Composer>,
    way: TransportKind,
}

/// Templates that were read and checked.
pub(crate) struct NewTemplates(Composer);

/// The transport of mails.
enum TransportKind {
    Smtp(Smtp),
    Spool(Spool),
}

impl Transport {
    pub(crate) fn new(settings: &Settings) -> Result<Self, MailSetupError> {
        let mail = &settings.mail;
        let composer = Composer::new(Templates::load(mail.templates_dir.as_deref())?, mail);
        let way = if let Some(server) = mail.smtp.clone() {
            let ca_file = mail.smtp_ca_file.as_deref();
            TransportKind::Smtp(Smtp::new(server, ca_file, composer.domain(), mail.send_timeout)?)
        } else {
            let path = settings.storage.data_dir.join(SPOOL);
            let spool = Spool::open(path.clone());
            TransportKind::Spool(spool.map_err(|source| MailSetupError::Spool { path, source })?)
        };
        Ok(Self { composer: ArcSwap::from_pointee(composer), way })
    }

    /// Sends a test mail. Returns a text that says where it was delivered.
    pub(crate) async fn send_test(&self, to: &Email, locale: Locale, at: Timestamp) -> Result<String, SendError> {
        self.carry(self.composer.load().compose_test(to, locale, at)?).await
    }

    /// Reads and checks the templates of these settings. The sender and the public URL stay as they are.
    pub(crate) fn read_templates(&self, mail: &MailSettings) -> Result<NewTemplates, MailSetupError> {
        let templates = Templates::load(mail.templates_dir.as_deref())?;
        Ok(NewTemplates(self.composer.load().with(templates)))
    }

    /// Writes all further mails with these templates.
    pub(crate) fn use_templates(&self, templates: NewTemplates) {
        self.composer.store(Arc::new(templates.0));
    }

    async fn carry(&self, composed: Composed) -> Result<String, SendError> {
        match &self.way {
            TransportKind::Smtp(smtp) => {
                smtp.deliver(&composed).await.map(|()| format!("the mail server at {}", smtp.place()))
            }
            TransportKind::Spool(spool) => spool.keep(composed).await.map(|path| format!("the file {path}")),
        }
    }
}

#[async_trait]
impl MailTransport for Transport {
    async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError> {
        self.carry(self.composer.load().compose(mail)?).await.map(drop)
    }

    async fn probe(&self) {
        if let TransportKind::Smtp(smtp) = &self.way {
            smtp.probe().await;
        }
    }

    fn reaches(&self, to: &Email) -> bool {
        match &self.way {
            TransportKind::Smtp(smtp) => smtp.reaches(to),
            TransportKind::Spool(_) => true,
        }
    }
}

#[cfg(test)]
mod mail_tests;
