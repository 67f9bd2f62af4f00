//! Packages come from S3.

use std::path::PathBuf;

use wharf::control::code::{CodeError, S3, S3Settings};

use super::servers::{KEY, REGION, S3Server, SECRET};

fn s3(server: &S3Server, credentials: Option<PathBuf>) -> S3 {
    let settings = S3Settings {
        endpoint: server.endpoint.parse().unwrap(),
        region: REGION.to_owned(),
        credentials,
    };
    S3::new(Some(settings)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_fetched_by_bucket_key_and_version() {
    let large = vec![7; 20_000_000];
    let objects: [(&str, &str, &[u8]); 5] = [
        ("code", "a.zip", b"first"),
        ("code", "a.zip", b"second"),
        ("code", "in a/folder+more/é?.zip", b"odd"),
        ("code", "large.zip", &large),
        ("other", "a.zip", b"other"),
    ];
    let server = S3Server::start(&objects).await;
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("credentials");
    let file = |secret: &str| {
        let text =
            format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {secret}\n");
        std::fs::write(&credentials, text).unwrap();
    };
    file(SECRET);
    let signed = s3(&server, Some(credentials.clone()));
    let get = async |bucket, key, version: Option<&str>| {
        let got = signed.get(bucket, key, version).await;
        got.map_err(|error| error.to_string())
    };
    assert_eq!(get("code", "a.zip", None).await.unwrap(), "second");
    let versions = &server.versions;
    assert_eq!(
        get("code", "a.zip", Some(&versions[0])).await.unwrap(),
        "first"
    );
    assert_eq!(get("other", "a.zip", None).await.unwrap(), "other");
    assert_eq!(
        get("code", "in a/folder+more/é?.zip", None).await.unwrap(),
        "odd"
    );
    assert_eq!(get("code", "large.zip", None).await.unwrap(), large);

    let refused = |code: &str, message: &str| {
        Err(format!(
            "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        ))
    };
    assert_eq!(
        get("code", "none.zip", None).await,
        refused("NoSuchKey", "The specified key does not exist.")
    );
    assert_eq!(
        get("nowhere", "a.zip", None).await,
        refused("NoSuchBucket", "The specified bucket does not exist")
    );
    let error = get("code", "a.zip", Some("none")).await.unwrap_err();
    assert!(error.contains("S3 Error Code: NoSuchVersion."), "{error}");

    // The file is read anew: keys change while a node runs.
    file("another secret");
    assert_eq!(
        get("code", "a.zip", None).await,
        refused("SignatureDoesNotMatch", "The signatures differ & so on.")
    );
    let unsigned = s3(&server, None)
        .get("code", "a.zip", None)
        .await
        .unwrap_err();
    assert_eq!(
        Err(unsigned.to_string()),
        refused("403", "Forbidden"),
        "moto says no more"
    );
    assert_eq!(
        CodeError::from(unsigned).code(),
        "InvalidParameterValueException"
    );
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_an_error() {
    let error = S3::new(None).unwrap().get("code", "a", None).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("--s3-endpoint"), "{error}");
    let settings = S3Settings {
        // Nobody listens there (RFC 6335: 1 is tcpmux).
        endpoint: "http://127.0.0.1:1".parse().unwrap(),
        region: REGION.to_owned(),
        credentials: None,
    };
    let error = S3::new(Some(settings))
        .unwrap()
        .get("code", "a", None)
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("cannot reach 127.0.0.1:1"), "{error}");
}
