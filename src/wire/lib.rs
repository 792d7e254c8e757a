//! Codecs: one file, one wire format; parse, emit, limits and tests, no I/O.

pub mod base64;
