//! The program, run as a user runs it: the verbs that need no node.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support;

/// Runs `wharf` in a folder, cut off from the settings of whoever runs the tests.
fn wharf_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(support::program())
        .args(arguments)
        .current_dir(folder)
        .env_remove("WHARF_SDK")
        .output()
        .unwrap()
}

fn wharf(arguments: &[&str]) -> Output {
    wharf_in(Path::new("/"), arguments)
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn app(manifest: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wharf.toml"), manifest).unwrap();
    folder
}

#[test]
fn help_says_what_each_verb_does_with_examples() {
    for verb in [
        "",
        "new",
        "build",
        "validate",
        "backup",
        "restore",
        "completion",
    ] {
        let arguments: &[&str] = if verb.is_empty() {
            &["--help"]
        } else {
            &[verb, "--help"]
        };
        let output = wharf(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stderr(&output), "");
        let name = format!("help_{verb}");
        insta::assert_snapshot!(name.trim_end_matches('_'), stdout(&output));
    }
}

#[test]
fn what_is_asked_wrongly_exits_with_2_and_says_why() {
    for (arguments, reason) in [
        (&[][..], "Usage: wharf"),
        (&["--unknown"], "unexpected argument '--unknown'"),
        (&["sail"], "unrecognized subcommand 'sail'"),
        (&["new"], "<NAME>"),
        (&["new", "a b"], "is not a function name"),
        (&["new", "1a"], "begins with a letter"),
        (
            &["new", "a", "--template", "x"],
            "[possible values: http, event, hook]",
        ),
        (
            &["validate", "--output", "xml"],
            "[possible values: text, json]",
        ),
        (&["completion", "dos"], "possible values"),
    ] {
        let output = wharf(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}

#[test]
fn version_is_the_packages() {
    let expected = concat!("wharf ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(stdout(&wharf(&["--version"])), expected);
}

#[test]
fn new_makes_a_project_that_validates() {
    let folder = tempfile::tempdir().unwrap();
    for template in ["http", "event", "hook"] {
        let name = format!("my-{template}");
        let made = json(&wharf_in(
            folder.path(),
            &["new", &name, "--template", template, "--output", "json"],
        ));
        assert_eq!(made["folder"], *name);
        for file in made["files"].as_array().unwrap() {
            let path = folder.path().join(&name).join(file.as_str().unwrap());
            assert!(path.is_file(), "{}", path.display());
        }
        let validated = wharf_in(folder.path(), &["validate", &name, "--output", "json"]);
        assert_eq!(json(&validated)["functions"], serde_json::json!([name]));
    }
}

#[test]
fn new_overwrites_nothing() {
    let folder = app("name = 'mine'\n");
    let dir = folder.path().to_str().unwrap();
    let output = wharf(&["new", "hello", "--dir", dir]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("has files"), "{}", stderr(&output));
    assert_eq!(
        fs::read_to_string(folder.path().join("wharf.toml")).unwrap(),
        "name = 'mine'\n"
    );
    // An empty folder is as good as none.
    let empty = tempfile::tempdir().unwrap();
    let output = wharf(&["new", "hello", "--dir", empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn validate_tells_what_a_right_manifest_has() {
    let folder = app(
        "name = 'a'\n[functions.f]\n[[routes]]\nhost = 'x.example'\npath = '/{id}'\nfunction = 'f'\n\
         [distributions.site]\nhosts = ['y.example']\ndefault = { function = 'f' }\n",
    );
    let output = wharf_in(folder.path(), &["validate"]);
    assert_eq!(
        stdout(&output),
        "wharf.toml is right: a with 1 function, 1 route and 1 distribution\n"
    );
    let path = folder.path().join("wharf.toml");
    let output = wharf(&["validate", path.to_str().unwrap(), "--output", "json"]);
    assert_eq!(
        json(&output),
        serde_json::json!({
            "manifest": path,
            "name": "a",
            "functions": ["f"],
            "routes": [{ "host": "x.example", "path": "/{id}" }],
            "distributions": ["site"],
        })
    );
}

#[test]
fn validate_shows_what_is_wrong_and_exits_with_1() {
    let folder = app("name = 'a'\n[functions.f]\nmemroy = '1 MB'\n");
    let output = wharf_in(folder.path(), &["validate"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    insta::assert_snapshot!(stderr(&output), @r"
    error: wharf.toml:3:1: functions.f.memroy: unknown key; did you mean `memory`?
      |
    3 | memroy = '1 MB'
      | ^^^^^^
    ");

    let nowhere = tempfile::tempdir().unwrap();
    let output = wharf_in(nowhere.path(), &["validate", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(stderr(&output), @r#"{"causes":[],"error":"there is no wharf.toml: name the folder of an app, or make one with `wharf new`"}"#);
}

#[test]
fn validate_writes_the_schema_for_editors() {
    let output = wharf(&["validate", "--schema"]);
    let committed = include_str!("../docs/wharf.schema.json");
    assert_eq!(stdout(&output), committed);
}

#[test]
fn build_gives_the_paths_on_stdout_and_the_builds_own_words_on_stderr() {
    let folder = app(
        "name = 'a'\n[functions.f]\nbuild = 'echo hello; echo x > f.wasm'\ncomponent = 'f.wasm'\n",
    );
    let component = folder.path().join("f.wasm");
    let output = wharf_in(folder.path(), &["build", "--output", "json"]);
    assert_eq!(
        json(&output),
        serde_json::json!({ "name": "f", "component": component })
    );
    assert_eq!(stderr(&output), "  Building f\nhello\n");
    let output = wharf_in(folder.path(), &["build", "--quiet"]);
    assert_eq!(stdout(&output), format!("f\t{}\n", component.display()));
    assert_eq!(stderr(&output), "hello\n");
}

#[test]
fn a_build_that_fails_is_shown_with_its_exit_status() {
    let folder =
        app("name = 'a'\n[functions.f]\nbuild = 'echo oh no >&2; exit 3'\ncomponent = 'f.wasm'\n");
    let output = wharf_in(folder.path(), &["build"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    insta::assert_snapshot!(stderr(&output), @r"
      Building f
    oh no
    error: the function `f` was not built
      because: `echo oh no >&2; exit 3` failed: exit status: 3
    ");
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = wharf(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("validate"), "{shell}");
    }
}
