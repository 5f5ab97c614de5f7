//! A data directory of the version before key pairs: it opens, and no user is logged out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward::settings::Algorithm;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Person, TestApp, TestAppBuilder, leaks};

/// One minute after the fixture was created, in seconds since the Unix epoch.
const LATER: u64 = 1_795_483_320;

struct Left {
    directory: TempDir,
    token: String,
}

impl Left {
    fn behind() -> Self {
        let fixture: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "before-key-pairs"].iter().collect();
        let directory = TempDir::new().unwrap();
        let copy = |name: &str| _ = fs::copy(fixture.join(name), directory.path().join(name)).unwrap();
        fs::create_dir_all(directory.path().join("db/blobs")).unwrap();
        ["db/db", "db/conf", "secret_key"].into_iter().for_each(copy);
        // The storage of the fixture does not keep file modes.
        fs::set_permissions(directory.path().join("secret_key"), fs::Permissions::from_mode(0o600)).unwrap();
        let token = fs::read_to_string(fixture.join("access_token")).unwrap().trim_end().to_owned();
        leaks::note_secret(&token);
        Self { directory, token }
    }

    fn with(&self, algorithm: Algorithm) -> TestAppBuilder {
        let change = move |settings: &mut doorward::settings::Settings| {
            settings.tokens.secret_key = None;
            settings.tokens.algorithm = algorithm;
        };
        TestApp::builder().with(change).data_dir(self.directory.path()).at(LATER)
    }
}

fn alg(token: &str) -> String {
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["alg"].as_str().unwrap().to_owned()
}

async fn is_at_home(app: &TestApp, token: &str) {
    let answer = app.verify(token).await;
    assert_eq!((answer.status, &answer.body["email"]), (200, &json!("ann@example.com")), "{answer:?}");
}

#[tokio::test]
async fn a_data_directory_from_before_key_pairs_opens_and_its_tokens_and_passwords_are_good() {
    let left = Left::behind();
    let secret = fs::read_to_string(left.directory.path().join("secret_key")).unwrap();
    let app = left.with(Algorithm::Hs256).spawn().await;
    is_at_home(&app, &left.token).await;
    let token = app.login(&Person::named("ann")).await;
    assert_eq!(alg(&token), "HS256");
    is_at_home(&app, &token).await;
    assert_eq!(fs::read_to_string(left.directory.path().join("secret_key")).unwrap(), secret);
    // Another algorithm later.
    let app = left.with(Algorithm::EdDsa).continuing(app).await;
    for token in [&left.token, &token] {
        is_at_home(&app, token).await;
    }
    assert_eq!(alg(&app.login(&Person::named("ann")).await), "EdDSA");
}

#[tokio::test]
async fn an_upgrade_that_changes_the_algorithm_at_once_logs_nobody_out() {
    for algorithm in [Algorithm::Hs512, Algorithm::Es256] {
        let left = Left::behind();
        let app = left.with(algorithm).spawn().await;
        is_at_home(&app, &left.token).await;
        assert_eq!(alg(&app.login(&Person::named("ann")).await), algorithm.as_str());
        // The old secret is not accepted forever, although this token is valid for a year.
        app.pass(Duration::from_mins(20));
        is_at_home(&app, &left.token).await;
        app.pass(Duration::from_mins(11));
        assert!(!app.is_live(&left.token).await);
    }
}

/// A new directory has no earlier secret.
#[tokio::test]
async fn a_new_data_directory_knows_no_earlier_secret() {
    let directory = TempDir::new().unwrap();
    let change = |settings: &mut doorward::settings::Settings| settings.tokens.algorithm = Algorithm::EdDsa;
    let app = TestApp::builder().with(change).data_dir(directory.path()).spawn().await;
    assert_eq!(app.handles.keys.list().len(), 1);
    assert_eq!(keys_of(directory.path()), 1);
}

fn keys_of(data_dir: &Path) -> usize {
    let names = fs::read_dir(data_dir.join("keys")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".pem")).count()
}
