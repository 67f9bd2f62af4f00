//! Programs of Debian's packages: real servers and clients, whether or not they are installed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// Fetches a package with what it depends on and is not installed, and unpacks all of it into `files`. It needs no rights.
const FETCH: &str = r#"
simulated=$(apt-get install --simulate --no-install-recommends -o Debug::NoLocking=true "$1")
apt-get download $({ echo "$1"; echo "$simulated" | awk '/^Inst/ { print $2 }'; } | sort -u) >&2
for package in *.deb; do dpkg -x "$package" files; done"#;

/// `program`, such as `nginx`: the one that is installed, or that of a Debian package, unpacked into the target folder by the
/// first who wants it. Panics if there is neither.
pub(crate) fn command(program: &str, package: &str) -> Command {
    if let Some(installed) = installed(program) {
        return Command::new(installed);
    }
    static FETCHING: Mutex<()> = Mutex::new(());
    let fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let unpacked = target.join(package);
    if !unpacked.exists() {
        // Made apart, and moved when it is whole: another process may be at it too.
        let making = tempfile::tempdir_in(target).unwrap();
        let fetched = Command::new("sh")
            .args(["-ec", FETCH, "sh", package])
            .current_dir(making.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&fetched.stderr);
        assert!(
            fetched.status.success(),
            "`{program}` is neither installed nor to be had from Debian's package `{package}`: {said}"
        );
        let moved = fs::rename(making.path().join("files"), &unpacked);
        assert!(unpacked.exists(), "{moved:?}");
    }
    drop(fetching);
    let place = ["usr/bin", "usr/sbin"].map(|folder| unpacked.join(folder).join(program));
    let found = place.into_iter().find(|path| path.exists());
    let mut command = Command::new(found.unwrap_or_else(|| panic!("`{program}` in `{package}`")));
    command.env("LD_LIBRARY_PATH", libraries(&unpacked));
    command
}

/// Servers are not on everybody's path.
fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Where the unpacked libraries are.
fn libraries(unpacked: &Path) -> OsString {
    let folders = ["usr/lib", "lib"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(unpacked.join(folder)).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    });
    env::join_paths(folders.filter(|path| path.is_dir())).unwrap()
}
