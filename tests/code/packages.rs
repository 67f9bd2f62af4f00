//! What is in a package is found, and what strangers put into one harms nobody.

use bytes::Bytes;
use wharf::control::code::{CodeError, MAX_UPLOAD, Package};

use crate::support::zips::{changed, made, options, zip};

/// The least that is a component, and a module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

const BAD_ZIP: &str =
    "Could not unzip uploaded file. Please check your file, then try to upload again.";

/// The component's size that was found, or the message.
fn open(bytes: Bytes, handler: &str) -> Result<usize, String> {
    let opened = Package::open(bytes, Some(handler)).map_err(CodeError::from);
    opened
        .map(|package| package.component.len())
        .map_err(|error| {
            assert_eq!(error.code(), "InvalidParameterValueException");
            error.to_string()
        })
}

#[test]
fn a_package_is_a_component_or_a_zip_that_holds_one() {
    let bare = Package::open(Bytes::from_static(COMPONENT), None).unwrap();
    assert_eq!(bare.component, COMPONENT);
    assert!(!bare.has_files());

    let only = zip(&[("any/where/x.wasm", COMPONENT)]);
    assert_eq!(Package::open(only, None).unwrap().component, COMPONENT);
    let package = zip(&[
        ("x.wasm", COMPONENT),
        ("README", b"read"),
        ("m.wasm", MODULE),
    ]);
    let package = Package::open(package, Some("index.handler")).unwrap();
    assert_eq!(package.component, COMPONENT);
    assert_eq!(package.unzipped, 8 + 4 + 8);
    assert!(package.has_files());
}

#[test]
fn of_several_components_the_handler_names_one() {
    let longer = [COMPONENT, &[0; 1][..]].concat();
    let longest = [COMPONENT, &[0; 2][..]].concat();
    let package = zip(&[
        ("bootstrap.wasm", COMPONENT),
        ("main.wasm", &longer),
        ("bin/other.wasm", &longest),
    ]);
    for (handler, size) in [
        ("bootstrap", 8),
        ("bootstrap.wasm", 8),
        ("main", 9),
        ("main.wasm", 9),
        ("main.handler", 9),
        ("./main.wasm", 9),
        ("bin/other.wasm", 10),
        ("bin/other", 10),
        ("other.wasm", 10),
        ("other.handle", 10),
        // Names nothing that is here: it is as Lambda's own runtimes have it.
        ("index.handler", 8),
        ("", 8),
    ] {
        assert_eq!(open(package.clone(), handler), Ok(size), "{handler}");
    }
    let package = zip(&[("a/x.wasm", COMPONENT), ("b/x.wasm", &longer)]);
    assert_eq!(open(package.clone(), "a/x"), Ok(8));
    let error = open(package, "x.handler").unwrap_err();
    assert!(
        error.contains("(a/x.wasm, b/x.wasm), and Handler names none"),
        "{error}"
    );
}

#[test]
fn what_holds_no_component_is_told_apart() {
    let core = "is a WebAssembly module and not a component: build it for";
    for (package, problem) in [
        (Bytes::new(), "Uploaded file must be a non-empty zip"),
        (Bytes::from_static(MODULE), core),
        (zip(&[("main.wasm", MODULE)]), core),
        (
            zip(&[("main.py", b"")]),
            "The package holds no WebAssembly component",
        ),
        (zip(&[]), "The package holds no WebAssembly component"),
        (
            zip(&[("main.wasm", b"text")]),
            "The package holds no WebAssembly component",
        ),
        (Bytes::from_static(b"text"), BAD_ZIP),
    ] {
        let error = open(package, "main").unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn an_upload_has_50_mb() {
    let large = vec![0; MAX_UPLOAD + 1];
    Package::check_upload(&large[1..], "CreateFunction").unwrap();
    let error = Package::check_upload(&large, "UpdateFunctionCode").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Request must be smaller than 70167211 bytes for the UpdateFunctionCode operation"
    );
    assert_eq!(
        CodeError::from(error).code(),
        "RequestEntityTooLargeException"
    );
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let good = zip(&[("aa/bb/cc", b"x"), ("x.wasm", COMPONENT)]);
    assert_eq!(open(good.clone(), ""), Ok(8));
    for path in [
        "../bb/cc",
        "aa/../cc",
        "aa/bb/..",
        "/a/bb/cc",
        "aa//b/cc",
        "a\\../b/c",
        "aa/bb/\0c",
        "..\\..\\cc",
        "/../../.",
    ] {
        let bad = changed(&good, b"aa/bb/cc", path.as_bytes());
        let error = open(bad, "").unwrap_err();
        assert!(error.starts_with(BAD_ZIP), "{path}: {error}");
    }
    // The same places, said in another way.
    for (path, other) in [("./bb/./c", "bb/c"), ("aa/././.", "aa")] {
        let bad = changed(
            &zip(&[("aa/bb/cc", b"x"), (other, b"y")]),
            b"aa/bb/cc",
            path.as_bytes(),
        );
        let error = open(bad, "").unwrap_err();
        assert!(error.contains("is there twice"), "{path}: {error}");
    }
    let long = "x".repeat(256);
    let deep = "x/".repeat(600);
    for path in [long.as_str(), deep.as_str()] {
        let error = open(zip(&[(path, b"")]), "").unwrap_err();
        assert!(error.contains("too long"), "{error}");
    }
}

#[test]
fn no_entry_is_there_twice_or_below_a_file() {
    let twice = changed(&zip(&[("aa", b"1"), ("bb", b"2")]), b"aa", b"bb");
    let error = open(twice, "").unwrap_err();
    assert!(error.starts_with(BAD_ZIP), "{error}");
    let below = zip(&[("a", b"1"), ("a/b", b"2")]);
    let error = open(below, "").unwrap_err();
    assert!(
        error.contains("`a/b` is below `a`, which is no folder"),
        "{error}"
    );
    let link = made(|zip| {
        zip.add_symlink("a", "b", options(0o777)).unwrap();
        zip.start_file("a/b", options(0o644)).unwrap();
    });
    let error = open(link, "").unwrap_err();
    assert!(
        error.contains("`a/b` is below `a`, which is no folder"),
        "{error}"
    );
}

#[test]
fn an_archive_holds_no_more_than_it_says_and_it_says_no_more_than_250_mb() {
    // Some hundred KB that unpack to 300 MB.
    let zeros = vec![0; 150_000_000];
    let bomb = zip(&[("a", &zeros), ("b", &zeros)]);
    assert!(bomb.len() < 1_000_000);
    let too_large = "Unzipped size must be smaller than 262144000 bytes";
    assert_eq!(open(bomb, "").unwrap_err(), too_large);

    // Entries that say less, or more, than they hold.
    let size = 1_234_567_u32;
    let mut component = COMPONENT.to_vec();
    component.resize(size as usize, 0);
    let honest = zip(&[("x.wasm", &component)]);
    assert_eq!(open(honest.clone(), ""), Ok(size as usize));
    for said in [0, 8, size - 1, size + 1, 200_000_000] {
        let liar = changed(&honest, &size.to_le_bytes(), &said.to_le_bytes());
        let error = open(liar, "").unwrap_err();
        assert!(
            error.starts_with(BAD_ZIP) || error.contains("no WebAssembly"),
            "{said}: {error}"
        );
    }
    let liar = changed(&honest, &size.to_le_bytes(), &u32::MAX.to_le_bytes());
    open(liar, "").unwrap_err();

    // Entries that share their bytes.
    let shared = made(|zip| {
        zip.start_file("a", options(0o644)).unwrap();
        std::io::Write::write_all(zip, &zeros[..1_000_000]).unwrap();
        for name in ["b", "c", "d"] {
            zip.shallow_copy_file("a", name).unwrap();
        }
    });
    let error = open(shared, "").unwrap_err();
    assert!(error.contains("its entries overlap"), "{error}");
}

#[test]
fn an_archive_has_at_most_65_535_entries() {
    let many = made(|zip| {
        for number in 0..65_536 {
            zip.add_directory(format!("{number}"), options(0o755))
                .unwrap();
        }
    });
    let error = open(many, "").unwrap_err();
    assert!(error.contains("more than 65,535 entries"), "{error}");
}

#[test]
fn what_is_damaged_or_of_another_form_is_refused() {
    let text: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let component = [COMPONENT, &text].concat();
    let good = zip(&[("x.wasm", &component)]);
    assert_eq!(open(good.clone(), ""), Ok(component.len()));
    // Cut anywhere, and with a byte changed anywhere: an error, or what was packed; never something else.
    for cut in [
        1,
        4,
        22,
        30,
        good.len() / 2,
        good.len() - 10,
        good.len() - 1,
    ] {
        let error = open(good.slice(..cut), "").unwrap_err();
        assert!(error.starts_with(BAD_ZIP), "{cut}: {error}");
    }
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut changed = good.to_vec();
        changed[at] ^= 0x41;
        if let Ok(package) = Package::open(changed.into(), None) {
            assert_eq!(package.component, component, "{at}");
        }
    }
    let central = good.windows(4).rposition(|window| window == b"PK\x01\x02");
    let central = central.unwrap();
    let with = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[central + at] = value;
        open(bytes.into(), "").unwrap_err()
    };
    // General purpose flags, bit 0; compression method 12, bzip2 (APPNOTE.TXT, 4.4.4 and 4.4.5).
    assert!(with(8, 1).contains("`x.wasm` is encrypted"));
    assert!(with(10, 12).contains("is neither stored nor deflated"));
    // A device, by the mode in the external attributes.
    assert!(with(41, 0o20).contains("is neither a file nor a folder nor a link"));
}
