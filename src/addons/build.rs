//! Packs the definitions of Gateway API, which nobody reads in the binary.

use std::io::{Result, Write};
use std::path::PathBuf;

use lzma_rust2::{LzmaOptions, LzmaWriter};

/// `wire::lzma::text` knows this too.
const DICTIONARY_BYTES: u32 = 64 << 10;

fn main() -> Result<()> {
    const FILE: &str = "../../manifests/gateway.yaml";
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={FILE}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let mut options = LzmaOptions::with_preset(9);
    (options.lc, options.lp, options.pb) = (3, 0, 0);
    options.dict_size = DICTIONARY_BYTES;
    let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, true)?;
    writer.write_all(&std::fs::read(FILE)?)?;
    std::fs::write(out.join("gateway.lzma"), writer.finish()?)
}
