//! The file as it is made, read and changed.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const ACCOUNT: &str = "123456789012";

fn open(data: &Path) -> Result<Credentials, CredentialsError> {
    Credentials::open(data, "eu-central-1", ACCOUNT)
}

fn write(data: &Path, name: &str, text: &str, mode: u32) {
    let path = data.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn profile(name: &str, more: &str) -> String {
    format!("[{name}]\naws_access_key_id = {name}\naws_secret_access_key = s\n{more}\n")
}

/// Looks now, and tells the users' names, the secrets and the number of their policies.
fn users(credentials: &Credentials) -> Vec<(String, usize)> {
    credentials.look(Duration::ZERO);
    let users = credentials.users.load();
    let mut users: Vec<_> = users
        .iter()
        .map(|(key_id, user)| (key_id.clone(), user.identity.policies.len()))
        .collect();
    users.sort();
    users
}

#[test]
fn the_file_is_made_once_and_only_its_owner_reads_it() {
    let data = tempfile::tempdir().unwrap();
    let made = open(data.path()).unwrap();
    let path = data.path().join(CREDENTIALS_FILE);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("[default]\n") && text.contains("region = eu-central-1\n"),
        "{text}"
    );
    let again = open(data.path()).unwrap();
    assert_eq!(users(&again), users(&made));
    let (key_id, _) = users(&made).remove(0);
    let user = made.find(&key_id).unwrap();
    assert_eq!((key_id.len(), user.secret.len()), (20, 40));
    assert_eq!(user.identity.arn, "arn:aws:iam::123456789012:root");
    assert!(!format!("{made:?}").contains(&user.secret));
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let data = tempfile::tempdir().unwrap();
    write(
        data.path(),
        CREDENTIALS_FILE,
        &profile("default", ""),
        0o640,
    );
    assert_eq!(
        open(data.path()).unwrap_err().to_string(),
        "others may read it (mode 640); take that from them: chmod 600"
    );
}

#[test]
fn a_profile_is_a_user_who_may_do_what_its_policies_say() {
    let data = tempfile::tempdir().unwrap();
    let text = "; two\n[default]\naws_access_key_id=A\naws_secret_access_key = s=1\n\n\
         [ ci ]\n  region = x\naws_access_key_id = B\naws_secret_access_key = t\ncli_pager =\n\
         wharf_policy = AWSLambda_ReadOnlyAccess, ci.json\n";
    let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}}"#;
    write(data.path(), CREDENTIALS_FILE, text, 0o600);
    write(data.path(), "ci.json", policy, 0o644);
    let credentials = open(data.path()).unwrap();
    let found = |key| {
        let user = credentials.find(key)?;
        Some((
            user.identity.arn.clone(),
            user.secret.clone(),
            user.identity.policies.len(),
        ))
    };
    assert_eq!(
        found("A"),
        Some((
            "arn:aws:iam::123456789012:root".to_owned(),
            "s=1".to_owned(),
            0
        ))
    );
    assert_eq!(
        found("B"),
        Some((
            "arn:aws:iam::123456789012:user/ci".to_owned(),
            "t".to_owned(),
            2
        ))
    );
    assert_eq!(found("C"), None);
    let id = |name: &str| credentials.named(name).unwrap().user_id.clone();
    assert_eq!(
        (id("ci"), id("ci").len()),
        (unique_id("AIDA", "credentials/ci"), 21)
    );
}

#[test]
fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode| write(data.path(), name, text, mode);
    let names = |text: &[(&str, usize)]| -> Vec<(String, usize)> {
        text.iter()
            .map(|(name, policies)| ((*name).to_owned(), *policies))
            .collect()
    };
    write(CREDENTIALS_FILE, &profile("default", ""), 0o600);
    let credentials = open(data.path()).unwrap();
    assert_eq!(users(&credentials), names(&[("default", 0)]));
    // A policy that is not there yet, and then is.
    let with_policy = profile("ci", "wharf_policy = ci.json");
    write(CREDENTIALS_FILE, &with_policy, 0o600);
    assert_eq!(users(&credentials), names(&[("default", 0)]));
    let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}}"#;
    write("ci.json", policy, 0o600);
    assert_eq!(users(&credentials), names(&[("ci", 1)]));
    for (broken, mode) in [
        ("nonsense".to_owned(), 0o600),
        (profile("eve", ""), 0o644),
        (profile("eve", "wharf_policy = Nothing"), 0o600),
    ] {
        write(CREDENTIALS_FILE, &broken, mode);
        assert_eq!(users(&credentials), names(&[("ci", 1)]), "{broken}");
    }
    fs::remove_file(data.path().join(CREDENTIALS_FILE)).unwrap();
    assert_eq!(users(&credentials), names(&[("ci", 1)]));
    write(
        CREDENTIALS_FILE,
        &profile("eve", "wharf_policy = ReadOnlyAccess"),
        0o600,
    );
    assert_eq!(users(&credentials), names(&[("eve", 1)]));
    // Nobody looks more often than that.
    write(CREDENTIALS_FILE, &profile("bob", ""), 0o600);
    credentials.looked.lock().unwrap().at = Instant::now();
    assert!(credentials.find("bob").is_none());
    assert_eq!(users(&credentials), names(&[("bob", 0)]));
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    let data = tempfile::tempdir().unwrap();
    write(data.path(), "loose.json", "{}", 0o666);
    write(data.path(), "broken.json", "{}", 0o600);
    let key = "aws_access_key_id = A\naws_secret_access_key = hidden\n";
    for (text, problem) in [
        (
            "a = b".to_owned(),
            "line 1 is neither `[PROFILE]` nor `NAME = VALUE`",
        ),
        (
            format!("[a]\n{key}hidden"),
            "line 4 is neither `[PROFILE]` nor `NAME = VALUE`",
        ),
        (
            "[a]\naws_access_key_id = A".to_owned(),
            "the profile `a` lacks `aws_secret_access_key`",
        ),
        (
            "[a]\naws_access_key_id =".to_owned(),
            "the profile `a` lacks `aws_access_key_id`",
        ),
        (
            format!("[a]\n{key}[b]\n{key}"),
            "the profile `b` is there twice, or has the access key of another",
        ),
        (
            format!("[a]\n{key}[a]\naws_access_key_id = B\naws_secret_access_key = hidden"),
            "the profile `a` is there twice, or has the access key of another",
        ),
        (
            format!("[a b]\n{key}"),
            "`a b` is no user's name: 1 to 64 letters, digits or `+=,.@_-`",
        ),
        (
            format!("[default]\n{key}wharf_policy = ReadOnlyAccess"),
            "the profile `default` is the account's root, which may do everything; take `wharf_policy` from it",
        ),
        (
            format!("[a]\n{key}wharf_policy = Nothing"),
            "the profile `a`: there is no policy `Nothing`, neither a file beside this one nor one of AWSLambda",
        ),
        (
            format!("[a]\n{key}wharf_policy = loose.json"),
            "loose.json: others may write it (mode 666); take that from them: chmod 600",
        ),
        (
            format!("[a]\n{key}wharf_policy = broken.json"),
            "broken.json: Syntax errors in policy: missing field `Statement`",
        ),
    ] {
        write(data.path(), CREDENTIALS_FILE, &text, 0o600);
        let said = format!("{:#}", anyhow::Error::new(open(data.path()).unwrap_err()));
        assert!(said.contains(problem), "{said}");
        assert!(!said.contains("hidden"), "{said}");
    }
}

#[test]
fn no_secret_looks_like_an_option_of_a_command_line() {
    for _ in 0..1000 {
        let secret = new_secret().unwrap();
        assert!(secret.len() == 40 && !secret.starts_with('-'), "{secret}");
    }
}
