//! Finding disks by label or identifier, and what file system is on one: superblocks read, nothing more.

use std::io::Read;
use std::path::{Path, PathBuf};

use stdx::{Context, Error, Result};

/// What a superblock says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) fs_type: &'static str,
    pub(crate) label: String,
    pub(crate) uuid: String,
}

/// As far as the last of the magic numbers below, and its label.
const SUPERBLOCK_MAX_BYTES: usize = 0x10000 + 0x240;

/// The device node of `/dev/x`, `LABEL=`, `UUID=`, `PARTUUID=` or `PARTLABEL=`; `None` if it is not there (yet).
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let Some((key, value)) = name.split_once('=') else {
        return rt::fs::metadata(name).is_ok().then(|| PathBuf::from(name));
    };
    let value = value.trim_matches('"');
    block_devices().into_iter().find(|device| {
        let is = |text: &str| text.eq_ignore_ascii_case(value);
        match key.to_ascii_uppercase().as_str() {
            "LABEL" => read(device).is_ok_and(|found| found.label == value),
            "UUID" => read(device).is_ok_and(|found| is(&found.uuid)),
            "PARTUUID" => uevent(device, "PARTUUID").is_some_and(|found| is(&found)),
            "PARTLABEL" => uevent(device, "PARTNAME").is_some_and(|found| found == value),
            _ => false,
        }
    })
}

/// All disks and partitions, for messages.
pub(crate) fn names() -> String {
    let names: Vec<String> =
        block_devices().iter().map(|device| device.display().to_string()).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

fn block_devices() -> Vec<PathBuf> {
    let names = rt::fs::list_dir("/sys/class/block").unwrap_or_default();
    let names = names.iter().filter_map(|path| path.file_name());
    names.map(|name| Path::new("/dev").join(name)).collect()
}

/// A line of the device's `uevent` file.
fn uevent(device: &Path, key: &str) -> Option<String> {
    let path = Path::new("/sys/class/block").join(device.file_name()?).join("uevent");
    let text = rt::fs::read_text(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.map(str::to_owned)
}

/// Reads a device's superblock.
///
/// # Errors
/// If it cannot be read, or is none that we know.
pub(crate) fn read(device: &Path) -> Result<Superblock> {
    let what = || format!("read the superblock of {}", device.display());
    let mut bytes = Vec::with_capacity(SUPERBLOCK_MAX_BYTES);
    let file = rt::fs::open(device).context(what)?;
    file.take(SUPERBLOCK_MAX_BYTES as u64).read_to_end(&mut bytes).context(what)?;
    parse(&bytes).ok_or_else(|| {
        Error::new(format!("{} holds no file system that is known here", device.display()))
    })
}

fn parse(bytes: &[u8]) -> Option<Superblock> {
    let at = |offset: usize, len: usize| bytes.get(offset..offset + len);
    let is = |offset: usize, magic: &[u8]| at(offset, magic.len()) == Some(magic);
    let text = |offset: usize, len: usize| {
        let field = at(offset, len).unwrap_or(&[]);
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8_lossy(&field[..end]).trim_end().to_owned()
    };
    let uuid = |offset: usize| at(offset, 16).map(uuid_text).unwrap_or_default();
    let block = |fs_type, label, uuid| Some(Superblock { fs_type, label, uuid });
    if is(0x438, &[0x53, 0xef]) {
        return block(ext_type(bytes), text(0x478, 16), uuid(0x468));
    }
    if is(0, b"hsqs") {
        return block("squashfs", String::new(), String::new());
    }
    if is(0x400, &[0xe2, 0xe1, 0xf5, 0xe0]) {
        return block("erofs", text(0x440, 16), uuid(0x430));
    }
    if is(0, b"XFSB") {
        return block("xfs", text(108, 12), uuid(32));
    }
    if is(0x400, &[0x10, 0x20, 0xf5, 0xf2]) {
        let label = at(0x47c, 64).unwrap_or(&[]).chunks_exact(2);
        let label = label.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
        let label: Vec<u16> = label.take_while(|unit| *unit != 0).collect();
        return block("f2fs", String::from_utf16_lossy(&label), uuid(0x46c));
    }
    if is(0x10040, b"_BHRfS_M") {
        return block("btrfs", text(0x1012b, 256), uuid(0x10020));
    }
    for (magic, label, serial) in [(0x52, 0x47, 0x43), (0x36, 0x2b, 0x27)] {
        if is(magic, b"FAT") {
            let serial = at(serial, 4).unwrap_or(&[0; 4]);
            let serial =
                format!("{:02X}{:02X}-{:02X}{:02X}", serial[3], serial[2], serial[1], serial[0]);
            return block("vfat", text(label, 11), serial);
        }
    }
    None
}

/// The generations of ext differ in their feature bits; ext4's driver reads all of them.
fn ext_type(bytes: &[u8]) -> &'static str {
    let word = |offset: usize| {
        bytes
            .get(offset..offset + 4)
            .map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    const HAS_JOURNAL: u32 = 0x4;
    // Extents, 64 bit, and what else ext3 does not know.
    const EXT4_INCOMPATIBLE: u32 = 0xffc0;
    match (word(0x45c) & HAS_JOURNAL != 0, word(0x460) & EXT4_INCOMPATIBLE != 0) {
        (_, true) => "ext4",
        (true, false) => "ext3",
        (false, false) => "ext2",
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (idx, byte) in bytes.iter().enumerate() {
        if matches!(idx, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks() {
        let image = |parts: &[(usize, &[u8])]| {
            let mut bytes = vec![0; SUPERBLOCK_MAX_BYTES];
            for (offset, part) in parts {
                bytes[*offset..offset + part.len()].copy_from_slice(part);
            }
            parse(&bytes).map(|found| format!("{} {:?} {}", found.fs_type, found.label, found.uuid))
        };
        let id: Vec<u8> = (1..=16).collect();
        let text = "01020304-0506-0708-090a-0b0c0d0e0f10";
        let ext = |features: u8, parts: &[(usize, &[u8])]| {
            let mut all: Vec<(usize, &[u8])> = vec![(0x438, &[0x53, 0xef]), (0x468, &id)];
            let features = [features, 2];
            all.push((0x460, &features));
            all.extend(parts);
            image(&all)
        };
        for (found, want) in [
            (ext(0x40, &[(0x478, b"data\0junk")]), Some(format!("ext4 \"data\" {text}"))),
            (ext(0, &[(0x45c, &[4])]), Some(format!("ext4 \"\" {text}"))),
            (image(&[(0, b"hsqs")]), Some("squashfs \"\" ".into())),
            (
                image(&[(0, b"XFSB"), (32, &id), (108, b"twelve_chars")]),
                Some(format!("xfs \"twelve_chars\" {text}")),
            ),
            (
                image(&[(0x52, b"FAT32"), (0x47, b"BOOT       "), (0x43, &[1, 2, 3, 0xab])]),
                Some("vfat \"BOOT\" AB03-0201".into()),
            ),
            (image(&[]), None),
        ] {
            assert_eq!(found, want);
        }
        assert_eq!(parse(b"short"), None);
        let mut prng = stdx::prng::Prng::new(3);
        for len in 0..3000 {
            let mut bytes = vec![0; len];
            prng.fill(&mut bytes);
            if len > 0x440 {
                bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
            }
            parse(&bytes);
        }
    }
}
