//! Short stable hashes for names and labels: FNV-1a, 32 bits, in the safe alphabet.

use serde_json::Value;

/// `rand.SafeEncodeString`'s alphabet: no vowels, nothing that looks alike.
pub const SAFE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over `bytes`.
pub fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What a hash by [`fnv64a`] begins with.
pub const FNV64: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a of 64 bits, of what was hashed before and these bytes.
pub const fn fnv64a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// Decimal digits of a number, each letter replaced by one of the safe alphabet.
pub(crate) fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(SAFE_ALPHABET[usize::from(b) % SAFE_ALPHABET.len()])).collect()
}

/// `pod-template-hash` and controller revision hashes: of the tree's JSON (keys are sorted) and the
/// collision count, where 0 is the same as none: one controller writes it, another leaves it out. Stable over versions of k3rs; not equal to Go's hash of its structs.
pub fn template_hash(template: &Value, collisions: Option<i64>) -> String {
    // Writing to a Vec does not fail.
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    if let Some(collisions) = collisions.filter(|count| *count > 0) {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    safe_encode(&fnv32a(&bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(fnv32a(b""), 0x811c_9dc5);
        assert_eq!(fnv32a(b"a"), 0xe40c_292c);
        assert_eq!(fnv32a(b"foobar"), 0xbf9c_f968);
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
        let template = serde_json::json!({"b": 1, "a": 2});
        assert_ne!(template_hash(&template, None), template_hash(&template, Some(1)));
        assert_eq!(template_hash(&template, None), template_hash(&template, Some(0)));
    }
}
