//! Every template of `wharf new` builds, and passes its own test. This compiles the guest crate for two targets, which
//! takes a minute the first time.

#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn every_template_builds_and_passes_its_own_test() {
    let folder = tempfile::tempdir().unwrap();
    // The dependencies are compiled once for all.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    for template in ["http", "event", "hook"] {
        let name = format!("a-{template}");
        let wharf = || {
            let mut wharf = Command::new(env!("CARGO_BIN_EXE_wharf"));
            wharf
                .current_dir(folder.path())
                .env("CARGO_TARGET_DIR", &target);
            wharf
        };
        run(wharf().args(["new", &name, "--template", template]));
        let project = folder.path().join(&name);
        run(Command::new("cargo")
            .args(["fmt", "--check"])
            .current_dir(&project));
        run(Command::new("cargo")
            .args(["test", "--quiet"])
            .current_dir(&project)
            .env("CARGO_TARGET_DIR", &target));
        let built = run(wharf().args(["build", &name, "--output", "json"]));
        let built: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
        let component = fs::read(built["component"].as_str().unwrap()).unwrap();
        // The preamble of a component, which is not that of a core module.
        assert!(component.starts_with(b"\0asm\x0d\0\x01\0"), "{template}");
    }
}
