//! The signing keys in files: `DATA_DIR/keys`, accessible only to its owner.
//!
//! `ring.json` lists the keys and their states. Each key pair is a PKCS#8 file of its own. A key pair is written before the ring that
//! names it and removed after the ring that no longer names it. So a kill leaves at worst a file that no ring names.
//! Before the first key pair, an empty ring of revision 0 is written, which marks that the first ring is being made.
//! A lock on the directory keeps a server and a command apart. It is held for one change only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward_actors::ports::{KeyVault, KeyVaultFailure, ReplaceKeysError, StoredKeys};
use doorward_actors::{
    AccountId, KeyEvent, KeyEventKind, KeyId, KeyRing, RingKey, Secret, SigningAlgorithm, SigningKey, Timestamp,
};
use fs4::fs_std::FileExt as _;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::files::{create_private_dir, sync_dir, write_whole};

/// The name of the directory in the data directory.
const DIRECTORY: &str = "keys";
/// The name of the file that lists the keys.
const RING: &str = "ring.json";
/// The name of the lock file.
const LOCK: &str = "lock";
/// The start and the end of the name of a key pair's file. Its `kid` is in between.
const PAIR: (&str, &str) = ("key-", ".pem");
/// The end of the name of an unfinished file.
const UNFINISHED: &str = ".new";
/// The format version of `ring.json`.
const VERSION: u32 = 1;
/// The maximum size of any of these files, in bytes: 32 keys and 64 events take about 16 KiB, a key pair under 3 KiB.
const MAX_BYTES: u64 = 256 * 1024;
/// The number of characters in a line of PEM (RFC 7468 §2).
const PEM_LINE: usize = 64;

/// The key files of one data directory.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    directory: PathBuf,
    /// The effective user id of this process.
    user: u32,
}

impl KeyFiles {
    /// Returns the key files of this data directory. Reads and creates nothing yet.
    #[must_use]
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self { directory: data_dir.join(DIRECTORY), user: rustix::process::geteuid().as_raw() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Takes the lock, which is released when the file is dropped. Returns `None` if the directory does not exist yet.
    fn lock(&self) -> Result<Option<File>, KeyVaultFailure> {
        let metadata = match fs::metadata(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failure(&self.directory, &error))?,
        };
        self.refuse_others(&self.directory, &metadata, "700")?;
        let path = self.path(LOCK);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = options.map_err(|error| failure(&path, &error))?;
        lock.lock_exclusive().map_err(|error| failure(&path, &error))?;
        Ok(Some(lock))
    }

    /// Reads the ring. A caller that changes it holds the lock.
    fn ring(&self) -> Result<Option<KeyRing>, KeyVaultFailure> {
        let path = self.path(RING);
        let Some(text) = self.read(&path)? else {
            // The ring is lost. A new ring would end all tokens that this key pair signed.
            let pairs = self.pairs()?;
            return match pairs.first() {
                Some(pair) => Err(KeyVaultFailure(format!(
                    "{} is missing, and {} is there: restore the one or take the other away",
                    path.display(),
                    pair.display()
                ))),
                None => Ok(None),
            };
        };
        let stored: StoredRing = serde_json::from_str(text.expose())
            .map_err(|error| KeyVaultFailure(format!("{} cannot be read: {error}", path.display())))?;
        let ring = stored.into_ring().map_err(|why| KeyVaultFailure(format!("{} {why}", path.display())))?;
        // Revision 0: the first ring was never finished, so the key pairs beside it have signed nothing.
        Ok(Some(ring).filter(|ring| ring.revision > 0))
    }

    /// Returns the ring and the key pairs that it names, as files with their names in the data directory.
    pub(crate) fn contents(&self) -> Result<Vec<(String, Secret)>, KeyVaultFailure> {
        let Some(_lock) = self.lock()? else { return Ok(Vec::new()) };
        let Some(ring) = self.ring()? else { return Ok(Vec::new()) };
        let pairs = ring.keys.iter().filter(|key| !key.algorithm.is_symmetric()).map(|key| pair_name(&key.id));
        let names = std::iter::once(RING.to_owned()).chain(pairs);
        let file = |name: String| {
            let path = self.path(&name);
            let content = self.read(&path)?.ok_or_else(|| KeyVaultFailure(format!("{} is missing", path.display())))?;
            Ok((format!("{DIRECTORY}/{name}"), content))
        };
        names.map(file).collect()
    }

    /// Writes an empty ring of revision 0, which marks that the first ring is being made. If a kill then leaves a key pair without a ring,
    /// that pair is not mistaken for the remains of a lost ring.
    fn announce(&self) -> Result<(), KeyVaultFailure> {
        self.write(RING, &Secret::new(StoredRing::of(&KeyRing::default(), 0).to_json()?))
    }

    /// Returns the files of all key pairs.
    fn pairs(&self) -> Result<Vec<PathBuf>, KeyVaultFailure> {
        self.files(|name| name.starts_with(PAIR.0) && name.ends_with(PAIR.1))
    }

    fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, KeyVaultFailure> {
        let list = || -> io::Result<Vec<PathBuf>> {
            let mut found = Vec::new();
            let entries = match fs::read_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
                other => other?,
            };
            for entry in entries {
                let entry = entry?;
                if wanted(&entry.file_name().to_string_lossy()) {
                    found.push(entry.path());
                }
            }
            Ok(found)
        };
        list().map_err(|error| failure(&self.directory, &error))
    }

    fn pair(&self, key: &RingKey) -> Result<SigningKey, KeyVaultFailure> {
        let path = self.path(&pair_name(&key.id));
        let gone = || KeyVaultFailure(format!("{} is named by {RING} and missing", path.display()));
        let pem = self.read(&path)?.ok_or_else(gone)?;
        let unusable = || KeyVaultFailure(format!("{} must hold a PKCS#8 key for {}", path.display(), key.algorithm));
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| unusable())?;
        let pair = SigningKey::from_pkcs8(key.algorithm, der.secret_pkcs8_der().to_vec()).map_err(|_| unusable())?;
        if *pair.id() == key.id {
            return Ok(pair);
        }
        Err(KeyVaultFailure(format!("{} holds another key than its name says", path.display())))
    }

    /// Reads a file; `None` if it does not exist. Refuses a file that others may use, because its content is not secret.
    fn read(&self, path: &Path) -> Result<Option<Secret>, KeyVaultFailure> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failure(path, &error))?,
        };
        let metadata = file.metadata().map_err(|error| failure(path, &error))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(KeyVaultFailure(format!("{} is none of the files that belong there", path.display())));
        }
        self.refuse_others(path, &metadata, "600")?;
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| failure(path, &error))?;
        Ok(Some(Secret::new(text)))
    }

    /// Refuses a file that others may use, because its content is not secret, and a file of another user.
    ///
    /// The superuser can open the file of another user, but that user could change it. And a server that runs as that user could not read
    /// the files that the superuser writes beside it.
    fn refuse_others(&self, path: &Path, metadata: &fs::Metadata, wanted: &str) -> Result<(), KeyVaultFailure> {
        let (path, mode, owner) = (path.display(), metadata.permissions().mode() & 0o777, metadata.uid());
        if mode & 0o077 != 0 {
            let why = format!("{path}: others may use it (mode {mode:03o}); allow only its owner: chmod {wanted}");
            return Err(KeyVaultFailure(why));
        }
        if owner != self.user {
            let user = self.user;
            let why = format!(
                "{path} belongs to user {owner}, and this runs as user {user}: run it as the user of the server, or chown it"
            );
            return Err(KeyVaultFailure(why));
        }
        Ok(())
    }

    /// Writes a file completely or not at all.
    fn write(&self, name: &str, text: &Secret) -> Result<(), KeyVaultFailure> {
        let (path, unfinished) = (self.path(name), self.path(&format!("{name}{UNFINISHED}")));
        write_whole(&path, &unfinished, text.expose().as_bytes()).map_err(|error| failure(&path, &error))
    }

    /// Removes the key pairs that a ring does not name, and unfinished files that a kill left.
    fn remove_others(&self, ring: &KeyRing) -> Result<(), KeyVaultFailure> {
        let named: Vec<PathBuf> = ring.keys.iter().map(|key| self.path(&pair_name(&key.id))).collect();
        let mut others = self.pairs()?;
        others.retain(|path| !named.contains(path));
        others.extend(self.files(|name| name.ends_with(UNFINISHED))?);
        for path in &others {
            fs::remove_file(path).map_err(|error| failure(path, &error))?;
        }
        if others.is_empty() {
            Ok(())
        } else {
            sync_dir(&self.directory).map_err(|error| failure(&self.directory, &error))
        }
    }
}

impl KeyVault for KeyFiles {
    fn load(&self) -> Result<Option<StoredKeys>, KeyVaultFailure> {
        let Some(_lock) = self.lock()? else { return Ok(None) };
        let Some(ring) = self.ring()? else { return Ok(None) };
        let pairs = ring.keys.iter().filter(|key| !key.algorithm.is_symmetric());
        let pairs = pairs.map(|key| self.pair(key)).collect::<Result<_, _>>()?;
        Ok(Some(StoredKeys { ring, pairs }))
    }

    fn revision(&self) -> Result<Option<u64>, KeyVaultFailure> {
        // Needs no lock, because the file is always replaced as a whole.
        Ok(self.ring()?.map(|ring| ring.revision))
    }

    fn replace(&self, ring: &KeyRing, new: Option<&SigningKey>) -> Result<(), ReplaceKeysError> {
        create_private_dir(&self.directory).map_err(|error| failure(&self.directory, &error))?;
        let _lock = self.lock()?;
        let present = self.ring()?;
        if present.as_ref().map_or(0, |present| present.revision) != ring.revision {
            return Err(ReplaceKeysError::Stale);
        }
        if present.is_none() {
            self.announce()?;
        }
        // Done before anything is added. Otherwise repeated kills could pile up files that no ring names.
        self.remove_others(&present.unwrap_or_default())?;
        if let Some(key) = new {
            self.write(&pair_name(key.id()), &pem(key))?;
        }
        self.write(RING, &Secret::new(StoredRing::of(ring, ring.revision + 1).to_json()?))?;
        // The change is made at this point. A failure to tidy up does not undo it.
        if let Err(failure) = self.remove_others(ring) {
            tracing::warn!(%failure, "an old signing key could not be removed");
        }
        Ok(())
    }
}

fn pair_name(id: &KeyId) -> String {
    format!("{}{id}{}", PAIR.0, PAIR.1)
}

fn pem(key: &SigningKey) -> Secret {
    let body = Secret::new(STANDARD.encode(key.expose_pkcs8()));
    let mut pem = String::with_capacity(body.expose().len() + 128);
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = body.expose();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(PEM_LINE.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = others;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Secret::new(pem)
}

fn failure(path: &Path, error: &io::Error) -> KeyVaultFailure {
    KeyVaultFailure(format!("{}: {error}", path.display()))
}

/// The content of `ring.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRing {
    version: u32,
    revision: u64,
    keys: Vec<StoredKey>,
    unrecorded: Vec<StoredEvent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    kid: String,
    algorithm: String,
    created_at: String,
    signs_from: String,
    longest_lifetime_seconds: u64,
    retired_at: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEvent {
    event: String,
    at: String,
    by: Option<u64>,
}

impl StoredRing {
    fn of(ring: &KeyRing, revision: u64) -> Self {
        let keys = ring.keys.iter().map(|key| StoredKey {
            kid: key.id.to_string(),
            algorithm: key.algorithm.to_string(),
            created_at: key.created_at.to_rfc3339(),
            signs_from: key.signs_from.to_rfc3339(),
            longest_lifetime_seconds: key.longest_lifetime.as_secs(),
            retired_at: key.retired_at.map(Timestamp::to_rfc3339),
        });
        let unrecorded = ring.unrecorded.iter().map(|event| StoredEvent {
            event: event.kind.as_str().to_owned(),
            at: event.at.to_rfc3339(),
            by: event.by.map(AccountId::get),
        });
        Self { version: VERSION, revision, keys: keys.collect(), unrecorded: unrecorded.collect() }
    }

    fn to_json(&self) -> Result<String, KeyVaultFailure> {
        serde_json::to_string_pretty(self).map_err(|error| KeyVaultFailure(error.to_string()))
    }

    fn into_ring(self) -> Result<KeyRing, String> {
        if self.version != VERSION {
            return Err(format!("has version {}, and this program knows {VERSION}", self.version));
        }
        let wrong = |what: &str, value: &str| format!("has {value:?} for {what}");
        let time = |text: &str| Timestamp::parse_rfc3339(text).ok_or_else(|| wrong("a time", text));
        let key = |key: &StoredKey| {
            Ok(RingKey {
                id: KeyId::parse(&key.kid).ok_or_else(|| wrong("a kid", &key.kid))?,
                algorithm: SigningAlgorithm::parse(&key.algorithm)
                    .ok_or_else(|| wrong("an algorithm", &key.algorithm))?,
                created_at: time(&key.created_at)?,
                signs_from: time(&key.signs_from)?,
                longest_lifetime: Duration::from_secs(key.longest_lifetime_seconds),
                retired_at: key.retired_at.as_deref().map(time).transpose()?,
            })
        };
        let event = |event: &StoredEvent| {
            let kind = KeyEventKind::ALL.into_iter().find(|kind| kind.as_str() == event.event);
            Ok(KeyEvent {
                kind: kind.ok_or_else(|| wrong("an event", &event.event))?,
                at: time(&event.at)?,
                by: event.by.and_then(AccountId::new),
            })
        };
        Ok(KeyRing {
            revision: self.revision,
            keys: self.keys.iter().map(key).collect::<Result<_, String>>()?,
            unrecorded: self.unrecorded.iter().map(event).collect::<Result<_, String>>()?,
        })
    }
}

#[cfg(test)]
mod tests;
