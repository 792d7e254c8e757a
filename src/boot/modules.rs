//! depmod's tables: which modules there are, what each needs, and which one a device asks for. No I/O.

use std::collections::{HashMap, HashSet};

/// The texts of `/lib/modules/RELEASE/modules.*`; an absent file is empty.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) dep: String,
    pub(crate) softdep: String,
    pub(crate) alias: String,
    pub(crate) builtin: String,
}

/// What to do for one name, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Files to load, relative to the modules' directory.
    Load(Vec<&'a str>),
    BuiltIn,
    Missing,
}

#[derive(Debug)]
pub(crate) struct Index<'a> {
    /// Path and the paths it needs, by name.
    modules: HashMap<&'a [u8], (&'a str, &'a str)>,
    /// Names before and after.
    soft: HashMap<&'a [u8], Vec<&'a str>>,
    /// Pattern and name.
    aliases: Vec<(&'a str, &'a str)>,
    builtin: HashSet<&'a [u8]>,
}

/// Names differ in `-` and `_` from file to file.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/net/a.ko.xz` is `a`.
fn stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem)
}

impl<'a> Index<'a> {
    pub(crate) fn new(texts: &'a Texts) -> Index<'a> {
        let mut index = Index {
            modules: HashMap::new(),
            soft: HashMap::new(),
            aliases: Vec::new(),
            builtin: HashSet::new(),
        };
        for line in texts.dep.lines() {
            if let Some((path, needs)) = line.split_once(':') {
                index.modules.insert(stem(path).as_bytes(), (path, needs));
            }
        }
        for line in texts.softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(name) = words.next() else { continue };
            // Loaded before or after makes no difference to the machine that comes up; `pre:` comes first in the file.
            let names = words.filter(|word| !word.ends_with(':'));
            index.soft.entry(name.as_bytes()).or_default().extend(names);
        }
        for line in texts.alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(name)) =
                (words.next(), words.next(), words.next())
            {
                index.aliases.push((pattern, name));
            }
        }
        index.builtin.extend(texts.builtin.lines().map(|path| stem(path).as_bytes()));
        index
    }

    /// The files to load for a module's name or one of its aliases.
    pub(crate) fn find(&self, name: &str) -> Found<'a> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        match self.add(name, &mut order, &mut seen) {
            true if order.is_empty() => Found::BuiltIn,
            true => Found::Load(order),
            false => Found::Missing,
        }
    }

    /// Appends what `name` needs and `name` itself. False if there is no such module.
    fn add(&self, name: &str, order: &mut Vec<&'a str>, seen: &mut HashSet<&'a str>) -> bool {
        if let Some((path, needs)) = self.module(name) {
            self.add_module(path, needs, order, seen);
            return true;
        }
        if self.builtin(name) {
            return true;
        }
        let mut found = false;
        for (pattern, target) in &self.aliases {
            if matches(pattern, name)
                && let Some((path, needs)) = self.module(target)
            {
                self.add_module(path, needs, order, seen);
                found = true;
            }
        }
        found
    }

    fn add_module(
        &self,
        path: &'a str,
        needs: &'a str,
        order: &mut Vec<&'a str>,
        seen: &mut HashSet<&'a str>,
    ) {
        if !seen.insert(path) {
            return;
        }
        let soft = self.both_spellings(&self.soft, stem(path));
        for name in soft.into_iter().flatten() {
            self.add(name, order, seen);
        }
        // depmod lists all that is needed, the deepest last.
        for need in needs.split_whitespace().rev() {
            if let Some((path, needs)) = self.module(stem(need)) {
                self.add_module(path, needs, order, seen);
            }
        }
        order.push(path);
    }

    fn module(&self, name: &str) -> Option<(&'a str, &'a str)> {
        self.both_spellings(&self.modules, name).copied()
    }

    fn builtin(&self, name: &str) -> bool {
        let underscores = canonical(name);
        let dashes = underscores.replace('_', "-");
        [name, &underscores, &dashes].iter().any(|name| self.builtin.contains(name.as_bytes()))
    }

    /// Looks a name up as it is, with underscores, and with dashes; names that mix them are found as they are.
    fn both_spellings<'m, T>(&self, map: &'m HashMap<&'a [u8], T>, name: &str) -> Option<&'m T> {
        map.get(name.as_bytes()).or_else(|| {
            let underscores = canonical(name);
            map.get(underscores.as_bytes())
                .or_else(|| map.get(underscores.replace('_', "-").as_bytes()))
                .or_else(|| {
                    let known = map.keys().find(|known| {
                        known.len() == underscores.len()
                            && known.iter().zip(underscores.bytes()).all(|(known, byte)| {
                                *known == byte || (*known == b'-' && byte == b'_')
                            })
                    });
                    map.get(*known?)
                })
        })
    }

    /// True if the kernel told which modules it has built in, so that a missing one is missing.
    pub(crate) fn knows_builtin(&self) -> bool {
        !self.builtin.is_empty()
    }
}

/// Shell patterns as in modules.alias: `*`, `?` and `[a-z]`. Linear in time: only the last star is tried again.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while pos < text.len() {
        match step(pattern, at, text[pos]) {
            Step::Star => {
                star = Some((at + 1, pos));
                at += 1;
            }
            Step::Matches(next) => {
                at = next;
                pos += 1;
            }
            Step::Differs => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    at = after;
                    pos = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

enum Step {
    Star,
    /// The byte matches, and the pattern goes on there.
    Matches(usize),
    Differs,
}

fn step(pattern: &[u8], at: usize, byte: u8) -> Step {
    match pattern.get(at) {
        None => Step::Differs,
        Some(b'*') => Step::Star,
        Some(b'?') => Step::Matches(at + 1),
        Some(b'[') => {
            let Some(len) = pattern[at..].iter().position(|byte| *byte == b']') else {
                return Step::Differs;
            };
            let set = &pattern[at + 1..at + len];
            let inside = set.iter().enumerate().any(|(idx, low)| match set.get(idx + 1..idx + 3) {
                Some([b'-', high]) => (*low..=*high).contains(&byte),
                _ => *low == byte,
            });
            if inside { Step::Matches(at + len + 1) } else { Step::Differs }
        }
        Some(other) if *other == byte => Step::Matches(at + 1),
        Some(_) => Step::Differs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        Texts {
            dep: "kernel/net/nf_conntrack.ko: kernel/net/nf_defrag_ipv4.ko kernel/lib/libcrc32c.ko\n\
                  kernel/net/nf_defrag_ipv4.ko:\n\
                  kernel/lib/libcrc32c.ko.xz:\n\
                  kernel/crypto/crc32c_generic.ko:\n\
                  kernel/arch/crc32c-arm-ce.ko: kernel/crypto/crc32c_generic.ko\n\
                  kernel/drivers/virtio_net.ko: kernel/net/net_failover.ko\n\
                  kernel/net/net_failover.ko: kernel/net/failover.ko\n\
                  kernel/net/failover.ko:\n\
                  kernel/a_loop.ko:\n\
                  kernel/b_loop.ko:\n"
                .into(),
            softdep: "# comment\nsoftdep libcrc32c pre: crc32c\nsoftdep a_loop pre: b_loop\nsoftdep b_loop post: a_loop\n"
                .into(),
            alias: "alias crc32c crc32c_generic\nalias crc32c crc32c_arm_ce\n\
                    alias virtio:d00000001v* virtio_net\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n"
                .into(),
            builtin: "kernel/fs/ext4/ext4.ko\nkernel/x/one-two_three.ko\n".into(),
        }
    }

    #[test]
    fn dependencies_come_first() {
        let texts = texts();
        let index = Index::new(&texts);
        for (name, want) in [
            (
                "nf-conntrack",
                Found::Load(vec![
                    "kernel/crypto/crc32c_generic.ko",
                    "kernel/arch/crc32c-arm-ce.ko",
                    "kernel/lib/libcrc32c.ko.xz",
                    "kernel/net/nf_defrag_ipv4.ko",
                    "kernel/net/nf_conntrack.ko",
                ]),
            ),
            (
                "virtio:d00000001v00001AF4",
                Found::Load(vec![
                    "kernel/net/failover.ko",
                    "kernel/net/net_failover.ko",
                    "kernel/drivers/virtio_net.ko",
                ]),
            ),
            ("a_loop", Found::Load(vec!["kernel/b_loop.ko", "kernel/a_loop.ko"])),
            ("ext4", Found::BuiltIn),
            ("one_two_three", Found::Missing),
            ("one-two_three", Found::BuiltIn),
            ("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", Found::Missing),
            ("vxlan", Found::Missing),
        ] {
            assert_eq!(index.find(name), want, "{name}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("of:N*T*Cvirtio,mmioC*", "of:Nvirtio_mmioT(null)Cvirtio,mmio", false),
            ("of:N*T*Cvirtio,mmio", "of:Nvirtio_mmioT(null)Cvirtio,mmio", true),
            ("input:b*v*p*e*-e*1,*k*", "input:b0019v0000p0001e0000-e0,1,k74,ramlsfw", true),
            ("usb:v0[0-9A-C]d?", "usb:v0Bd7", true),
            ("usb:v0[0-9A-C]d?", "usb:v0Dd7", false),
            ("a[", "ab", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("", "", true),
            ("**", "", true),
            ("x", "", false),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn arbitrary_tables_end_without_panic() {
        let mut prng = stdx::prng::Prng::new(4);
        for _ in 0..2000 {
            let mut word = || {
                let letters = b"ab-_.:/ko*[]\n \xc3";
                let bytes: Vec<u8> = (0..prng.below(40))
                    .map(|_| letters[prng.below(letters.len() as u64) as usize])
                    .collect();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let texts = Texts {
                dep: word(),
                softdep: format!("softdep {}", word()),
                alias: format!("alias {}", word()),
                builtin: word(),
            };
            let index = Index::new(&texts);
            for name in ["a", "b", "ab", "a_b"] {
                index.find(name);
            }
        }
    }
}
