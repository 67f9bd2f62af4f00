//! `docs/lambda-compatibility.md` has every operation of Lambda's model, and every member of its input.

#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test's own work fails the test"
)]

use std::{fs, path::Path};

use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_page_has_every_operation_and_member() {
    let model: Value = serde_json::from_str(&read("src/control/aws/models/lambda.json")).unwrap();
    let page = read("docs/lambda-compatibility.md");
    let mut missing = Vec::new();
    for (operation, described) in model["operations"].as_object().unwrap() {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {operation} |")));
        let Some(row) = row else {
            missing.push(operation.clone());
            continue;
        };
        let Some(shape) = described["input"]["shape"].as_str() else {
            continue;
        };
        for member in model["shapes"][shape]["members"]
            .as_object()
            .unwrap()
            .keys()
        {
            let named = row
                .split(|letter: char| !letter.is_alphanumeric())
                .any(|word| word == member);
            if !named {
                missing.push(format!("{operation}: {member}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
