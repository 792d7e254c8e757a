//! A piece of a body, owned or shared.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A piece of a body; cheap to pass on, and one encoded watch event may be shared by all watchers.
#[derive(Clone)]
pub struct Chunk {
    data: Data,
    start: usize,
}

#[derive(Clone)]
enum Data {
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Chunk {
    /// Drops the first `n` bytes from view.
    pub fn advance(&mut self, n: usize) {
        self.start += n.min(self.len());
    }

    /// The bytes as a vector, without a copy where they are one already.
    pub fn into_vec(self) -> Vec<u8> {
        match self.data {
            Data::Owned(bytes) if self.start == 0 => bytes,
            _ => self.to_vec(),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.data {
            Data::Owned(bytes) => bytes,
            Data::Shared(bytes) => bytes,
            Data::Static(bytes) => bytes,
        };
        // `advance` keeps `start` within the length.
        all.get(self.start..).unwrap_or(&[])
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        Chunk { data: Data::Owned(bytes), start: 0 }
    }
}
impl From<String> for Chunk {
    fn from(text: String) -> Chunk {
        Chunk::from(text.into_bytes())
    }
}
impl From<Arc<[u8]>> for Chunk {
    fn from(bytes: Arc<[u8]>) -> Chunk {
        Chunk { data: Data::Shared(bytes), start: 0 }
    }
}
impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Chunk {
        Chunk { data: Data::Static(bytes), start: 0 }
    }
}
impl From<&'static str> for Chunk {
    fn from(text: &'static str) -> Chunk {
        Chunk::from(text.as_bytes())
    }
}
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}
