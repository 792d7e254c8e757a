//! The time zone database (IANA), which machines without a root file system lack.

use std::cmp::Ordering;
use std::sync::OnceLock;

/// A zone a line, in order: its name, and block, beginning and length of its data.
const NAMES: &str = include_str!(concat!(env!("OUT_DIR"), "/zone_names"));
/// What zones are packed in, see `build.rs`.
const BLOCKS: &[&[u8]] = include!(concat!(env!("OUT_DIR"), "/zones.rs"));
const BLOCKS_MAX: usize = 16;

/// A block that was asked for stays unpacked: expressions may ask a million times.
static UNPACKED: [OnceLock<Vec<u8>>; BLOCKS_MAX] = [const { OnceLock::new() }; BLOCKS_MAX];

/// Whether the database knows a zone by exactly this name.
pub fn is_known(name: &str) -> bool {
    place(name).is_some()
}

/// A zone's data as RFC 8536 lays it out (TZif); `None` for names that the database lacks.
pub fn find(name: &str) -> Option<&'static [u8]> {
    let mut numbers = place(name)?.split(' ').map_while(|number| number.parse::<usize>().ok());
    let (block, start, length) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let packed = BLOCKS.get(block)?;
    let unpack = || crate::lzma::text(packed).unwrap_or_default();
    UNPACKED.get(block)?.get_or_init(unpack).get(start..start + length)
}

fn place(name: &str) -> Option<&'static str> {
    // Both are where a line begins.
    let (mut low, mut high) = (0, NAMES.len());
    while low < high {
        let start = NAMES[..low.midpoint(high)].rfind('\n').map_or(0, |at| at + 1);
        let line = NAMES[start..].lines().next()?;
        let (known, place) = line.split_once(' ')?;
        match known.cmp(name) {
            Ordering::Equal => return Some(place),
            Ordering::Less => low = start + line.len() + 1,
            Ordering::Greater => high = start,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_is_what_was_packed() {
        for name in tzdb_data::TZ_NAMES {
            assert!(is_known(name), "{name}");
            assert_eq!(find(name), tzdb_data::find_raw(name.as_bytes()), "{name}");
        }
        for name in ["", "europe/berlin", "Europe", "Europe/Berlin 1", "Local"] {
            assert!(find(name).is_none() && !is_known(name), "{name}");
        }
    }
}
