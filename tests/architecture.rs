//! The dependency rule of `src/lib.rs`, kept: a module uses only those in layers below its own, never its neighbours, and
//! a library that one part is there to hide is named in that part alone.
//!
//! The sources are read as text, as rustfmt leaves them. That is enough to see what is written; what a macro makes up is
//! not seen.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The modules of the crate, the ones that a request meets first on top. Those of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["node"],
    &["ingress", "control", "events", "acme", "workflow"],
    &["edge"],
    &["invoke"],
    &["runtime", "router"],
    &["store", "telemetry", "dial", "tls"],
    &["model", "boxed"],
];

/// What is named only in some places: below a folder, or in a file.
const KEPT: &[Kept] = &[
    Kept {
        names: &[
            "wasmtime",
            "wasmtime_wasi",
            "wasmtime_wasi_http",
            "wasmtime_wasi_io",
        ],
        places: &["src/runtime/"],
        tests_too: true,
    },
    // What reads strangers' components is run in a child process, and what reads their archives stands behind one door.
    Kept {
        names: &["wac_graph"],
        places: &["src/runtime/link.rs"],
        tests_too: true,
    },
    Kept {
        names: &["zip", "rusty_s3", "http_auth"],
        places: &["src/control/code/"],
        tests_too: true,
    },
    Kept {
        names: &["instant_acme"],
        places: &["src/acme/"],
        tests_too: true,
    },
    Kept {
        names: &["quinn", "h3"],
        // Their handshakes are with its certificates.
        places: &["src/ingress/http3/", "src/ingress/tls.rs"],
        tests_too: true,
    },
    Kept {
        names: &["x509_parser"],
        places: &["src/tls/"],
        tests_too: true,
    },
    Kept {
        names: &["rusqlite"],
        places: &["src/store/sqlite/"],
        tests_too: true,
    },
    Kept {
        names: &["hyper", "hyper_util"],
        // Outbound requests are an import of guests, with a client of hyper's.
        places: &[
            "src/ingress/",
            "src/edge/",
            "src/control/",
            // The directory is called with a client of hyper's.
            "src/acme/",
            // Its resolver is for hyper's connector.
            "src/dial/",
            "src/runtime/imports/outbound/",
        ],
        tests_too: true,
    },
    Kept {
        names: &["axum"],
        places: &["src/control/"],
        tests_too: true,
    },
    Kept {
        names: &["clap", "clap_complete", "indicatif", "notify"],
        places: &["src/cli/"],
        tests_too: true,
    },
    // Settings are resolved by the command line. Secrets are read by reference when a function is deployed.
    Kept {
        names: &[
            "env::var",
            "env::var_os",
            "env::vars",
            "env::args",
            "env::args_os",
        ],
        places: &["src/cli/", "src/control/verbs.rs"],
        tests_too: false,
    },
    // Standard output is the result of a command, or the access log's if it is asked for; standard error belongs to the
    // command line and the node's log.
    Kept {
        names: &[
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "io::stdout",
            "io::stderr",
        ],
        places: &[
            "src/cli/",
            "src/telemetry/subscriber.rs",
            "src/telemetry/access/sink.rs",
        ],
        tests_too: false,
    },
];

struct Kept {
    names: &'static [&'static str],
    places: &'static [&'static str],
    /// Whether tests in other places may not name it either.
    tests_too: bool,
}

/// A line of a source file, without its comment.
struct Line<'a> {
    number: usize,
    code: &'a str,
    /// Modules written into the file that are open here: `super` is one of them.
    inline: usize,
    test: bool,
}

#[test]
fn dependencies_go_down_and_never_sideways() {
    let mut broken = String::new();
    for (path, text) in sources() {
        for (line, name) in uses(&path, &text) {
            if let Err(why) = judge(&path, &name) {
                let _ = writeln!(broken, "{}:{line}: {why}", path.display());
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn a_library_is_named_where_it_belongs() {
    let mut broken = String::new();
    for (path, text) in sources() {
        let place = path.to_str().expect("the sources' names are ASCII");
        for kept in KEPT {
            if kept.places.iter().any(|allowed| place.starts_with(allowed)) {
                continue;
            }
            for line in lines(&path, &text) {
                if line.test && !kept.tests_too {
                    continue;
                }
                if let Some(name) = kept.names.iter().find(|name| names(line.code, name)) {
                    let (number, places) = (line.number, kept.places.join(", "));
                    let _ = writeln!(broken, "{place}:{number}: `{name}` belongs to {places}");
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn every_module_has_its_layer() {
    let modules: BTreeSet<String> = fs::read_dir(root().join("src"))
        .expect("the sources are here")
        .map(|entry| module(&entry.expect("an entry").path()))
        .filter(|module| module != "lib")
        .collect();
    for module in modules {
        assert!(layer(&module).is_some(), "`{module}` stands in no layer");
    }
}

/// `tests/main.rs` names the modules: a file that it does not name would never run, and nobody would be told.
#[test]
fn every_file_of_the_tests_is_run() {
    let named = fs::read_to_string(root().join("tests/main.rs")).expect("the tests are here");
    for entry in fs::read_dir(root().join("tests")).expect("the tests are here") {
        let path = entry.expect("an entry").path();
        let is_module =
            path.extension().is_some_and(|it| it == "rs") || path.join("mod.rs").exists();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("the tests' names are ASCII");
        if is_module && name != "main" {
            let line = format!("\nmod {name};\n");
            assert!(
                named.contains(&line),
                "tests/main.rs does not name `{name}`"
            );
        }
    }
}

/// What the rules above see, on sources that break them.
#[test]
fn a_broken_rule_is_seen() {
    let reached = |path: &str, text: &str| -> Vec<String> {
        let path = Path::new(path);
        uses(path, text)
            .into_iter()
            .filter(|(_, name)| judge(path, name).is_err())
            .map(|(_, name)| name)
            .collect()
    };
    for (path, text, expected) in [
        (
            "src/store/a.rs",
            "use crate::invoke::Invoke;",
            vec!["invoke"],
        ),
        (
            "src/store/a.rs",
            "let x = crate::runtime::x();",
            vec!["runtime"],
        ),
        (
            "src/store/a.rs",
            "use crate::model::{self, Digest};",
            vec![],
        ),
        ("src/store/a.rs", "// use crate::node;", vec![]),
        ("src/router/a.rs", "use crate::runtime;", vec!["runtime"]),
        (
            "src/invoke/a.rs",
            "use crate::{\n    model::{Kind, Digest},\n    node::Node,\n};",
            vec!["node"],
        ),
        ("src/invoke/a.rs", "use super::super::cli;", vec!["cli"]),
        ("src/invoke/a/b.rs", "use super::super::Invoke;", vec![]),
        ("src/invoke/mod.rs", "use super::node;", vec!["node"]),
        (
            "src/invoke/mod.rs",
            "mod tests {\n    use super::*;\n}",
            vec![],
        ),
        ("src/node.rs", "use crate::cli::Output;", vec!["cli"]),
        ("src/main.rs", "wharf::cli::main()", vec![]),
        ("src/cli/mod.rs", "use crate::nowhere;", vec!["nowhere"]),
    ] {
        assert_eq!(reached(path, text), expected, "{path}: {text}");
    }
    assert!(names("use hyper::body;", "hyper"));
    assert!(names("    hyper::Error,", "hyper"));
    assert!(names("use axum;", "axum"));
    assert!(!names("use http_body_util::hyper_like;", "hyper"));
    assert!(!names("let hyper = 1;", "hyper"));
    assert!(names("std::env::var(\"X\")", "env::var"));
    assert!(!names("std::env::var_os(\"X\")", "env::var"));
    assert!(names("eprintln!(\"x\")", "eprintln!"));
    assert!(!names("eprintln!(\"x\")", "println!"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of `src`, with its path from the root.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let path = path.strip_prefix(root()).expect("below the root");
                sources.push((path.to_owned(), text));
            }
        }
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

/// The crate's module that a file of `src`, or a folder, is or belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap_or(path);
    let first = below.iter().nth(1).expect("a path below src");
    let first = first.to_str().expect("the sources' names are ASCII");
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn judge(path: &Path, used: &str) -> Result<(), String> {
    let own = module(path);
    // The crate's root has nothing but modules.
    if own == "lib" || own == used {
        return Ok(());
    }
    match (layer(&own), layer(used)) {
        (Some(own_layer), Some(used_layer)) if own_layer < used_layer => Ok(()),
        (Some(own_layer), Some(used_layer)) if own_layer == used_layer => {
            Err(format!("`{own}` uses its neighbour `{used}`"))
        }
        (Some(_), Some(_)) => Err(format!("`{own}` uses `{used}`, which is above it")),
        _ => Err(format!("`{used}` is in no layer")),
    }
}

/// The crate's modules that a file names, each with the number of its line.
fn uses(path: &Path, text: &str) -> Vec<(usize, String)> {
    // `src/invoke/mod.rs` is `invoke`, one below the root; `src/invoke/payload.rs` two.
    let file = path.file_stem().is_some_and(|stem| stem != "mod");
    let depth = path.iter().count() - 2 + usize::from(file);
    let mut uses = Vec::new();
    let mut group = false;
    for line in lines(path, text) {
        let code = line.code;
        if group {
            // rustfmt puts each module of a group on a line of its own, one indentation in.
            group = code != "};";
            if code.starts_with("    ") && !code.starts_with("     ") && code.trim() != "}," {
                uses.extend(name(code.trim_start()).map(|name| (line.number, name)));
            }
            continue;
        }
        group = code.ends_with("use crate::{") && line.inline == 0;
        for root in ["crate::", "wharf::"] {
            if root == "wharf::" && path != Path::new("src/main.rs") {
                continue;
            }
            for (at, _) in code.match_indices(root) {
                if !continues(&code[..at]) {
                    match code[at + root.len()..].strip_prefix('{') {
                        None => uses
                            .extend(name(&code[at + root.len()..]).map(|name| (line.number, name))),
                        Some(inner) => uses.extend(
                            split(inner.trim_end_matches("};"))
                                .filter_map(name)
                                .map(|name| (line.number, name)),
                        ),
                    }
                }
            }
        }
        let climb = "super::".repeat(depth + line.inline);
        if let Some(at) = code.find(&climb)
            && !continues(&code[..at])
            && let Some(name) = name(&code[at + climb.len()..])
        {
            uses.push((line.number, name));
        }
    }
    uses
}

/// The parts of `a::{b, c}, d` that are parted by commas of its own.
fn split(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    group
        .split(move |character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            character == ',' && depth == 0
        })
        .map(str::trim)
}

/// The lines of a file, without comments, and how deep in modules written into it.
fn lines<'a>(path: &Path, text: &'a str) -> impl Iterator<Item = Line<'a>> {
    let test_file = path
        .file_name()
        .is_some_and(|name| name == "tests.rs" || name == "oracle.rs");
    let mut open: Vec<(usize, bool)> = Vec::new();
    text.lines().enumerate().map(move |(index, line)| {
        let code = match line.find("//") {
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        };
        let indent = code.len() - code.trim_start().len();
        if code.trim() == "}" && open.last().is_some_and(|(own, _)| *own == indent) {
            open.pop();
        }
        let result = Line {
            number: index + 1,
            code: code.trim_end(),
            inline: open.len(),
            test: test_file || open.iter().any(|(_, test)| *test),
        };
        let head = code.trim();
        let head = head
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ");
        if let Some(name) = head
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            open.push((indent, name.contains("test")));
        }
        result
    })
}

/// The name that `code` begins with.
fn name(code: &str) -> Option<String> {
    let end = code
        .find(|character: char| !is_word(character))
        .unwrap_or(code.len());
    let first = code.chars().next()?;
    // `super::*` and `crate::Item` name no module: modules are lower case.
    (end > 0 && first.is_ascii_lowercase()).then(|| code[..end].to_owned())
}

/// Whether `code` names `wanted`: as a path's beginning, as a part of one, as a macro.
fn names(code: &str, wanted: &str) -> bool {
    code.match_indices(wanted).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + wanted.len()..];
        let begins = match wanted.contains(':') || wanted.ends_with('!') {
            true => !before.ends_with(is_word),
            false => !continues(before),
        };
        let ends = match wanted.contains(':') || wanted.ends_with('!') {
            true => !after.starts_with(is_word),
            false => {
                after.starts_with("::") || (before.ends_with("use ") && after.starts_with(';'))
            }
        };
        begins && ends
    })
}

/// Whether what follows `before` is the rest of a longer path or word.
fn continues(before: &str) -> bool {
    before.ends_with("::") || before.ends_with(is_word)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
