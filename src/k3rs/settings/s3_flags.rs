//! What is said of a bucket for snapshots: by flags, in the body of a request, or in a Secret.

use std::time::Duration;

use api::{Lens, Value};
use datastore::s3;
use stdx::{Error, Result};
use wire::base64;

/// k3s's names in the body of a request, and of flags behind `etcd-s3-`; a Secret has the flags' names.
pub(crate) const FIELDS: [(&str, &str); 15] = [
    ("accessKey", "access-key"),
    ("bucket", "bucket"),
    ("bucketLookup", "bucket-lookup-type"),
    ("configSecret", "config-secret"),
    ("endpoint", "endpoint"),
    ("endpointCA", "endpoint-ca"),
    ("folder", "folder"),
    ("insecure", "insecure"),
    ("proxy", "proxy"),
    ("region", "region"),
    ("retention", "retention"),
    ("secretKey", "secret-key"),
    ("sessionToken", "session-token"),
    ("skipSSLVerify", "skip-ssl-verify"),
    ("timeout", "timeout"),
];
const TIMEOUT: Duration = Duration::from_secs(300);
/// What certificates begin with.
pub(crate) const PEM: &str = "-----BEGIN";
const CA_MAX_BYTES: u64 = 1 << 20;

/// What is said, under the names of a request; of what is not said there is nothing. It shows nothing of itself, for
/// keys are in it.
#[derive(Clone, Default)]
pub(crate) struct Said(Value);

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Said")
    }
}

impl Said {
    /// Takes texts by the names of a request; what is empty is not said.
    ///
    /// # Errors
    /// If one is none of its kind.
    pub(crate) fn of_texts<'a>(
        texts: impl IntoIterator<Item = (&'static str, &'a str)>,
    ) -> Result<Said> {
        let mut tree = Value::Object(api::Map::new());
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            let value = match name {
                "insecure" | "skipSSLVerify" => text.parse().ok().map(Value::Bool),
                "retention" => text.parse::<i64>().ok().map(Value::from),
                _ => Some(Value::from(text)),
            };
            let known = FIELDS.iter().find(|(field, _)| *field == name);
            let flag = known.map_or("", |(_, flag)| flag);
            let value = value
                .ok_or_else(|| Error::new(format!("invalid value {text:?} for etcd-s3-{flag}")))?;
            tree[name] = value;
        }
        Said::of_tree(tree)
    }

    /// Takes what a request says.
    ///
    /// # Errors
    /// As [`Said::of_texts`].
    pub(crate) fn of_tree(tree: Value) -> Result<Said> {
        let said = Said(tree);
        said.timeout()?;
        said.lookup()?;
        Ok(said)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.str(name)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.0.flag(name)
    }

    pub(crate) fn retention(&self) -> Option<i64> {
        self.0.int("retention")
    }

    /// The Secret to look into, which is ignored where flags say more than its name.
    pub(crate) fn secret(&self) -> &str {
        self.text("configSecret")
    }

    /// Whether nothing but the name of a Secret, or how many are kept, is said.
    pub(crate) fn says_no_bucket(&self) -> bool {
        let named = |name: &String| !matches!(name.as_str(), "configSecret" | "retention");
        let usual = |name: &str, value: &Value| match name {
            "endpoint" => *value == s3::ENDPOINT,
            "region" => *value == s3::REGION,
            "timeout" => ["5m", "5m0s"].iter().any(|usual| value == usual),
            _ => matches!(value, Value::Null | Value::Bool(false)) || *value == "",
        };
        let all = self.0.as_object();
        all.into_iter().flatten().all(|(name, value)| !named(name) || usual(name, value))
    }

    pub(crate) fn timeout(&self) -> Result<Duration> {
        let text = match self.text("timeout") {
            // Go's zero, where a request leaves it to the server.
            "" | "0s" => return Ok(TIMEOUT),
            text => text,
        };
        let nanos = stdx::duration::parse(text).and_then(|nanos| u64::try_from(nanos).ok());
        let nanos = nanos.filter(|nanos| *nanos > 0);
        nanos
            .map(Duration::from_nanos)
            .ok_or_else(|| Error::new(format!("invalid value {text:?} for etcd-s3-timeout")))
    }

    pub(crate) fn lookup(&self) -> Result<s3::Lookup> {
        match self.text("bucketLookup") {
            "" | "auto" => Ok(s3::Lookup::Auto),
            "dns" => Ok(s3::Lookup::Dns),
            "path" => Ok(s3::Lookup::Path),
            other => {
                Err(Error::new(format!("invalid value {other:?} for etcd-s3-bucket-lookup-type")))
            }
        }
    }

    /// The authorities' certificates in PEM: of files, or of base64, several with spaces between; "" if none are named.
    ///
    /// # Errors
    /// If there is no such file.
    pub(crate) fn authorities(&self) -> Result<String> {
        let said = self.text("endpointCA");
        if said.contains(PEM) {
            return Ok(said.to_owned());
        }
        let mut pem = String::new();
        for one in said.split_ascii_whitespace() {
            // Some paths are base64, too.
            let is_file = one.starts_with('/') && rt::fs::metadata(one).is_ok();
            let bytes = match base64::decode(one).filter(|_| !is_file) {
                Some(bytes) => bytes,
                None => rt::fs::read_within(one, CA_MAX_BYTES)?,
            };
            pem.push_str(&String::from_utf8_lossy(&bytes));
            pem.push('\n');
        }
        Ok(pem)
    }

    /// For the body of a request: files of this command become what is in them.
    ///
    /// # Errors
    /// As [`Said::authorities`].
    pub(crate) fn for_request(&self) -> Result<Value> {
        let (pem, mut tree) = (self.authorities()?, self.0.clone());
        if !pem.is_empty() {
            tree["endpointCA"] = base64::encode(pem.as_bytes()).into();
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn what_is_said_and_what_is_none() {
        let said = Said::of_texts([
            ("bucket", "b"),
            ("folder", ""),
            ("insecure", "true"),
            ("timeout", "1m30s"),
            ("retention", "7"),
        ])
        .unwrap();
        let tree = json!({"bucket": "b", "insecure": true, "timeout": "1m30s", "retention": 7});
        assert_eq!(said.for_request().unwrap(), tree);
        assert_eq!((said.timeout().unwrap().as_secs(), said.retention()), (90, Some(7)));
        assert!(said.is("insecure") && !said.says_no_bucket());
        assert_eq!(format!("{said:?}"), "Said");
        for (name, text) in [
            ("insecure", "perhaps"),
            ("timeout", "soon"),
            ("timeout", "-1s"),
            ("bucketLookup", "x"),
            ("retention", "x"),
        ] {
            let error = Said::of_texts([(name, text)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid value {text:?} for etcd-s3-")), "{error}");
        }
    }

    #[test]
    fn what_k3s_sends_without_flags_is_no_bucket() {
        for (tree, none) in [
            (
                json!({"endpoint": "s3.amazonaws.com", "region": "us-east-1", "timeout": "5m0s"}),
                true,
            ),
            (json!({"configSecret": "x", "retention": 5, "bucket": "", "insecure": false}), true),
            (json!({}), true),
            (json!({"bucket": "b"}), false),
            (json!({"configSecret": "x", "skipSSLVerify": true}), false),
        ] {
            assert_eq!(Said::of_tree(tree.clone()).unwrap().says_no_bucket(), none, "{tree}");
        }
    }

    #[test]
    fn authorities_are_files_or_what_is_in_them() {
        let file = std::env::temp_dir().join(format!("k3rs-s3-ca-{}", std::process::id()));
        rt::fs::write(&file, b"one", 0o600).unwrap();
        let both = format!("{} {}", file.display(), base64::encode(b"two"));
        let said = Said::of_texts([("endpointCA", both.as_str())]).unwrap();
        assert_eq!(said.authorities().unwrap(), "one\ntwo\n");
        let sent = said.for_request().unwrap();
        assert_eq!(Said::of_tree(sent).unwrap().authorities().unwrap(), "one\ntwo\n\n");
        rt::fs::remove_file(&file).unwrap();
        assert!(said.authorities().is_err());
        let pem = "-----BEGIN CERTIFICATE-----\n";
        let said = Said::of_texts([("endpointCA", pem)]).unwrap();
        assert_eq!(said.authorities().unwrap(), pem);
    }
}
