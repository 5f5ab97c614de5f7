use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const LIFETIME: Duration = Duration::from_mins(30);

struct Data(TempDir);

impl Data {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn files(&self) -> KeyFiles {
        KeyFiles::in_data_dir(self.0.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("keys").join(name)
    }

    /// Returns the names in the directory, without the lock.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("keys")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != LOCK);
        names.sort();
        names
    }

    /// Writes a first ring of one key.
    fn begin(&self, algorithm: SigningAlgorithm) -> SigningKey {
        let key = SigningKey::generate(algorithm).unwrap();
        let mut ring = KeyRing::default();
        ring.switch(key.id().clone(), algorithm, LIFETIME, NOW);
        self.files().replace(&ring, Some(&key)).unwrap();
        key
    }

    fn failure(&self) -> String {
        self.files().load().unwrap_err().to_string()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_ring_and_its_keys_read_back() {
    let data = Data::new();
    assert!(data.files().load().unwrap().is_none());
    assert!(!data.0.path().join("keys").exists(), "a look makes nothing");
    for algorithm in [SigningAlgorithm::EdDsa, SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
        let data = Data::new();
        let first = data.begin(algorithm);
        let second = SigningKey::generate(algorithm).unwrap();
        let mut ring = data.files().load().unwrap().unwrap().ring;
        ring.rotate(second.id().clone(), algorithm, LIFETIME, NOW, AccountId::new(7));
        data.files().replace(&ring, Some(&second)).unwrap();
        let read = data.files().load().unwrap().unwrap();
        assert_eq!(read.ring, KeyRing { revision: 2, ..ring });
        assert_eq!(data.files().revision().unwrap(), Some(2));
        for key in [&first, &second] {
            let pair = read.pairs.iter().find(|pair| pair.id() == key.id()).unwrap();
            assert_eq!(pair.expose_pkcs8(), key.expose_pkcs8());
        }
    }
}

#[test]
fn r02_a_first_ring_that_a_kill_left_unfinished_is_made_anew() {
    for pair_is_written in [false, true] {
        let data = Data::new();
        create_private_dir(&data.0.path().join("keys")).unwrap();
        data.files().announce().unwrap();
        let lost = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
        if pair_is_written {
            data.files().write(&pair_name(lost.id()), &pem(&lost)).unwrap();
        }
        assert!(data.files().load().unwrap().is_none());
        assert_eq!(data.files().revision().unwrap(), None);
        let key = data.begin(SigningAlgorithm::EdDsa);
        assert_eq!(data.files().load().unwrap().unwrap().ring.revision, 1);
        assert_eq!(data.names(), [pair_name(key.id()), RING.to_owned()]);
    }
}

#[test]
fn s07_keys_are_for_their_owner_alone() {
    let data = Data::new();
    let key = data.begin(SigningAlgorithm::EdDsa);
    let pair = data.path(&pair_name(key.id()));
    assert_eq!(mode(&data.0.path().join("keys")), 0o700);
    for path in [&pair, &data.path(RING), &data.path(LOCK)] {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    for (path, good) in [(&pair, 0o600), (&data.path(RING), 0o600), (&data.0.path().join("keys"), 0o700)] {
        for bad in [0o040, 0o004, 0o020, 0o001] {
            fs::set_permissions(path, fs::Permissions::from_mode(good | bad)).unwrap();
            assert!(data.failure().contains("chmod"), "{}", data.failure());
        }
        fs::set_permissions(path, fs::Permissions::from_mode(good)).unwrap();
    }
    assert!(data.files().load().is_ok());
}

#[test]
fn s07_nobody_but_their_owner_reads_or_changes_keys() {
    let data = Data::new();
    let key = data.begin(SigningAlgorithm::EdDsa);
    let stored = data.files().load().unwrap().unwrap();
    fs::remove_file(data.path(LOCK)).unwrap();
    let names = || fs::read_dir(data.0.path().join("keys")).unwrap().count();
    // Simulates the superuser, who can read a file whatever its mode.
    let own = data.files();
    let superuser = KeyFiles { user: own.user + 1, ..own };
    let said = format!("belongs to user {}", superuser.user - 1);
    let failure = superuser.load().unwrap_err().to_string();
    assert!(failure.contains(&said), "{failure}");
    assert!(superuser.revision().unwrap_err().to_string().contains(&said));
    let other = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let mut ring = stored.ring.clone();
    ring.replace(other.id().clone(), SigningAlgorithm::EdDsa, LIFETIME, NOW, None);
    assert!(matches!(superuser.replace(&ring, Some(&other)), Err(ReplaceKeysError::Failed(_))));
    assert_eq!(names(), 2, "not even a lock is left behind");
    assert_eq!(data.files().load().unwrap().unwrap().ring, stored.ring);
    assert_eq!(data.names(), [pair_name(key.id()), RING.to_owned()]);
}

#[test]
fn what_is_not_a_ring_or_a_key_stops_the_start_and_is_kept() {
    let data = Data::new();
    let key = data.begin(SigningAlgorithm::EdDsa);
    let (ring, pair) = (data.path(RING), data.path(&pair_name(key.id())));
    let (good_ring, good_pair) = (fs::read_to_string(&ring).unwrap(), fs::read_to_string(&pair).unwrap());
    for bad in [
        String::new(),
        "{}".to_owned(),
        good_ring.replace("\"version\": 1", "\"version\": 2"),
        good_ring.replace("EdDSA", "none"),
        good_ring.replace("EdDSA", "ES256"),
        good_ring.replace("2027-", "yesterday"),
        good_ring.replace(key.id().as_str(), "../../etc/passwd"),
    ] {
        assert_ne!(bad, good_ring);
        fs::write(&ring, &bad).unwrap();
        assert!(!data.failure().is_empty());
        assert_eq!(fs::read_to_string(&ring).unwrap(), bad);
    }
    fs::write(&ring, &good_ring).unwrap();
    let other = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    for bad in [String::new(), "nonsense".to_owned(), pem(&other).expose().to_owned(), good_pair.replace("MC", "MD")] {
        fs::write(&pair, &bad).unwrap();
        let failure = data.failure();
        assert!(failure.contains("key-") && !failure.contains("BEGIN"), "{failure}");
    }
    fs::remove_file(&pair).unwrap();
    assert!(data.failure().contains("missing"), "{}", data.failure());
    fs::write(&pair, &good_pair).unwrap();
    fs::set_permissions(&pair, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(data.files().load().is_ok());
    fs::remove_file(&ring).unwrap();
    assert!(data.failure().contains("restore"), "{}", data.failure());
    let anew = data.files().replace(&KeyRing::default(), None);
    assert!(matches!(anew, Err(ReplaceKeysError::Failed(_))), "{anew:?}");
    assert!(pair.exists());
}

#[test]
fn a_change_that_was_decided_on_an_older_ring_is_refused() {
    let data = Data::new();
    let key = data.begin(SigningAlgorithm::EdDsa);
    let seen = data.files().load().unwrap().unwrap().ring;
    let mut first = seen.clone();
    first.note_lifetime(LIFETIME * 2, NOW);
    data.files().replace(&first, None).unwrap();
    let late = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let mut second = seen;
    second.replace(late.id().clone(), SigningAlgorithm::EdDsa, LIFETIME, NOW, None);
    assert_eq!(data.files().replace(&second, Some(&late)), Err(ReplaceKeysError::Stale));
    assert_eq!(data.names(), [pair_name(key.id()), RING.to_owned()]);
}

#[test]
fn a_kill_in_the_middle_leaves_the_ring_as_it_was_and_what_it_left_goes_with_the_next_change() {
    let data = Data::new();
    let key = data.begin(SigningAlgorithm::EdDsa);
    // A key pair that no ring names, an unfinished ring and an unfinished key pair.
    let lost = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    data.files().write(&pair_name(lost.id()), &pem(&lost)).unwrap();
    fs::write(data.path("ring.json.new"), "{").unwrap();
    fs::write(data.path("key-x.pem.new"), "-----BEGIN").unwrap();
    let stored = data.files().load().unwrap().unwrap();
    assert_eq!(stored.pairs.iter().map(SigningKey::id).collect::<Vec<_>>(), [key.id()]);
    data.files().replace(&stored.ring, None).unwrap();
    assert_eq!(data.names(), [pair_name(key.id()), RING.to_owned()]);
}

#[test]
fn of_two_writers_at_once_one_wins() {
    let data = Data::new();
    data.begin(SigningAlgorithm::EdDsa);
    let seen = data.files().load().unwrap().unwrap().ring;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (files, mut ring) = (data.files(), seen.clone());
            std::thread::spawn(move || {
                let key = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
                ring.rotate(key.id().clone(), SigningAlgorithm::EdDsa, LIFETIME, NOW, None);
                files.replace(&ring, Some(&key)).is_ok()
            })
        })
        .collect();
    let won = writers.into_iter().map(|writer| writer.join().unwrap()).filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(data.files().load().unwrap().unwrap().pairs.len(), 2);
    assert_eq!(data.names().len(), 3);
}
