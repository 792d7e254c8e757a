//! Puts the userspace into the binary, or nothing where `userspace/build.sh` was not run.

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
}
