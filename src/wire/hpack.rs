//! HPACK (RFC 7541): header compression of HTTP/2, with the dynamic table and the Huffman code.
//!
//! Never panics on any input. A decoder keeps at most its table's size and gives back at most the
//! caller's list bound; an encoder keeps at most its table's size.

use std::collections::VecDeque;
use std::fmt;

use crate::headers::{Headers, is_name};
use crate::huffman;

/// The size of either table before any setting changes it, in bytes as HPACK counts them.
pub const TABLE_DEFAULT_BYTES: usize = 4096;

/// The block cannot be decoded: a connection error, since both tables are now apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpackError(&'static str);

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad header block: {}", self.0)
    }
}
impl std::error::Error for HpackError {}

/// A header block, decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The fields up to the list bound.
    pub headers: Headers,
    /// A name or value is not one HTTP/2 allows: a stream error.
    pub is_malformed: bool,
    /// The fields are more than the list bound: answered 431.
    pub is_too_large: bool,
}

/// The receiving side of one connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What we announced as SETTINGS_HEADER_TABLE_SIZE.
    announced_max_bytes: usize,
}

impl Decoder {
    pub fn new(table_max_bytes: usize) -> Decoder {
        Decoder { table: Table::new(table_max_bytes), announced_max_bytes: table_max_bytes }
    }

    /// Decodes one whole block, keeping fields of `list_max_bytes` at most.
    pub fn decode(&mut self, block: &[u8], list_max_bytes: usize) -> Result<Decoded, HpackError> {
        let mut decoded = Decoded::default();
        let mut input = block;
        let mut fields_came = false;
        while let Some(&first) = input.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut input, 5)?;
                if fields_came || size > self.announced_max_bytes {
                    return Err(HpackError("table size update"));
                }
                self.table.resize(size);
                continue;
            }
            fields_came = true;
            if first & 0x80 != 0 {
                let index = integer(&mut input, 7)?;
                let (name, value) = self.table.get(index).ok_or(HpackError("index"))?;
                keep(&mut decoded, name, value, list_max_bytes);
                continue;
            }
            let is_indexed = first & 0x40 != 0;
            let index = integer(&mut input, if is_indexed { 6 } else { 4 })?;
            let name = match index {
                0 => string(&mut input)?,
                _ => self.table.get(index).ok_or(HpackError("index"))?.0.to_vec(),
            };
            let value = string(&mut input)?;
            keep(&mut decoded, &name, &value, list_max_bytes);
            if is_indexed {
                self.table.insert(&name, &value);
            }
        }
        Ok(decoded)
    }
}

fn keep(decoded: &mut Decoded, name: &[u8], value: &[u8], list_max_bytes: usize) {
    if decoded.headers.size() + name.len() + value.len() + 32 > list_max_bytes {
        decoded.is_too_large = true;
        return;
    }
    let is_lower = !name.iter().any(u8::is_ascii_uppercase);
    let is_clean = !value.iter().any(|&b| matches!(b, 0 | b'\r' | b'\n'));
    match std::str::from_utf8(name) {
        Ok(text) if is_name(name) && is_lower && is_clean => decoded.headers.append(text, value),
        _ => decoded.is_malformed = true,
    }
}

/// An integer with an `n_bits` prefix (section 5.1); at most 2^28, far above any length we take.
fn integer(input: &mut &[u8], n_bits: u32) -> Result<usize, HpackError> {
    let (&first, mut rest) = input.split_first().ok_or(HpackError("truncated integer"))?;
    let mask = (1usize << n_bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(HpackError("truncated integer"))?;
            rest = after;
            if shift > 21 {
                return Err(HpackError("integer too large"));
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Ok(value)
}

fn string(input: &mut &[u8]) -> Result<Vec<u8>, HpackError> {
    let is_huffman = input.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(input, 7)?;
    if length > input.len() {
        return Err(HpackError("truncated string"));
    }
    let (text, rest) = input.split_at(length);
    *input = rest;
    match is_huffman {
        true => huffman::decode(text).ok_or(HpackError("Huffman code")),
        false => Ok(text.to_vec()),
    }
}

/// The sending side of one connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Sizes to announce at the start of the next block: the smallest since the last, and the last.
    resized: Option<(usize, usize)>,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder { table: Table::new(TABLE_DEFAULT_BYTES), resized: None }
    }

    /// Follows the peer's SETTINGS_HEADER_TABLE_SIZE, without using more than the default.
    pub fn resize(&mut self, max_bytes: usize) {
        let max_bytes = max_bytes.min(TABLE_DEFAULT_BYTES);
        if max_bytes != self.table.max_bytes {
            self.table.resize(max_bytes);
            let smallest = self.resized.map_or(max_bytes, |(smallest, _)| smallest.min(max_bytes));
            self.resized = Some((smallest, max_bytes));
        }
    }

    /// Appends the block of `headers`.
    pub fn encode(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        if let Some((smallest, size)) = self.resized.take() {
            if smallest < size {
                emit_integer(out, 0x20, 5, smallest);
            }
            emit_integer(out, 0x20, 5, size);
        }
        for (name, value) in headers.iter() {
            self.encode_field(name, value, out);
        }
    }

    fn encode_field(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let (name_index, full_index) = self.table.find(name.as_bytes(), value);
        if let Some(index) = full_index {
            return emit_integer(out, 0x80, 7, index);
        }
        // What differs in every message would only push useful entries out of the table.
        let is_unique = matches!(
            name,
            ":path" | "content-length" | "date" | "etag" | "audit-id" | "location" | "grpc-message"
        );
        let is_small = name.len() + value.len() + 32 <= self.table.max_bytes / 2;
        let (flag, n_bits) = if !is_unique && is_small { (0x40, 6) } else { (0x00, 4) };
        emit_integer(out, flag, n_bits, name_index.unwrap_or(0));
        if name_index.is_none() {
            emit_string(out, name.as_bytes());
        }
        emit_string(out, value);
        if flag == 0x40 {
            self.table.insert(name.as_bytes(), value);
        }
    }
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

fn emit_integer(out: &mut Vec<u8>, flag: u8, n_bits: u32, value: usize) {
    let mask = (1usize << n_bits) - 1;
    if value < mask {
        // Below a mask of at most 7 bits.
        out.push(flag | value as u8);
        return;
    }
    out.push(flag | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn emit_string(out: &mut Vec<u8>, text: &[u8]) {
    let n_huffman = huffman::encoded_length(text);
    if n_huffman < text.len() {
        emit_integer(out, 0x80, 7, n_huffman);
        huffman::encode(text, out);
    } else {
        emit_integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// The static entries and, after them, those that messages added, newest first.
#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    size_bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name_len: usize,
}

impl Entry {
    fn split(&self) -> (&[u8], &[u8]) {
        self.text.split_at(self.name_len)
    }
    fn size_bytes(&self) -> usize {
        self.text.len() + 32
    }
}

impl Table {
    fn new(max_bytes: usize) -> Table {
        Table { entries: VecDeque::new(), size_bytes: 0, max_bytes }
    }

    /// The entry at an index counted from 1.
    fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let idx = index.checked_sub(1)?;
        match STATIC.get(idx) {
            Some((name, value)) => Some((name.as_bytes(), value.as_bytes())),
            None => self.entries.get(idx - STATIC.len()).map(Entry::split),
        }
    }

    /// An index of the name, and one of the whole field.
    fn find(&self, name: &[u8], value: &[u8]) -> (Option<usize>, Option<usize>) {
        let fixed = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let all = fixed.chain(self.entries.iter().map(Entry::split));
        let mut name_index = None;
        for (idx, (entry_name, entry_value)) in all.enumerate() {
            if entry_name == name {
                name_index = name_index.or(Some(idx + 1));
                if entry_value == value {
                    return (name_index, Some(idx + 1));
                }
            }
        }
        (name_index, None)
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry { text: [name, value].concat().into(), name_len: name.len() };
        self.evict_to(self.max_bytes.saturating_sub(entry.size_bytes()));
        if entry.size_bytes() <= self.max_bytes {
            self.size_bytes += entry.size_bytes();
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.evict_to(max_bytes);
    }

    fn evict_to(&mut self, size_bytes: usize) {
        while self.size_bytes > size_bytes {
            match self.entries.pop_back() {
                Some(entry) => self.size_bytes -= entry.size_bytes(),
                None => return,
            }
        }
    }
}

/// RFC 7541, appendix A.
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let parse =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(parse).collect()
    }

    fn list(decoded: &Decoded) -> String {
        let fields = decoded.headers.iter();
        fields.map(|(n, v)| format!("{n}={}\n", String::from_utf8_lossy(v))).collect()
    }

    /// RFC 7541, appendices C.4 and C.6: requests and responses with Huffman and a small table.
    #[test]
    fn rfc_examples() {
        let mut decoder = Decoder::new(TABLE_DEFAULT_BYTES);
        for (block, fields) in [
            (
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\n",
            ),
            (
                "8286 84be 5886 a8eb 1064 9cbf",
                ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\ncache-control=no-cache\n",
            ),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                ":method=GET\n:scheme=https\n:path=/index.html\n:authority=www.example.com\ncustom-key=custom-value\n",
            ),
        ] {
            assert_eq!(list(&decoder.decode(&hex(block), 4096).unwrap()), fields);
        }
        assert_eq!(decoder.table.size_bytes, 164);
        let mut decoder = Decoder::new(256);
        let first = hex(
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
             919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        );
        decoder.decode(&first, 4096).unwrap();
        assert_eq!(decoder.table.size_bytes, 222);
        let second = decoder.decode(&hex("4883 640e ffc1 c0bf"), 4096).unwrap();
        assert!(list(&second).starts_with(":status=307\ncache-control=private\ndate=Mon, 21"));
    }

    #[test]
    fn encoder_and_decoder_stay_together() {
        let mut prng = Prng::new(5);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(TABLE_DEFAULT_BYTES));
        for round in 0..400 {
            if round % 50 == 49 {
                encoder.resize(prng.below(5000) as usize);
            }
            let mut headers = Headers::new();
            for _ in 0..prng.below(12) {
                let mut value = vec![0; prng.below(40) as usize];
                prng.fill(&mut value);
                let name = ["accept", ":path", "x-long-name", "x-b"][prng.below(4) as usize];
                headers.append(name, value);
            }
            let mut block = Vec::new();
            encoder.encode(&headers, &mut block);
            assert_eq!(decoder.decode(&block, 1 << 20).unwrap().headers, headers);
            assert_eq!(encoder.table.size_bytes, decoder.table.size_bytes);
        }
    }

    #[test]
    fn bounds_and_bad_blocks() {
        let mut decoder = Decoder::new(TABLE_DEFAULT_BYTES);
        assert!(
            decoder
                .decode(&hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"), 60)
                .unwrap()
                .is_too_large
        );
        assert!(decoder.decode(&hex("0001 4101 61"), 999).unwrap().is_malformed);
        for bad in
            ["80", "ff", "ffffffffff7f", "be", "00", "0005 61", "3fe2 1f", "0081 ff81 00", "8220"]
        {
            assert!(Decoder::new(TABLE_DEFAULT_BYTES).decode(&hex(bad), 4096).is_err(), "{bad}");
        }
    }

    #[test]
    fn random_blocks_never_panic_nor_outgrow_the_bounds() {
        let mut prng = Prng::new(9);
        let mut decoder = Decoder::new(TABLE_DEFAULT_BYTES);
        for _ in 0..20_000 {
            let mut block = vec![0; prng.below(64) as usize];
            prng.fill(&mut block);
            if let Ok(decoded) = decoder.decode(&block, 512) {
                assert!(decoded.headers.size() <= 512);
            }
            assert!(decoder.table.size_bytes <= TABLE_DEFAULT_BYTES);
        }
    }
}
