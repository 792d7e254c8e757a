//! Puts the userspace into the binary, or nothing where `userspace/build.sh` was not run; and the day of the build.

use std::path::PathBuf;

fn main() {
    let arch = match std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => "amd64",
        Ok("aarch64") => "arm64",
        Ok("arm") => "armv7",
        _ => "unknown",
    };
    let root =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    let made = root.join("userspace/out").join(format!("userspace-{arch}.tar.lzma"));
    let digest = made.with_extension("sha256");
    println!("cargo::rerun-if-changed={}", made.display());
    println!("cargo::rerun-if-changed={}", digest.display());
    let bytes = std::fs::read(&made).unwrap_or_default();
    // Of what is in it: the name of the directory that it is unpacked to, known without unpacking.
    let digest = std::fs::read_to_string(&digest).unwrap_or_default();
    println!("cargo::rustc-env=USERSPACE_SHA256={}", digest.trim());
    let out =
        PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("userspace.tar.lzma");
    if let Err(error) = std::fs::write(&out, bytes) {
        println!("cargo::error=write {}: {error}", out.display());
    }
    println!("cargo::rustc-env=K3RS_BUILT_SECS={}", built_secs());
}

/// When the program was built, the same for every build of one commit: no right clock shows less.
fn built_secs() -> u64 {
    /// Without git and SOURCE_DATE_EPOCH: 2026-11-01.
    const FALLBACK: u64 = 1_793_491_200;
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    if let Some(secs) = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|t| t.parse().ok()) {
        return secs;
    }
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(text.trim().to_owned())
    };
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let secs = git(&["log", "-1", "--format=%ct"]).and_then(|text| text.parse().ok());
    secs.unwrap_or(FALLBACK)
}
