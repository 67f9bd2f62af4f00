//! `wharf inspect`: what is said of components, good and bad.

use std::path::Path;

use crate::process::{done, failed, guest, json_lines, run, wharf};

async fn inspect(file: &Path, arguments: &[&str]) -> std::process::Output {
    run(wharf().arg("inspect").arg(file).args(arguments)).await
}

#[tokio::test]
async fn a_component_is_described_as_text_and_as_json() {
    for (name, kind, export) in [
        ("hostile", "http-p2", "wasi:http/incoming-handler@0.2"),
        ("p3_hello", "http-p3", "wasi:http/handler@0.3"),
        ("event_probe", "event", "wharf:function/handler@"),
        ("command-probe", "command-p2", "wasi:cli/run@0.2"),
    ] {
        let text = done(inspect(&guest(name), &[]).await);
        assert!(text.contains(&format!("exports   {export}")), "{text}");
        let json = json_lines(&done(inspect(&guest(name), &["--output", "json"]).await));
        assert_eq!(json[0]["kind"], kind);
        assert_eq!(json[0]["problem"], serde_json::Value::Null);
        let digest = json[0]["digest"].as_str().unwrap();
        assert!(text.contains(digest), "{text}");
        let size = std::fs::metadata(guest(name)).unwrap().len();
        assert_eq!(json[0]["size"], size);
    }
}

#[tokio::test]
async fn a_hook_is_described_by_the_points_that_it_has() {
    let points = [
        "viewer-request",
        "origin-request",
        "origin-response",
        "viewer-response",
    ];
    let text = done(inspect(&guest("hook_probe"), &[]).await);
    let called = format!("called    at {}\n", points.join(", "));
    assert!(text.contains(&called), "{text}");
    let json = done(inspect(&guest("hook_probe"), &["--output", "json"]).await);
    let kind = serde_json::json!({ "hook": points });
    assert_eq!(json_lines(&json)[0]["kind"], kind);
}

#[tokio::test]
async fn what_cannot_be_run_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = r#"(component (import "my:own/thing@1.0.0" (instance (export "f" (func)))))"#;
    for (name, bytes, reason) in [
        (
            "core.wasm",
            wat::parse_str("(module)").unwrap(),
            "this is a core module, not a component",
        ),
        (
            "empty.wasm",
            wat::parse_str("(component)").unwrap(),
            "exports nothing that Wharf calls",
        ),
        (
            "missing.wasm",
            wat::parse_str(missing).unwrap(),
            "my:own/thing@1.0.0",
        ),
        ("text.wasm", b"hello".to_vec(), "text.wasm"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        for arguments in [&[][..], &["--output", "json"]] {
            let said = failed(inspect(&file, arguments).await);
            assert!(said.contains(reason), "{name}: {said}");
            assert!(said.contains(name), "{name}: {said}");
        }
    }
    let none = failed(inspect(Path::new("no/such/file.wasm"), &[]).await);
    assert!(none.contains("read no/such/file.wasm"), "{none}");
}
