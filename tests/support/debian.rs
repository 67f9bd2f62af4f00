//! Servers of Debian's packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A program of a package: the one that is installed, or the package's, unpacked into the target folder by the first who wants
/// it. The program must know `--help`.
pub(crate) fn program(package: &str, name: &str) -> PathBuf {
    let installed = PathBuf::from(name);
    if Command::new(&installed).arg("--help").output().is_ok() {
        return installed;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let unpacked = target.join(package);
    let program = unpacked.join("usr/bin").join(name);
    if program.exists() {
        return program;
    }
    // Made apart, and moved when it is whole: another process may be at it too.
    let making = tempfile::tempdir_in(target).unwrap();
    let fetched = Command::new("sh")
        .args([
            "-ec",
            r#"apt-get download "$1" >&2; dpkg -x "$1"_*.deb files"#,
            "sh",
            package,
        ])
        .current_dir(making.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert!(
        fetched.status.success(),
        "`{name}` is neither installed nor to be had from Debian: {said}"
    );
    let moved = fs::rename(making.path().join("files"), unpacked);
    assert!(program.exists(), "{moved:?}");
    program
}
