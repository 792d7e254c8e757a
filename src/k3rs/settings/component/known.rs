//! Which flags, feature gates and fields of configuration files upstream v1.32 knows: `known.txt`, made a table of
//! hashes while k3rs is compiled. The names themselves are not in the binary: whoever asks has one already.

use api::hash::{FNV64, fnv64a};

/// A line is whose it is (a letter each), what it takes (see [`Takes`]), and its name.
const TEXT: &[u8] = include_bytes!("known.txt");

/// The upper 28 bits are a hash of the owner and the name, the lower four say what it takes.
static TABLE: [u32; count()] = table();

/// What a flag or a field takes, or how a feature gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Anything: what it means is looked at by whoever honours it.
    Text,
    Bool,
    Int,
    Int32,
    Float,
    Duration,
    /// Repeatable, with commas.
    List,
    /// Repeatable, with commas: `name=value`, or `name<value`.
    Map,
    GateOn,
    GateOff,
    GateLockedOn,
    GateLockedOff,
}

const KINDS: [(u8, Takes); 12] = [
    (b't', Takes::Text),
    (b'b', Takes::Bool),
    (b'i', Takes::Int),
    (b'j', Takes::Int32),
    (b'f', Takes::Float),
    (b'd', Takes::Duration),
    (b'l', Takes::List),
    (b'm', Takes::Map),
    (b'+', Takes::GateOn),
    (b'-', Takes::GateOff),
    (b'1', Takes::GateLockedOn),
    (b'0', Takes::GateLockedOff),
];

/// Whose feature gates are: all components share them, as upstream's do.
pub(crate) const GATES: u8 = b'G';

/// What upstream knows by this name of this owner.
pub(crate) fn find(owner: u8, name: &str) -> Option<Takes> {
    let wanted = hash(owner, name.as_bytes(), 0, name.len());
    let entry = TABLE.iter().find(|entry| *entry & !15 == wanted)?;
    KINDS.get((entry & 15) as usize).map(|(_, takes)| *takes)
}

/// FNV-1a, in the upper 28 bits.
const fn hash(owner: u8, text: &[u8], from: usize, to: usize) -> u32 {
    // A part of the text, in a constant.
    let name = text.split_at(to).0.split_at(from).1;
    let hash = fnv64a(fnv64a(FNV64, &[owner]), name);
    ((hash >> 32) as u32) & !15
}

const fn count() -> usize {
    let (mut n, mut at, mut owners) = (0, 0, true);
    while at < TEXT.len() {
        match TEXT[at] {
            b'\n' => owners = true,
            b' ' => owners = false,
            _ if owners => n += 1,
            _ => {}
        }
        at += 1;
    }
    n
}

const fn table() -> [u32; count()] {
    let mut table = [0; count()];
    let (mut n, mut at) = (0, 0);
    while at < TEXT.len() {
        let owners = at;
        while TEXT[at] != b' ' {
            at += 1;
        }
        let owners_end = at;
        let (kind, name) = (TEXT[at + 1], at + 3);
        while at < TEXT.len() && TEXT[at] != b'\n' {
            at += 1;
        }
        let mut takes = 0;
        while KINDS[takes].0 != kind {
            takes += 1;
        }
        let mut owner = owners;
        while owner < owners_end {
            table[n] = hash(TEXT[owner], TEXT, name, at) | takes as u32;
            n += 1;
            owner += 1;
        }
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_found_and_no_two_are_one() {
        let text = std::str::from_utf8(TEXT).unwrap();
        for line in text.lines() {
            let [owners, takes, name] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let wanted = KINDS.iter().find(|(letter, _)| takes.as_bytes() == [*letter]).unwrap().1;
            for owner in owners.bytes() {
                assert_eq!(find(owner, name), Some(wanted), "{line}");
            }
            assert_eq!(find(b'C', &format!("{name}x")), None);
        }
        let mut hashes: Vec<u32> = TABLE.iter().map(|entry| entry & !15).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), TABLE.len());
    }
}
