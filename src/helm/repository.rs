//! The index of a chart repository, read line by line while it arrives: big ones have tens of megabytes, of which one
//! chart's newest version is wanted.

use api::{Lens, Value};
use stdx::{Error, Result};

/// One version of one chart, with its description, its annotations and its dependencies.
const ITEM_MAX_BYTES: usize = 512 << 10;
/// Longest line, icons as data URLs among them.
const LINE_MAX_BYTES: usize = 512 << 10;
/// An index in JSON is read whole.
const JSON_MAX_BYTES: usize = 4 << 20;

/// A version of a chart as the index has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: String,
    /// Where its archive is, perhaps relative to the index.
    pub(crate) url: String,
    /// SHA-256 of the archive in hex; "" if the index has none.
    pub(crate) digest: String,
}

/// Reads an index in pieces and hands over the versions of one chart.
pub(crate) struct Index<'a> {
    name: &'a str,
    found: &'a mut (dyn FnMut(Entry) + Send),
    line: Vec<u8>,
    place: Place,
    item: String,
    /// All of an index in JSON.
    json: Option<Vec<u8>>,
    started: bool,
}

/// Where in the index the next line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before `entries:`, or after its end.
    Outside,
    /// Below `entries:`, at a chart of another name. Names are indented this far; `None` before the first.
    Among(Option<usize>),
    /// Below the chart's name, which is indented this far. Its items are, too, or farther.
    Inside(usize, Option<usize>),
}

impl<'a> Index<'a> {
    /// `found` is told each version of the chart `name`, in the order of the index.
    pub(crate) fn new(name: &'a str, found: &'a mut (dyn FnMut(Entry) + Send)) -> Index<'a> {
        Index {
            name,
            found,
            line: Vec::new(),
            place: Place::Outside,
            item: String::new(),
            json: None,
            started: false,
        }
    }

    /// The next piece.
    ///
    /// # Errors
    /// If it is no index, or something in it is too large.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if let (false, Some(first)) = (self.started, first) {
            self.started = true;
            if *first == b'{' {
                self.json = Some(Vec::new());
            }
        }
        if let Some(json) = &mut self.json {
            if json.len() + bytes.len() > JSON_MAX_BYTES {
                return Err(Error::new(format!(
                    "an index in JSON may have at most {JSON_MAX_BYTES} bytes"
                )));
            }
            json.extend_from_slice(bytes);
            return Ok(());
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.read(&line)?;
            self.line = line;
            self.line.clear();
        }
        if self.line.len() + bytes.len() > LINE_MAX_BYTES {
            return Err(Error::new(format!(
                "a line of the index has more than {LINE_MAX_BYTES} bytes"
            )));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// The end of the index.
    ///
    /// # Errors
    /// As [`Index::push`].
    pub(crate) fn finish(mut self) -> Result<()> {
        if let Some(json) = self.json.take() {
            let tree: Value = serde_json::from_slice(&json)
                .map_err(|error| Error::wrap("read the index as JSON", error))?;
            let versions = tree.at("entries").get(self.name).and_then(Value::as_array);
            versions.into_iter().flatten().for_each(|item| self.tell(item));
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        self.read(&line)?;
        self.end_item()
    }

    fn read(&mut self, line: &[u8]) -> Result<()> {
        let line =
            std::str::from_utf8(line).map_err(|error| Error::wrap("read the index", error))?;
        let line = line.trim_end();
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        let is_text = content.is_empty() || content.starts_with('#');
        if is_text && self.item.is_empty() {
            return Ok(());
        }
        // A key at the beginning of a line ends what was before.
        if indent == 0 && !is_text && !content.starts_with("- ") && content != "-" {
            self.end_item()?;
            self.place = match content.strip_prefix("entries:").map(str::trim) {
                Some("" | "{}") => Place::Among(None),
                Some(_) => return Err(Error::new("the entries of the index are not in lines")),
                None => Place::Outside,
            };
            return Ok(());
        }
        match self.place {
            Place::Outside => {}
            Place::Among(names) => {
                let is_name = names.is_none_or(|names| indent == names)
                    && !is_text
                    && !content.starts_with('-');
                if is_name {
                    self.begin(content, indent);
                }
            }
            Place::Inside(names, items) => {
                let is_item = content == "-" || content.starts_with("- ");
                if !is_text && indent <= names && !is_item {
                    self.end_item()?;
                    self.begin(content, indent);
                } else if is_item && items.is_none_or(|items| indent == items) {
                    self.end_item()?;
                    self.place = Place::Inside(names, Some(indent));
                    self.keep(&line.replacen('-', " ", 1))?;
                } else if items.is_some() {
                    self.keep(line)?;
                }
            }
        }
        Ok(())
    }

    /// A chart's name.
    fn begin(&mut self, content: &str, indent: usize) {
        let name = content.split_once(':').map_or(content, |(name, _)| name);
        let name = name.trim_matches(['"', '\'']);
        self.place = match name == self.name {
            true => Place::Inside(indent, None),
            false => Place::Among(Some(indent)),
        };
    }

    fn keep(&mut self, line: &str) -> Result<()> {
        if self.item.len() + line.len() > ITEM_MAX_BYTES {
            return Err(Error::new(format!(
                "a version of {} has more than {ITEM_MAX_BYTES} bytes in the index",
                self.name
            )));
        }
        self.item.push_str(line);
        self.item.push('\n');
        Ok(())
    }

    fn end_item(&mut self) -> Result<()> {
        let item = std::mem::take(&mut self.item);
        // One that cannot be read is as if it were not there, as Helm has it.
        if let Some(tree) = Some(item)
            .filter(|it| !it.is_empty())
            .and_then(|it| wire::yaml::parse_one_loose(&it).ok())
        {
            self.tell(&tree);
        }
        Ok(())
    }

    fn tell(&mut self, item: &Value) {
        let url = item.list("urls").first().and_then(Value::as_str).unwrap_or("");
        let digest = item.str("digest").trim_start_matches("sha256:");
        (self.found)(Entry {
            version: item.str("version").to_owned(),
            url: url.to_owned(),
            digest: digest.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, name: &str, step: usize) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut tell =
            |entry: Entry| found.push(format!("{} {} {}", entry.version, entry.url, entry.digest));
        let mut index = Index::new(name, &mut tell);
        let pushed = text.as_bytes().chunks(step).try_for_each(|piece| index.push(piece));
        pushed.and_then(|()| index.finish()).map_err(|error| error.to_string())?;
        Ok(found)
    }

    const HELMS: &str = r#"apiVersion: v1
entries:
  another:
  - version: 9.9.9
    urls: [x.tgz]
  demo:
  - apiVersion: v2
    appVersion: "1.0"
    dependencies:
    - name: x
      version: 7.7.7
    description: |
      Many lines
      entries:

      - version: 6.6.6
    digest: abc
    urls:
    - https://example.com/demo-1.2.3.tgz
    - https://example.com/mirror.tgz
    version: 1.2.3
  - version: "1.2"
    urls:
    - demo-1.2.tgz
  demo-more:
  - version: 8.8.8
generated: "2026-01-01T00:00:00Z"
"#;

    #[test]
    fn versions_of_one_chart() {
        let wanted = ["1.2.3 https://example.com/demo-1.2.3.tgz abc", "1.2 demo-1.2.tgz "];
        for step in [1, 7, 100_000] {
            assert_eq!(read(HELMS, "demo", step).unwrap(), wanted, "in pieces of {step}");
        }
        assert_eq!(read(HELMS, "demo-more", 50).unwrap(), ["8.8.8  "]);
        assert_eq!(read(HELMS, "nothing", 50).unwrap(), [""; 0]);
        // Other programs indent otherwise, quote names, and begin with another part.
        let deep = "generated: now\nentries:\n    \"demo\":\n        -\n          version: 1.0.0\n          urls: [a.tgz]\n        - version: 2.0.0\n    z: []\napiVersion: v1";
        assert_eq!(read(deep, "demo", 3).unwrap(), ["1.0.0 a.tgz ", "2.0.0  "]);
        let json = r#"{"entries": {"demo": [{"version": "1.0.0", "urls": ["a.tgz"], "digest": "sha256:ff"}]}}"#;
        assert_eq!(read(json, "demo", 10).unwrap(), ["1.0.0 a.tgz ff"]);
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic() {
        let mut prng = stdx::prng::Prng::new(11);
        let pieces = [
            "entries:",
            "\n",
            "\n  ",
            "\n    ",
            "demo:",
            "- ",
            "-",
            "version: 1.0.0",
            "urls: [a]",
            "#",
            "\"",
            "{",
            "|",
            "\t",
            "\u{e4}",
            "\0",
            ":",
            "- - ",
            "'demo':",
            "other:",
        ];
        for _ in 0..5000 {
            let n = prng.below(40);
            let piece = |_| pieces[usize::try_from(prng.below(pieces.len() as u64)).unwrap()];
            let text: String = (0..n).map(piece).collect();
            let whole = read(&text, "demo", usize::MAX).ok();
            assert_eq!(read(&text, "demo", 1).ok(), whole, "in pieces: {text:?}");
        }
    }

    #[test]
    fn what_is_too_large_or_malformed_is_refused() {
        let long = format!("entries:\n  demo: {}", "x".repeat(LINE_MAX_BYTES));
        assert!(read(&long, "demo", 4096).unwrap_err().contains("a line of the index"));
        let many = format!("entries:\n  demo:\n  - a: b\n{}", "    c: d\n".repeat(100_000));
        assert!(read(&many, "demo", 4096).unwrap_err().contains("a version of demo"));
        let other = format!("entries:\n  other:\n  - a: b\n{}", "    c: d\n".repeat(100_000));
        assert_eq!(read(&other, "demo", 4096).unwrap(), [""; 0], "of others nothing is kept");
        assert!(read("entries: {demo: []}", "demo", 5).is_err());
        assert!(read(&format!("{{{}", " ".repeat(JSON_MAX_BYTES)), "demo", 65536).is_err());
        assert_eq!(
            read("entries:\n  demo:\n  - [\n  - version: 1.0.0\n", "demo", 5).unwrap(),
            ["1.0.0  "]
        );
        assert!(read("entries:\n  demo:\n  - \u{0}\n", "demo", 5).is_ok());
    }
}
