//! The power button: input devices that have that key.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use rt::fs::File;
use sys::poll::{POLLIN, PollSet};

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const DEVICES_MAX: usize = 16;

/// The kernel's event ends with kind, code and value; the time before them is two machine words.
const EVENT_BYTES: usize = 2 * size_of::<usize>() + 8;

/// All power buttons.
#[derive(Debug, Default)]
pub(crate) struct Buttons {
    open: Vec<(String, File)>,
    first_place: usize,
}

impl Buttons {
    /// Opens those that have appeared.
    pub(crate) fn look(&mut self) {
        for path in rt::fs::list_dir("/sys/class/input").unwrap_or_default() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = self.open.iter().any(|(known, _)| *known == name);
            if !name.starts_with("event") || known || self.open.len() == DEVICES_MAX {
                continue;
            }
            let keys = rt::fs::read_text(path.join("device/capabilities/key")).unwrap_or_default();
            if !has_key(&keys, KEY_POWER.into()) {
                continue;
            }
            let device = Path::new("/dev/input").join(&name);
            match rt::fs::open_nonblocking(&device) {
                Ok(file) => {
                    log::debug!("Power button at {}", device.display());
                    self.open.push((name, file));
                }
                Err(error) => log::warn!("{error}"),
            }
        }
    }

    pub(crate) fn add_to(&mut self, set: &mut PollSet) {
        self.first_place = usize::MAX;
        for (_, file) in &self.open {
            let place = set.add(file.as_fd(), POLLIN);
            self.first_place = self.first_place.min(place);
        }
    }

    /// True if one was pressed. Devices that are gone are closed.
    pub(crate) fn pressed(&mut self, set: &PollSet) -> bool {
        let first = self.first_place;
        let mut pressed = false;
        let mut idx = 0;
        self.open.retain_mut(|(_, file)| {
            let ready = first != usize::MAX && set.ready(first + idx) != 0;
            idx += 1;
            if !ready {
                return true;
            }
            let mut events = [0; EVENT_BYTES * 16];
            match file.read(&mut events) {
                Ok(n) => {
                    pressed |= events[..n].chunks_exact(EVENT_BYTES).any(is_press);
                    n > 0
                }
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        pressed
    }
}

fn is_press(event: &[u8]) -> bool {
    let [.., k0, k1, c0, c1, v0, v1, v2, v3] = *event else { return false };
    let value = i32::from_ne_bytes([v0, v1, v2, v3]);
    (u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([c0, c1]), value) == (EV_KEY, KEY_POWER, 1)
}

/// sysfs shows a device's keys as machine words in hexadecimal, the highest first.
fn has_key(words: &str, key: usize) -> bool {
    let bits = usize::BITS as usize;
    let word = words.split_whitespace().rev().nth(key / bits);
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or(0);
    word >> (key % bits) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_events() {
        // A button of ACPI, and a keyboard without the key.
        let (power, keyboard) = match usize::BITS {
            64 => {
                ("10000000000000 0", "402000000 3803078f800d001 fe8fffdfffefffff fffffffffffffffe")
            }
            _ => ("100000 0 0 0", "fffffffe"),
        };
        assert!(has_key(power, 116));
        assert!(!has_key(keyboard, 116));
        assert!(!has_key("", 116) && !has_key("zz zz", 116));
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![0; EVENT_BYTES - 8];
            event.extend(kind.to_ne_bytes());
            event.extend(code.to_ne_bytes());
            event.extend(value.to_ne_bytes());
            event
        };
        assert!(is_press(&event(1, 116, 1)));
        assert!(!is_press(&event(1, 116, 0)), "released");
        assert!(!is_press(&event(1, 30, 1)));
        assert!(!is_press(&[1, 2]));
    }
}
