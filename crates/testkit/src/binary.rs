//! The programs of this workspace, as files to start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The path of a program of this workspace, built in the profile of the running test.
///
/// A package's own tests have `env!("CARGO_BIN_EXE_name")`; this is for the others. It builds the program
/// when it is missing or older than its package's sources (a change in a library below it is not seen: run
/// the workspace's tests, which build everything first).
pub fn binary(package: &str, name: &str) -> PathBuf {
    let folder = profile_folder();
    let path = folder.join(name);
    let built = path.metadata().and_then(|meta| meta.modified()).ok();
    let wanted = newest(&sources(package));
    if built.is_none_or(|built| wanted.is_some_and(|wanted| built < wanted)) {
        build(&folder, package, name);
    }
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

/// `target/debug` or `target/release`: the folder above the test's own `deps`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its executable");
    let above = own.ancestors().nth(2).expect("a test executable lies in target/PROFILE/deps");
    above.to_path_buf()
}

fn sources(package: &str) -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/testkit lies in the root");
    let daemon = root.join("bins").join(package).join("src");
    if daemon.is_dir() { daemon } else { root.join("crates").join(package).join("src") }
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            if path.is_dir() { newest(&path) } else { entry.metadata().ok()?.modified().ok() }
        })
        .max()
}

fn build(folder: &Path, package: &str, name: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", package, "--bin", name]);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.env("CARGO_TARGET_DIR", target);
    }
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be run");
    assert!(status.success(), "building {name} of {package} failed: {status}");
}
