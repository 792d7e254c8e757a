//! Packs the time zone database: its zones in compressed blocks, its names with the place of each.

use std::collections::HashMap;
use std::io::{Result, Write};
use std::path::PathBuf;

use lzma_rust2::{LzmaOptions, LzmaWriter};

/// Whoever asks for a zone unpacks so much, once: some tenths of a millisecond.
const BLOCK_BYTES: usize = 32 << 10;
/// `lzma::text` knows these too.
const DICTIONARY_BYTES: u32 = 64 << 10;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let (mut blocks, mut names) = (vec![Vec::new()], String::new());
    let mut places: HashMap<&[u8], String> = HashMap::new();
    let mut sorted = tzdb_data::TZ_NAMES.to_vec();
    sorted.sort_unstable();
    for name in sorted {
        let zone = tzdb_data::find_raw(name.as_bytes()).unwrap_or_default();
        let place = places.entry(zone).or_insert_with(|| {
            if blocks[blocks.len() - 1].len() >= BLOCK_BYTES {
                blocks.push(Vec::new());
            }
            let idx = blocks.len() - 1;
            let start = blocks[idx].len();
            blocks[idx].extend_from_slice(zone);
            format!("{idx} {start} {}", zone.len())
        });
        names.push_str(&format!("{name} {place}\n"));
    }
    std::fs::write(out.join("zone_names"), names)?;
    let mut code = String::from("&[\n");
    for (idx, block) in blocks.iter().enumerate() {
        let file = out.join(format!("zones_{idx}.lzma"));
        std::fs::write(&file, compressed(block)?)?;
        code.push_str(&format!("include_bytes!({:?}),\n", file.display().to_string()));
    }
    code.push(']');
    std::fs::write(out.join("zones.rs"), code)
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut options = LzmaOptions::with_preset(9);
    (options.lc, options.lp, options.pb) = (3, 0, 0);
    options.dict_size = DICTIONARY_BYTES;
    let mut writer = LzmaWriter::new_no_header(Vec::new(), &options, true)?;
    writer.write_all(bytes)?;
    writer.finish()
}
