//! The secrets that Doorward generates if the operator sets none (S07). They are kept in the data directory.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use doorward_actors::Secret;
use doorward_actors::ports::Entropy;

use crate::files;
use crate::line_end::without_line_end;

/// The random bytes of a new secret: 256 bits, the strength of the strongest key that is derived from one.
const RANDOM_BYTES: usize = 32;
/// The minimum length of a secret in a file, in bytes.
const MIN_BYTES: usize = 32;
/// The maximum length of a secret in a file, in bytes. A longer file is not a secret.
const MAX_BYTES: u64 = 4096;

/// Returns the secret `name` of a data directory. If there is none, creates one of 256 bits, written as 64 hexadecimal digits. It is
/// on disk before this returns.
///
/// Call it only while the store of that directory is open: its lock prevents two processes from each creating one.
///
/// # Errors
/// Refuses a file that others may use, because its content is not secret, and a file with fewer than 32 bytes.
pub fn load_or_create(data_dir: &Path, name: &str, entropy: &dyn Entropy) -> io::Result<Secret> {
    match load(data_dir, name)? {
        Some(secret) => Ok(secret),
        None => create(data_dir, name, &data_dir.join(name), entropy),
    }
}

/// Returns the secret `name` of a data directory, if there is one.
///
/// # Errors
/// The same as for [`load_or_create`].
pub fn load(data_dir: &Path, name: &str) -> io::Result<Option<Secret>> {
    let path = data_dir.join(name);
    match File::open(&path) {
        Ok(file) => read(file, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain(&path, error.kind(), &error.to_string())),
    }
}

fn read(file: File, path: &Path) -> io::Result<Secret> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(explain(path, io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others may use it (mode {mode:03o}); allow only its owner: chmod 600");
        return Err(explain(path, io::ErrorKind::PermissionDenied, &why));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    let secret = Secret::new(text);
    let text = without_line_end(secret.expose());
    if text.ends_with(char::is_whitespace) {
        return Err(explain(path, io::ErrorKind::InvalidData, "blanks or line breaks follow it; remove them"));
    }
    if text.len() < MIN_BYTES {
        let why = format!("it has {} bytes and needs {MIN_BYTES}; was it cut off?", text.len());
        return Err(explain(path, io::ErrorKind::InvalidData, &why));
    }
    if secret.expose().len() as u64 > MAX_BYTES {
        return Err(explain(path, io::ErrorKind::InvalidData, "it is too long for a secret"));
    }
    Ok(Secret::new(text.to_owned()))
}

fn create(data_dir: &Path, name: &str, path: &Path, entropy: &dyn Entropy) -> io::Result<Secret> {
    let mut random = [0; RANDOM_BYTES];
    entropy.fill(&mut random);
    let mut text = String::with_capacity(2 * RANDOM_BYTES);
    for byte in random {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    let secret = Secret::new(text);

    // A kill leaves no incomplete secret.
    files::write_whole(path, &data_dir.join(format!("{name}.new")), secret.expose().as_bytes())?;
    Ok(secret)
}

fn explain(path: &Path, kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, format!("the secret in {} cannot be used: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use doorward_actors::testing::SeededEntropy;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let entropy = SeededEntropy::new(1);
        let made = load_or_create(dir.path(), "signing.key", &entropy).unwrap();
        assert_eq!(made.expose().len(), 64);
        assert_eq!(mode(&dir.path().join("signing.key")), 0o600);
        let read = load_or_create(dir.path(), "signing.key", &entropy).unwrap();
        assert_eq!(made.expose(), read.expose());
        let other = load_or_create(dir.path(), "other.key", &entropy).unwrap();
        assert_ne!(made.expose(), other.expose());
        assert!(!dir.path().join("signing.key.new").exists());
    }

    #[test]
    fn a_start_that_was_cut_short_leaves_no_half_secret() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("signing.key.new"), "half", 0o644);
        let made = load_or_create(dir.path(), "signing.key", &SeededEntropy::new(1)).unwrap();
        assert_eq!(made.expose().len(), 64);
        assert_eq!(mode(&dir.path().join("signing.key")), 0o600);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        for bad in [0o640, 0o604, 0o620, 0o601] {
            write(&path, &"x".repeat(64), bad);
            let error = load_or_create(dir.path(), "signing.key", &SeededEntropy::new(1)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{bad:o}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        write(&path, &format!("{}\n", "x".repeat(32)), 0o400);
        assert_eq!(
            load_or_create(dir.path(), "signing.key", &SeededEntropy::new(1)).unwrap().expose(),
            "x".repeat(32),
            "the line end of an editor is no part of it"
        );
    }

    #[test]
    fn g24_one_line_break_at_its_end_is_no_part_of_it_and_more_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        for good in ["", "\n", "\r\n"] {
            write(&path, &format!("{}{good}", "x".repeat(64)), 0o600);
            assert_eq!(load(dir.path(), "signing.key").unwrap().unwrap().expose(), "x".repeat(64), "{good:?}");
        }
        for bad in ["\n\n", "\r\n\r\n", "\r", " ", "\t\n"] {
            write(&path, &format!("{}{bad}", "x".repeat(64)), 0o600);
            let error = load(dir.path(), "signing.key").unwrap_err();
            assert!(error.to_string().contains("blanks or line breaks follow it"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn an_empty_a_short_and_a_huge_secret_are_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        for bad in ["", "\n", &"x".repeat(31), &format!("{}\n\n", "x".repeat(31)), &"x".repeat(5000)] {
            write(&path, bad, 0o600);
            let error = load_or_create(dir.path(), "signing.key", &SeededEntropy::new(1)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(&std::fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
