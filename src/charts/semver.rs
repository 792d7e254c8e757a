//! Versions and constraints as Masterminds' semver reads them, which Helm uses everywhere.

use std::cmp::Ordering;

use stdx::{Error, Result};

/// Longest version or constraint.
const TEXT_BYTES_MAX: usize = 1024;

/// A version. What is missing of `1.2` is zero.
#[derive(Clone, Debug)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    /// What is behind the `-`.
    pub prerelease: String,
    /// What is behind the `+`; it does not order versions.
    pub metadata: String,
    pub original: String,
}

impl Version {
    /// Reads `v1.2.3-rc.1+build`, of which only the first number must be there.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Version> {
        read(text).ok_or_else(|| Error::new("Invalid Semantic Version"))
    }
}

fn read(text: &str) -> Option<Version> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let rest = text.strip_prefix('v').unwrap_or(text);
    let (rest, metadata) = split(rest, '+');
    let (numbers, prerelease) = split(rest, '-');
    let is_word = |text: &str| {
        text.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    };
    if !metadata.is_none_or(is_word) || !prerelease.is_none_or(is_word) {
        return None;
    }
    let is_padded = |part: &str| {
        part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit())
    };
    if prerelease.is_some_and(|text| text.split('.').any(is_padded)) {
        return None;
    }
    let mut parts = numbers.split('.').map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u64>().ok().filter(|_| is_number)
    });
    let mut next = || parts.next().unwrap_or(Some(0));
    let version = Version {
        major: next()?,
        minor: next()?,
        patch: next()?,
        prerelease: prerelease.unwrap_or("").to_owned(),
        metadata: metadata.unwrap_or("").to_owned(),
        original: text.to_owned(),
    };
    parts.next().is_none().then_some(version)
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| compare_prereleases(&self.prerelease, &other.prerelease))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

fn compare_prereleases(a: &str, b: &str) -> Ordering {
    // None is after any.
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let (a, b) = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A constraint: alternatives of comparisons that must all hold.
#[derive(Clone, Debug)]
pub struct Constraint {
    alternatives: Vec<Vec<Comparison>>,
}

#[derive(Clone, Debug)]
struct Comparison {
    operator: &'static str,
    version: Version,
    /// Something of the version is missing or an `x`.
    is_partial: bool,
    lacks_minor: bool,
    lacks_patch: bool,
}

/// Longer ones before their beginnings.
const OPERATORS: &[(&str, &str)] = &[
    ("!=", "!="),
    (">=", ">="),
    ("=>", ">="),
    ("<=", "<="),
    ("=<", "<="),
    ("~>", "~"),
    ("=", "="),
    (">", ">"),
    ("<", "<"),
    ("~", "~"),
    ("^", "^"),
];

impl Constraint {
    /// Reads `>=1.2, <2 || ~3.1 || 1.x || 1.2 - 2.0`.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Constraint> {
        let improper = || Error::new(format!("improper constraint: {text}"));
        if text.len() > TEXT_BYTES_MAX {
            return Err(improper());
        }
        let alternatives =
            text.split("||").map(comparisons).collect::<Option<Vec<_>>>().ok_or_else(improper)?;
        Ok(Constraint { alternatives })
    }

    pub fn allows(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|all| all.iter().all(|one| one.holds(version)))
    }

    /// Whether some alternative names a pre-release, without which none is ever chosen.
    pub fn names_prereleases(&self) -> bool {
        self.alternatives.iter().flatten().any(|one| !one.version.prerelease.is_empty())
    }
}

/// Whether `version` is allowed by `constraint`; not if one of them cannot be read.
pub fn is_compatible(constraint: &str, version: &str) -> bool {
    match (Constraint::parse(constraint), Version::parse(version)) {
        (Ok(constraint), Ok(version)) => constraint.allows(&version),
        _ => false,
    }
}

fn comparisons(text: &str) -> Option<Vec<Comparison>> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (operator, after) = OPERATORS
            .iter()
            .find_map(|(word, operator)| Some((*operator, rest.strip_prefix(word)?.trim_start())))
            .unwrap_or(("=", rest));
        let end = after.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(after.len());
        // Comparisons may stand together without anything between them.
        let glued = after[..end].find(['<', '>', '=', '!', '~', '^']).unwrap_or(end);
        let first = comparison(operator, &after[..glued])?;
        rest = after[glued..].trim_start();
        // `1.2 - 2.0`, with spaces around.
        if let Some(high) = rest.strip_prefix("- ") {
            let high = high.trim_start();
            let end = high.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(high.len());
            out.push(Comparison { operator: ">=", ..first });
            out.push(comparison("<=", &high[..end])?);
            rest = high[end..].trim_start();
        } else {
            out.push(first);
        }
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(out)
}

fn comparison(operator: &'static str, text: &str) -> Option<Comparison> {
    let rest = text.strip_prefix('v').unwrap_or(text);
    let (rest_of, metadata) = split(rest, '+');
    let (numbers, prerelease) = split(rest_of, '-');
    let parts: Vec<&str> = numbers.split('.').collect();
    let is_any = |idx: usize| parts.get(idx).is_none_or(|part| matches!(*part, "x" | "X" | "*"));
    let is_part =
        |part: &&str| matches!(*part, "x" | "X" | "*") || part.bytes().all(|b| b.is_ascii_digit());
    if parts.len() > 3 || parts[0].is_empty() || !parts.iter().all(is_part) {
        return None;
    }
    let (lacks_major, lacks_minor) = (is_any(0), !is_any(0) && is_any(1));
    let lacks_patch = !lacks_major && !lacks_minor && is_any(2);
    let tail = prerelease.map(|text| format!("-{text}")).unwrap_or_default()
        + &metadata.map(|text| format!("+{text}")).unwrap_or_default();
    let whole = match (lacks_major, lacks_minor, lacks_patch) {
        (true, ..) => format!("0.0.0{tail}"),
        (_, true, _) => format!("{}.0.0{tail}", parts[0]),
        (.., true) => format!("{}.{}.0{tail}", parts[0], parts[1]),
        _ => rest.to_owned(),
    };
    Some(Comparison {
        operator,
        version: read(&whole)?,
        is_partial: lacks_major || lacks_minor || lacks_patch,
        lacks_minor,
        lacks_patch,
    })
}

impl Comparison {
    fn holds(&self, version: &Version) -> bool {
        let own = &self.version;
        if !version.prerelease.is_empty() && own.prerelease.is_empty() {
            return false;
        }
        let order = version.cmp(own);
        match self.operator {
            "!=" => self.differs(version),
            ">" if !self.is_partial => order == Ordering::Greater,
            ">" if version.major != own.major => version.major > own.major,
            ">" => self.lacks_patch && version.minor > own.minor,
            "<" => order == Ordering::Less,
            ">=" => order != Ordering::Less,
            "<=" if !self.is_partial => order != Ordering::Greater,
            "<=" => {
                version.major < own.major
                    || version.major == own.major
                        && (version.minor <= own.minor || self.lacks_minor)
            }
            "~" => self.is_near(version),
            "^" => self.is_compatible(version),
            _ if self.is_partial => self.is_near(version),
            _ => order == Ordering::Equal,
        }
    }

    fn differs(&self, version: &Version) -> bool {
        let own = &self.version;
        if !self.is_partial {
            return version != own;
        }
        version.major != own.major
            || !self.lacks_minor && version.minor != own.minor
            || !self.lacks_minor && !self.lacks_patch && version.patch != own.patch
    }

    fn is_near(&self, version: &Version) -> bool {
        let own = &self.version;
        if version < own {
            return false;
        }
        let is_zero = own.major == 0 && own.minor == 0 && own.patch == 0;
        if is_zero && !self.lacks_minor && !self.lacks_patch {
            return true;
        }
        version.major == own.major && (version.minor == own.minor || self.lacks_minor)
    }

    fn is_compatible(&self, version: &Version) -> bool {
        let own = &self.version;
        if version < own {
            return false;
        }
        if own.major > 0 || self.lacks_minor {
            return version.major == own.major;
        }
        if version.major > 0 {
            return false;
        }
        if own.minor > 0 || self.lacks_patch {
            return version.minor == own.minor;
        }
        version.minor == 0 && version.patch == own.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_as_masterminds_says() {
        for (constraint, version, expected) in [
            (">=1.19-0", "v1.32.9+k3rs1", true),
            (">=1.19", "1.32.9-rc.1", false),
            (">=1.19-0", "1.32.9-rc.1", true),
            ("^1.2.3", "1.9.0", true),
            ("^1.2.3", "2.0.0", false),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("^0", "0.9.1", true),
            ("~1.2", "1.2.9", true),
            ("~1.2", "1.3.0", false),
            ("~1", "1.9.0", true),
            ("1.x", "1.5.2", true),
            ("1.2.x", "1.3.0", false),
            ("*", "3.4.5", true),
            ("1.2", "1.2.7", true),
            ("=1.2.3", "1.2.3", true),
            ("!=1.2", "1.2.3", false),
            (">1.2", "1.2.9", false),
            (">1.2", "1.3.0", true),
            ("<=1.2", "1.2.9", true),
            ("<1.20-0 || >= 1.22-0", "1.21.0", false),
            (">= 1.2, < 2.0", "1.9.9", true),
            (">=1.2 <2.0", "2.0.0", false),
            (">=1.16.0-0 <1.25.0-0", "1.24.3", true),
            ("1.2 - 2.0", "2.0.5", true),
            ("1.2.0 - 2.0.0", "2.0.5", false),
            ("2.x.x", "2.31.4", true),
            ("", "1.0.0", false),
            ("x.y", "1.0.0", false),
        ] {
            assert_eq!(is_compatible(constraint, version), expected, "{constraint} {version}");
        }
    }

    #[test]
    fn versions_are_ordered() {
        let order = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0",
            "1.0.1",
            "v1.10",
        ];
        for pair in order.windows(2) {
            let read = |text| Version::parse(text).unwrap();
            assert!(read(pair[0]) < read(pair[1]), "{pair:?}");
        }
        assert_eq!(Version::parse("v1.2+k3s1").unwrap().to_string(), "1.2.0+k3s1");
        for bad in ["", "a", "1.2.3.4", "1..2", "1.2.3-", "1.2.3-01", "-1"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
    }
}
