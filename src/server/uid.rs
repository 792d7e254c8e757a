//! Unique identifiers: of objects, tokens, and questions to webhooks.

/// A random UUID (version 4).
pub(crate) fn new_uid() -> String {
    let mut bytes = [0; 16];
    rt::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = wire::hex::encode(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
