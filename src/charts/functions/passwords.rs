//! What is random, and what passwords become: hashes, derived ones, encrypted texts.

use aes::Aes256;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use scrypt::Params;
use template::{Run, Value};

use super::text::{bytes, int, made, text};
use super::{Engine, Entry, Given, Out};

pub(super) const TABLE: &[Entry] = &[
    ("randAlphaNum", "i", |engine, run, args| drawn(engine, run, args, ALPHANUMERIC)),
    ("randAlpha", "i", |engine, run, args| drawn(engine, run, args, &ALPHANUMERIC[..52])),
    ("randNumeric", "i", |engine, run, args| drawn(engine, run, args, &ALPHANUMERIC[52..])),
    ("randAscii", "i", |engine, run, args| {
        let printable: Vec<u8> = (32..127).collect();
        drawn(engine, run, args, &printable)
    }),
    ("randBytes", "i", |engine, run, args| {
        let n = usize::try_from(int(&args[0])).map_err(|_| "makeslice: len out of range")?;
        run.heap.charge(n)?;
        let mut drawn = vec![0; n];
        engine.world.random(&mut drawn);
        made(run.heap, wire::base64::encode(&drawn))
    }),
    ("shuffle", "s", |engine, run, args| {
        let mut chars: Vec<char> = text(&args[0]).chars().collect();
        run.heap.charge(chars.len() * 8)?;
        for idx in (1..chars.len()).rev() {
            let bound = u32::try_from(idx + 1).map_err(|_| "the text is too long")?;
            chars.swap(idx, engine.below(bound)? as usize);
        }
        made(run.heap, chars.into_iter().collect::<String>())
    }),
    ("uuidv4", "", |engine, run, _| {
        let mut drawn = [0; 16];
        engine.world.random(&mut drawn);
        drawn[6] = drawn[6] & 0x0f | 0x40;
        drawn[8] = drawn[8] & 0x3f | 0x80;
        let digits = wire::hex::encode(&drawn);
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        made(run.heap, parts.join("-"))
    }),
    ("bcrypt", "s", |engine, run, args| made(run.heap, bcrypt(engine, run, bytes(&args[0]))?)),
    ("htpasswd", "ss", |engine, run, args| {
        let user = text(&args[0]);
        if user.contains(':') {
            return made(run.heap, format!("invalid username: {user}"));
        }
        let hash = bcrypt(engine, run, bytes(&args[1]))?;
        made(run.heap, format!("{user}:{hash}"))
    }),
    ("derivePassword", "issss", |_, run, args| made(run.heap, derived(run, args)?)),
    ("encryptAES", "ss", encrypt),
    ("decryptAES", "ss", decrypt),
];

const ALPHANUMERIC: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

fn drawn(engine: &Engine<'_>, run: &Run<'_>, args: Given<'_>, alphabet: &[u8]) -> Out {
    let n = usize::try_from(int(&args[0])).unwrap_or(0);
    run.heap.charge(n)?;
    run.heap.step(n as u64)?;
    let bound = u32::try_from(alphabet.len()).map_err(|_| "the alphabet is too long")?;
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        out.push(alphabet[engine.below(bound)? as usize]);
    }
    Ok(Value::text(out))
}

/// Binary logarithm of bcrypt's rounds, Go's default.
const BCRYPT_COST: u32 = 10;
/// Steps that a slow hash counts for, so that a template makes few of them.
const SLOW_STEPS: u64 = 200_000;

fn bcrypt(engine: &Engine<'_>, run: &Run<'_>, password: &[u8]) -> Result<String, String> {
    run.heap.step(SLOW_STEPS)?;
    if password.len() > 72 {
        return Ok(
            "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes".into(),
        );
    }
    let mut salt = [0; 16];
    engine.world.random(&mut salt);
    Ok(crate::bcrypt::hash(password, &salt, BCRYPT_COST))
}

/// The templates of the Master Password algorithm, a letter a class of characters.
const CLASSES: &[(&str, &[&str])] = &[
    ("maximum", &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"]),
    (
        "long",
        &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
    ),
    ("medium", &["CvcnoCvc", "CvcCvcno"]),
    ("short", &["Cvcn"]),
    ("basic", &["aaanaaan", "aannaaan", "aaannaaa"]),
    ("pin", &["nnnn"]),
];

const CHARACTERS: &[(u8, &[u8])] = &[
    (b'V', b"AEIOU"),
    (b'C', b"BCDFGHJKLMNPQRSTVWXYZ"),
    (b'v', b"aeiou"),
    (b'c', b"bcdfghjklmnpqrstvwxyz"),
    (b'A', b"AEIOUBCDFGHJKLMNPQRSTVWXYZ"),
    (b'a', b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"),
    (b'n', b"0123456789"),
    (b'o', b"@&%?,=[]_:-+*$#!'^~;()/."),
    (b'x', b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()"),
];

/// `derivePassword COUNTER TYPE PASSWORD USER SITE`.
fn derived(run: &Run<'_>, args: Given<'_>) -> Result<String, String> {
    const NAME: &[u8] = b"com.lyndir.masterpassword";
    run.heap.step(SLOW_STEPS)?;
    let kind = text(&args[1]);
    let Some((_, templates)) = CLASSES.iter().find(|(name, _)| *name == kind) else {
        return Ok(format!("cannot find password template {kind}"));
    };
    let counter = u32::try_from(int(&args[0])).map_err(|_| "the counter is not a uint32")?;
    let part = |text: &[u8]| -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        [NAME, &length.to_be_bytes(), text].concat()
    };
    // Takes 32 MiB while it runs.
    let params = Params::new(15, 8, 2, 64).map_err(|error| error.to_string())?;
    let mut key = [0; 64];
    scrypt::scrypt(bytes(&args[2]), &part(bytes(&args[3])), &params, &mut key)
        .map_err(|error| error.to_string())?;
    let mut message = part(bytes(&args[4]));
    message.extend_from_slice(&counter.to_be_bytes());
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let seed = ring::hmac::sign(&key, &message);
    let seed = seed.as_ref();
    let template = templates[usize::from(seed[0]) % templates.len()];
    let letters = template.bytes().zip(&seed[1..]).filter_map(|(class, byte)| {
        let (_, letters) = CHARACTERS.iter().find(|(name, _)| *name == class)?;
        Some(char::from(letters[usize::from(*byte) % letters.len()]))
    });
    Ok(letters.collect())
}

const BLOCK_BYTES: usize = 16;

fn cipher(password: &Value) -> Aes256 {
    let mut key = [0u8; 32];
    let password = bytes(password);
    let n = password.len().min(32);
    key[..n].copy_from_slice(&password[..n]);
    Aes256::new(&key.into())
}

/// CBC with PKCS #7 and the vector before it.
fn encrypt(engine: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let plain = bytes(&args[1]);
    if plain.is_empty() {
        return Ok(Value::text(""));
    }
    run.heap.charge(plain.len() * 3)?;
    let cipher = cipher(&args[0]);
    let mut block = [0u8; BLOCK_BYTES];
    engine.world.random(&mut block);
    let mut out = block.to_vec();
    let padding = BLOCK_BYTES - plain.len() % BLOCK_BYTES;
    let mut padded = plain.to_vec();
    padded.resize(plain.len() + padding, padding as u8);
    for chunk in padded.chunks(BLOCK_BYTES) {
        block.iter_mut().zip(chunk).for_each(|(into, byte)| *into ^= byte);
        let mut done = block.into();
        cipher.encrypt_block(&mut done);
        block = done.into();
        out.extend_from_slice(&block);
    }
    made(run.heap, wire::base64::encode(&out))
}

fn decrypt(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let encoded = text(&args[1]);
    if encoded.is_empty() {
        return Ok(Value::text(""));
    }
    run.heap.charge(encoded.len() * 2)?;
    let sealed = wire::base64::decode(&encoded).ok_or("illegal base64 data at input byte 0")?;
    if sealed.len() < 2 * BLOCK_BYTES || sealed.len() % BLOCK_BYTES != 0 {
        return Err("crypto/cipher: input not full blocks".to_owned());
    }
    let cipher = cipher(&args[0]);
    let mut plain = Vec::with_capacity(sealed.len());
    for pair in sealed.windows(2 * BLOCK_BYTES).step_by(BLOCK_BYTES) {
        let (before, own) = pair.split_at(BLOCK_BYTES);
        let mut block = [0u8; BLOCK_BYTES];
        block.copy_from_slice(own);
        let mut done = block.into();
        cipher.decrypt_block(&mut done);
        plain.extend(done.iter().zip(before).map(|(a, b)| a ^ b));
    }
    let padding = usize::from(plain.last().copied().unwrap_or(0));
    match plain.len().checked_sub(padding) {
        Some(length) => made(run.heap, &plain[..length]),
        None => Err("runtime error: slice bounds out of range".to_owned()),
    }
}
