//! An event function that imports what a layer exports (`acme:greet/hello`), and looks at files: `{"do": "greet", …}`.

use std::fs;

use serde_json::{Value, json};

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package wharf:greet-probe;
        package acme:greet@1.0.0 {
            interface hello {
                greet: func(name: string) -> string;
            }
        }
        world probe {
            include wharf:function/event-function@0.1.0;
            import acme:greet/hello@1.0.0;
        }
    ",
    world: "wharf:greet-probe/probe",
    generate_all,
});

use acme::greet::hello;
use exports::wharf::function::handler::{FunctionError, Guest, InvocationContext};

struct Probe;

export!(Probe);

impl Guest for Probe {
    fn handle(event: String, _: InvocationContext) -> Result<String, FunctionError> {
        let failed = |error: &dyn std::fmt::Display| FunctionError {
            error_type: "ProbeError".into(),
            error_message: error.to_string(),
            trace: Vec::new(),
        };
        let event: Value = serde_json::from_str(&event).map_err(|error| failed(&error))?;
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let answer = match text("do") {
            "greet" => json!(hello::greet(text("name"))),
            "read" => json!(fs::read_to_string(text("path")).map_err(|error| failed(&error))?),
            "list" => {
                let entries = fs::read_dir(text("path")).map_err(|error| failed(&error))?;
                let names = entries.flatten().map(|entry| entry.file_name());
                let mut names: Vec<String> = names
                    .map(|name| name.to_string_lossy().into_owned())
                    .collect();
                names.sort();
                json!(names)
            }
            "write" => json!(fs::write(text("path"), "written").map_err(|error| failed(&error))?),
            "remove" => json!(fs::remove_file(text("path")).map_err(|error| failed(&error))?),
            other => return Err(failed(&format!("unknown probe {other}"))),
        };
        Ok(answer.to_string())
    }
}
