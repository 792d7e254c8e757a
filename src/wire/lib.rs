//! Codecs: one file, one wire format; parse, emit, limits and tests, no I/O.

pub mod base64;
pub mod conntrack;
pub mod decompress;
pub mod dhcp;
pub mod dns;
pub mod gzip_encode;
pub mod headers;
pub mod hpack;
pub mod html;
pub mod http1;
pub mod http2;
mod huffman;
pub mod json;
pub mod lzma;
pub mod netlink;
pub mod nft;
pub mod oci;
pub mod pem;
pub mod pkcs10;
pub mod protobuf;
pub mod quantity;
pub mod rtnetlink;
pub mod shim;
pub mod spdy;
pub mod tar;
pub mod yaml;
pub mod zones;
