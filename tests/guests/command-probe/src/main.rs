//! A command-line program (`wasi:cli/run`) whose standard input chooses what it does: `{"do": "echo", …}`.
//!
//! Nothing in it knows of the node: any program that reads its input and writes its output is a function.

use std::{
    env,
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut input = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut input) {
        eprintln!("standard input cannot be read: {error}");
        return ExitCode::from(2);
    }
    let event: Value = match serde_json::from_str(&input) {
        Ok(event) => event,
        Err(error) => {
            eprintln!("the event is no JSON: {error}");
            return ExitCode::from(2);
        }
    };
    match event["do"].as_str().unwrap_or("echo") {
        "echo" => print!("{input}"),
        "environment" => {
            let variables: std::collections::BTreeMap<String, String> = env::vars().collect();
            let arguments: Vec<String> = env::args().collect();
            print!(
                "{}",
                json!({ "variables": variables, "arguments": arguments })
            );
        }
        "nothing" => {}
        "bad-json" => print!("{{\"cut\": "),
        "standard-error" => {
            eprintln!("to standard error");
            print!("null");
        }
        "exit" => {
            let code = event["code"].as_u64().unwrap_or(3);
            // An answer before a failure does not count as one.
            print!("{}", json!({ "code": code }));
            return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
        }
        "exit-now" => std::process::exit(3),
        "panic" => panic!("this program panics on purpose"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "sleep" => {
            let milliseconds = event["ms"].as_u64().unwrap_or(100);
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            print!("null");
        }
        "flood" => {
            let bytes = event["bytes"].as_u64().unwrap_or(16 << 20);
            let piece = [b'x'; 4096];
            for _ in 0..bytes / piece.len() as u64 {
                if io::stdout().write_all(&piece).is_err() {
                    break;
                }
            }
        }
        other => {
            eprintln!("unknown probe {other}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
