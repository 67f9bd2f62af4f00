//! Any text is a manifest, or a list of problems that can be shown. What is a manifest has only values in their range.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wharf::model::Manifest;

fuzz_target!(|text: &str| {
    match Manifest::parse(text, Path::new("wharf.toml"), Path::new("/app")) {
        Ok(manifest) => {
            for function in manifest.functions.values() {
                function.configuration.validate().expect("it was checked");
            }
            // Two routes for the same requests would have been a problem.
            let routes = manifest.routes.iter().map(|route| (&route.pattern, ()));
            wharf::router::Router::new(routes, [], None).expect("it was checked");
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(problem.line >= 1 && problem.column >= 1);
                assert!(!problem.message.is_empty());
            }
            let _ = error.to_string();
        }
    }
});
