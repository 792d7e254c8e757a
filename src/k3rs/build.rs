//! Puts the userspace tarball into the binary, or nothing where `userspace/build.sh` was not run.

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
    let tarball = root.join("userspace/out").join(format!("userspace-{arch}.tar.gz"));
    println!("cargo::rerun-if-changed={}", tarball.display());
    let bytes = std::fs::read(&tarball).unwrap_or_default();
    let out =
        PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("userspace.tar.gz");
    if let Err(error) = std::fs::write(&out, bytes) {
        println!("cargo::error=write {}: {error}", out.display());
    }
}
