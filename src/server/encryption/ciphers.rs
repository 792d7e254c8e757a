//! The ciphers of encryption at rest, with the bytes that kube-apiserver's make: a nonce before each value.

use std::fmt;

use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256, Block};
use aes_gcm::AeadInPlace;
use aes_gcm::aead::consts::U12;
use crypto_secretbox::XSalsa20Poly1305;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const BLOCK_BYTES: usize = 16;
const GCM_NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const BOX_NONCE_BYTES: usize = 24;

const TOO_SHORT: &str = "the stored data was shorter than the required size";

/// One key of a provider.
pub(super) enum Cipher {
    /// Authenticates the value together with its key in the store.
    Gcm(Box<LessSafeKey>),
    Gcm192(Box<aes_gcm::AesGcm<Aes192, U12>>),
    /// Authenticates nothing.
    Cbc(Box<dyn Blocks>),
    /// Authenticates the value alone.
    SecretBox(Box<XSalsa20Poly1305>),
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

/// AES in one of its sizes.
pub(super) trait Blocks: Send + Sync {
    fn encrypt(&self, block: &mut Block);
    fn decrypt(&self, block: &mut Block);
}

impl<
    T: BlockEncrypt
        + BlockDecrypt
        + aes::cipher::BlockSizeUser<BlockSize = aes::cipher::consts::U16>
        + Send
        + Sync,
> Blocks for T
{
    fn encrypt(&self, block: &mut Block) {
        self.encrypt_block(block);
    }
    fn decrypt(&self, block: &mut Block) {
        self.decrypt_block(block);
    }
}

impl Cipher {
    /// The cipher of a provider with a key; `None` if the key has no size that it knows.
    pub(super) fn new(provider: &str, key: &[u8]) -> Option<Cipher> {
        Some(match (provider, key.len()) {
            ("aesgcm", 16) => Cipher::Gcm(Box::new(gcm(&AES_128_GCM, key)?)),
            ("aesgcm", 24) => Cipher::Gcm192(Box::new(KeyInit::new_from_slice(key).ok()?)),
            ("aesgcm", 32) => Cipher::Gcm(Box::new(gcm(&AES_256_GCM, key)?)),
            ("aescbc", 16) => Cipher::Cbc(Box::new(Aes128::new_from_slice(key).ok()?)),
            ("aescbc", 24) => Cipher::Cbc(Box::new(Aes192::new_from_slice(key).ok()?)),
            ("aescbc", 32) => Cipher::Cbc(Box::new(Aes256::new_from_slice(key).ok()?)),
            ("secretbox", 32) => Cipher::SecretBox(Box::new(KeyInit::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// Appends the sealed value to `out`. `key` is where the store has it.
    pub(super) fn seal(&self, key: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let failed = || "encrypt the value".to_owned();
        match self {
            Cipher::Gcm(cipher) => {
                let (nonce, start) = begin::<GCM_NONCE_BYTES>(value, out);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealing =
                    cipher.seal_in_place_separate_tag(nonce, Aad::from(key), &mut out[start..]);
                out.extend_from_slice(sealing.map_err(|_| failed())?.as_ref());
            }
            Cipher::Gcm192(cipher) => {
                let (nonce, start) = begin::<GCM_NONCE_BYTES>(value, out);
                let tag = cipher.encrypt_in_place_detached(&nonce.into(), key, &mut out[start..]);
                out.extend_from_slice(&tag.map_err(|_| failed())?);
            }
            Cipher::Cbc(cipher) => {
                let (mut last, start) = begin::<BLOCK_BYTES>(value, out);
                let padding = BLOCK_BYTES - value.len() % BLOCK_BYTES;
                // Between 1 and 16.
                out.resize(out.len() + padding, u8::try_from(padding).unwrap_or(0));
                for chunk in out[start..].chunks_exact_mut(BLOCK_BYTES) {
                    chunk.iter_mut().zip(last).for_each(|(byte, before)| *byte ^= before);
                    cipher.encrypt(Block::from_mut_slice(chunk));
                    last.copy_from_slice(chunk);
                }
            }
            Cipher::SecretBox(cipher) => {
                // Upstream's form has the tag before the text.
                let mut nonce = [0; BOX_NONCE_BYTES];
                rt::random(&mut nonce);
                out.extend_from_slice(&nonce);
                let tag_at = out.len();
                out.extend_from_slice(&[0; TAG_BYTES]);
                out.extend_from_slice(value);
                let text = &mut out[tag_at + TAG_BYTES..];
                let tag = cipher.encrypt_in_place_detached(&nonce.into(), &[], text);
                let tag = tag.map_err(|_| failed())?;
                out[tag_at..tag_at + TAG_BYTES].copy_from_slice(&tag);
            }
        }
        Ok(())
    }

    /// The value of sealed bytes.
    ///
    /// # Errors
    /// If it is not what this key sealed for this place.
    pub(super) fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = || "cipher: message authentication failed".to_owned();
        match self {
            Cipher::Gcm(cipher) => {
                let (nonce, text) = sealed.split_first_chunk().ok_or(TOO_SHORT)?;
                let mut text = text.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let n_bytes = cipher.open_in_place(nonce, Aad::from(key), &mut text);
                let n_bytes = n_bytes.map_err(|_| wrong())?.len();
                text.truncate(n_bytes);
                Ok(text)
            }
            Cipher::Gcm192(cipher) => {
                let (nonce, rest) =
                    sealed.split_first_chunk::<GCM_NONCE_BYTES>().ok_or(TOO_SHORT)?;
                let (text, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(TOO_SHORT)?;
                let mut text = text.to_vec();
                let opened =
                    cipher.decrypt_in_place_detached(nonce.into(), key, &mut text, tag.into());
                opened.map_err(|_| wrong())?;
                Ok(text)
            }
            Cipher::Cbc(cipher) => {
                let (iv, rest) = sealed.split_first_chunk::<BLOCK_BYTES>().ok_or(TOO_SHORT)?;
                open_cbc(&**cipher, *iv, rest)
            }
            Cipher::SecretBox(cipher) => {
                let (nonce, rest) =
                    sealed.split_first_chunk::<BOX_NONCE_BYTES>().ok_or(TOO_SHORT)?;
                let (tag, text) = rest.split_first_chunk::<TAG_BYTES>().ok_or(TOO_SHORT)?;
                let mut text = text.to_vec();
                let opened =
                    cipher.decrypt_in_place_detached(nonce.into(), &[], &mut text, tag.into());
                opened.map_err(|_| wrong())?;
                Ok(text)
            }
        }
    }
}

fn gcm(algorithm: &'static ring::aead::Algorithm, key: &[u8]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))
}

/// Appends a random nonce and the value; where the value starts.
fn begin<const N: usize>(value: &[u8], out: &mut Vec<u8>) -> ([u8; N], usize) {
    let mut nonce = [0; N];
    rt::random(&mut nonce);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(value);
    (nonce, start)
}

fn open_cbc(cipher: &dyn Blocks, iv: [u8; BLOCK_BYTES], sealed: &[u8]) -> Result<Vec<u8>, String> {
    if !sealed.len().is_multiple_of(BLOCK_BYTES) {
        return Err("the stored data is not a multiple of the block size".into());
    }
    let (mut text, mut last) = (sealed.to_vec(), iv);
    for chunk in text.chunks_exact_mut(BLOCK_BYTES) {
        let mut next = [0; BLOCK_BYTES];
        next.copy_from_slice(chunk);
        cipher.decrypt(Block::from_mut_slice(chunk));
        chunk.iter_mut().zip(last).for_each(|(byte, before)| *byte ^= before);
        last = next;
    }
    let padding = text.last().copied().unwrap_or(0);
    let kept = text.len().checked_sub(usize::from(padding)).filter(|_| padding != 0);
    let kept = kept.ok_or("invalid PKCS7 data (empty or not padded)")?;
    if text[kept..].iter().any(|byte| *byte != padding) {
        return Err("invalid padding on input".into());
    }
    text.truncate(kept);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"/registry/secrets/default/upstream";

    /// Each line: provider, key, value, and what upstream's transformer (k8s.io/apiserver v0.32.13) made of it.
    const VECTORS: &str = include_str!("vectors.txt");

    fn fields(line: &str) -> (&str, Vec<Vec<u8>>) {
        let (provider, rest) = line.split_once(' ').unwrap();
        (provider, rest.split(' ').map(|text| wire::base64::decode(text).unwrap()).collect())
    }

    #[test]
    fn upstreams_bytes_are_read_and_ours_are_of_their_form() {
        let mut n = 0;
        for line in VECTORS.lines() {
            let (provider, fields) = fields(line);
            let [key, value, sealed] = fields.try_into().unwrap();
            let cipher = Cipher::new(provider, &key).unwrap();
            assert_eq!(cipher.open(KEY, &sealed), Ok(value.clone()), "{line}");
            let mut own = b"prefix:".to_vec();
            cipher.seal(KEY, &value, &mut own).unwrap();
            let own = own.strip_prefix(b"prefix:").unwrap();
            assert_eq!(own.len(), sealed.len(), "{line}");
            assert_ne!(own, sealed, "nonces are random");
            assert_eq!(cipher.open(KEY, own), Ok(value.clone()), "{line}");
            // Somewhere else, changed, or cut.
            let elsewhere = cipher.open(b"/registry/secrets/default/other", &sealed);
            assert_eq!(elsewhere.is_err(), provider == "aesgcm", "{line}");
            let mut changed = sealed.clone();
            *changed.last_mut().unwrap() ^= 1;
            assert_ne!(cipher.open(KEY, &changed), Ok(value.clone()), "{line}");
            for n_bytes in 0..sealed.len() {
                assert_ne!(cipher.open(KEY, &sealed[..n_bytes]), Ok(value.clone()), "{line}");
            }
            n += 1;
        }
        assert_eq!(n, 21);
    }

    #[test]
    fn keys_have_the_sizes_of_their_ciphers() {
        for (provider, sizes) in
            [("aesgcm", &[16, 24, 32][..]), ("aescbc", &[16, 24, 32]), ("secretbox", &[32])]
        {
            for size in 0..40 {
                let is = Cipher::new(provider, &vec![1; size]).is_some();
                assert_eq!(is, sizes.contains(&size), "{provider} {size}");
            }
        }
        assert!(Cipher::new("kms", &[1; 32]).is_none());
    }
}
