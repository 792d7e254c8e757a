//! Sets of CPUs as kernel and kubelet write them: `0-3,7`.

use std::fmt;

use stdx::Arrange;

/// The highest number of a CPU, and so how many there may be: as many as Linux can be built for.
const CPU_MAX: u32 = 8191;

/// In order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(Vec<u32>);

impl CpuSet {
    /// `None` for what is no list, and for CPUs that no Linux has.
    pub fn parse(text: &str) -> Option<CpuSet> {
        let text = text.trim();
        let mut all = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (number(first)?, number(last)?);
            if first > last || last > CPU_MAX || all.len() > CPU_MAX as usize {
                return None;
            }
            all.extend(first..=last);
        }
        Some(all.into_iter().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    pub fn contains(&self, cpu: u32) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    pub fn has_all(&self, other: &CpuSet) -> bool {
        other.iter().all(|cpu| self.contains(cpu))
    }

    #[must_use]
    pub fn with(&self, other: &CpuSet) -> CpuSet {
        self.iter().chain(other.iter()).collect()
    }

    #[must_use]
    pub fn without(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.iter().filter(|cpu| !other.contains(*cpu)).collect())
    }
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> CpuSet {
        let mut all: Vec<u32> = cpus.into_iter().collect();
        all.arrange();
        all.dedup();
        CpuSet(all)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = 0;
        while let Some(first) = self.0.get(at) {
            let comma = if at == 0 { "" } else { "," };
            let mut last = *first;
            while self.0.get(at + 1) == Some(&(last + 1)) {
                (at, last) = (at + 1, last + 1);
            }
            match last == *first {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (text, want) in [
            ("", Some("")),
            ("0", Some("0")),
            ("0-3,7\n", Some("0-3,7")),
            ("7,3,2,0,1,1-2", Some("0-3,7")),
            ("0,1", Some("0-1")),
            ("8191", Some("8191")),
            ("8192", None),
            ("0-4294967295", None),
            ("3-1", None),
            ("1,", None),
            ("+1", None),
            ("a", None),
            ("1-", None),
        ] {
            let read = CpuSet::parse(text).map(|set| set.to_string());
            assert_eq!(read.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn sets_are_put_together_and_taken_apart() {
        let set = |text: &str| CpuSet::parse(text).unwrap();
        assert_eq!(set("0-3").without(&set("1,5")), set("0,2-3"));
        assert_eq!(set("0,4").with(&set("2-4")), set("0,2-4"));
        assert!(set("0-3").has_all(&set("1-2")) && !set("0-3").has_all(&set("3-4")));
        assert!(set("0-3").has_all(&set("")) && set("").is_empty());
    }
}
