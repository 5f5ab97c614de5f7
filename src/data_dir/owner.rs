//! Keeps the superuser from leaving files in the data directory of another user.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The data directory belongs to another user than the superuser who runs a command.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} belongs to user {name}, and as root this command would leave files there that the server cannot read; \
     run it as that user: `sudo -u {sudo} doorward …` or `runuser -u {name} -- doorward …`",
    .data_dir.display()
)]
pub struct OtherOwner {
    data_dir: PathBuf,
    /// The name of its owner, or the number of a user without a name.
    name: String,
    /// The same as `sudo` takes it.
    sudo: String,
}

/// Refuses the superuser if a data directory belongs to somebody else. Other users get no further than their permissions.
pub(crate) fn check(data_dir: &Path) -> Result<(), OtherOwner> {
    let Ok(owner) = fs::metadata(data_dir).map(|metadata| metadata.uid()) else { return Ok(()) };
    if !geteuid().is_root() || owner == 0 {
        return Ok(());
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (name, sudo) = match name_in(&users, owner) {
        Some(name) => (name.to_owned(), name.to_owned()),
        None => (owner.to_string(), format!("'#{owner}'")),
    };
    Err(OtherOwner { data_dir: data_dir.to_owned(), name, sudo })
}

/// Returns the name of a user in the text of `/etc/passwd`.
fn name_in(users: &str, id: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_that_the_system_gives() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\n\nbroken\ndoorward:x:10001:10001::/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(name_in(users, 10001), Some("doorward"));
        assert_eq!(name_in(users, 0), Some("root"));
        assert_eq!(name_in(users, 1), None);
    }
}
