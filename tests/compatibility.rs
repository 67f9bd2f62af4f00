//! `docs/lambda-compatibility.md` has every operation of Lambda's model, every member of its input, and every error; and
//! what is said to be raised is asked for by a test.

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

/// The errors that the page says are raised.
fn raised(page: &str) -> Vec<&str> {
    let (_, errors) = page.split_once("## Errors").unwrap();
    let rows = errors.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split_once(" | "))
        .filter(|(name, when)| name.ends_with("Exception") && !when.starts_with("never: "))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn the_page_has_every_error_and_what_is_raised_has_a_test() {
    let model: Value = serde_json::from_str(&read("src/control/aws/models/lambda.json")).unwrap();
    let page = read("docs/lambda-compatibility.md");
    for operation in model["operations"].as_object().unwrap().values() {
        for error in operation["errors"].as_array().into_iter().flatten() {
            let row = format!("\n| {} | ", error.as_str().unwrap());
            assert!(page.contains(&row), "{error}");
        }
    }
    let raised = raised(&page);
    assert!(raised.len() > 10, "{raised:?}");
    let mut tests = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "guests" {
                folders.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".py") {
                tests.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    for error in raised {
        assert!(
            tests.contains(&format!("\"{error}\"")),
            "no test asks for {error}"
        );
    }
}
