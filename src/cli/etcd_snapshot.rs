//! `k3rs etcd-snapshot ...`: snapshots of the embedded etcd, with k3s's flags and output.

use api::{Lens, Value, json};
use stdx::{Arrange, Context, Error, Result};

use crate::flags::{Flag, Given, plain};
use crate::yaml;

pub const USAGE: &str = "\
USAGE: k3rs etcd-snapshot COMMAND [OPTIONS]

COMMANDS:
   save            take a snapshot now
                     --name NAME        its name, before the node's and the time (default on-demand)
                     --snapshot-compress  compress it
   ls              list the snapshots (--output, -o: table, json or yaml)
   delete NAME...  delete snapshots
   prune           delete the oldest snapshots whose names begin with --name (default on-demand)
                     --snapshot-retention N  keep so many (default the server's)

   --s3                    in a bucket of S3, too, which these name, or the server's configuration file:
                             --s3-endpoint --s3-endpoint-ca --s3-skip-ssl-verify --s3-access-key --s3-secret-key
                             --s3-session-token --s3-bucket --s3-bucket-lookup-type --s3-region --s3-folder --s3-proxy
                             --s3-config-secret --s3-insecure --s3-timeout --s3-retention
   --dir FOLDER            where they are (default the server's: <data-dir>/server/db/snapshots)
   --data-dir, -d FOLDER   where the token is (default /var/lib/rancher/k3s) [K3S_DATA_DIR]
   --etcd-token, -t TOKEN  the server's token (default the one in the folder) [K3S_TOKEN]
   --etcd-server, -s URL   the server (default https://127.0.0.1:6443)
";

const ALL: &[&str] = &["save", "ls", "list", "l", "delete", "prune"];
const FLAGS: &[Flag] = &[
    Flag { name: "name", others: &[], takes: true, verbs: &["save", "prune"] },
    Flag { name: "output", others: &["o"], takes: true, verbs: &["ls", "list", "l"] },
    Flag { name: "etcd-token", others: &["token", "t"], takes: true, verbs: ALL },
    Flag { name: "etcd-server", others: &["server", "s"], takes: true, verbs: ALL },
    // The rest is a server's, by its own names.
    Flag { name: "etcd-snapshot-dir", others: &["dir"], takes: true, verbs: ALL },
    Flag {
        name: "etcd-snapshot-compress",
        others: &["snapshot-compress"],
        takes: false,
        verbs: &["save"],
    },
    Flag {
        name: "etcd-snapshot-retention",
        others: &["snapshot-retention"],
        takes: true,
        verbs: &["prune"],
    },
    s3("etcd-s3", &["s3"], false),
    s3("etcd-s3-endpoint", &["s3-endpoint"], true),
    s3("etcd-s3-endpoint-ca", &["s3-endpoint-ca"], true),
    s3("etcd-s3-skip-ssl-verify", &["s3-skip-ssl-verify"], false),
    s3("etcd-s3-access-key", &["s3-access-key"], true),
    s3("etcd-s3-secret-key", &["s3-secret-key"], true),
    s3("etcd-s3-session-token", &["s3-session-token"], true),
    s3("etcd-s3-bucket", &["s3-bucket"], true),
    s3("etcd-s3-bucket-lookup-type", &["s3-bucket-lookup-type"], true),
    s3("etcd-s3-region", &["s3-region"], true),
    s3("etcd-s3-folder", &["s3-folder"], true),
    s3("etcd-s3-proxy", &["s3-proxy"], true),
    s3("etcd-s3-config-secret", &["s3-config-secret"], true),
    s3("etcd-s3-insecure", &["s3-insecure"], false),
    s3("etcd-s3-timeout", &["s3-timeout"], true),
    s3("etcd-s3-retention", &["s3-retention"], true),
    Flag { name: "data-dir", others: &["d"], takes: true, verbs: ALL },
    Flag { name: "config", others: &["c"], takes: true, verbs: ALL },
];
const fn s3(name: &'static str, others: &'static [&'static str], takes: bool) -> Flag {
    Flag { name, others, takes, verbs: ALL }
}
/// What is for the command itself.
const OWN: [&str; 4] = ["name", "output", "etcd-token", "etcd-server"];

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ask {
    verb: String,
    names: Vec<String>,
    output: String,
    name: Option<String>,
    pub token: Option<String>,
    pub server: Option<String>,
    /// The rest, as a server's flags.
    pub argv: Vec<String>,
}

/// What is said of snapshots beside the command: where and how, unless the server is to choose.
#[derive(Debug, Default)]
pub struct Said {
    pub dir: Option<String>,
    pub compress: Option<bool>,
    pub retention: Option<i64>,
    /// The bucket, as k3s names its parts.
    pub s3: Option<Value>,
}

impl Ask {
    /// Reads the arguments; `None`: help is wanted.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(args: &[String]) -> Result<Option<Ask>> {
        let Some(given) = Given::read(args, ALL, FLAGS)? else { return Ok(None) };
        let rest = given.flags().filter(|(name, _)| !OWN.contains(name));
        let mut ask = Ask {
            argv: rest.map(|(name, value)| format!("--{name}={value}")).collect(),
            output: given.value("output").unwrap_or_default().to_ascii_lowercase(),
            name: given.value("name"),
            token: given.value("etcd-token"),
            server: given.value("etcd-server"),
            names: given.words,
            verb: given.verb,
        };
        if ["list", "l"].contains(&ask.verb.as_str()) {
            ask.verb = "ls".to_owned();
        }
        match ask.verb.as_str() {
            "delete" if ask.names.is_empty() => {
                return Err(Error::new("no snapshots given for removal"));
            }
            "save" | "ls" | "prune" if !ask.names.is_empty() => {
                return Err(Error::new(
                    "this command does not take any arguments, see --help for usage",
                ));
            }
            _ => {}
        }
        if !["", "table", "json", "yaml"].contains(&ask.output.as_str()) {
            return Err(Error::new(format!("invalid output format: {}", ask.output)));
        }
        Ok(Some(ask))
    }

    /// The body for the server.
    pub fn body(&self, said: &Said) -> Value {
        let operation = if self.verb == "ls" { "list" } else { &self.verb };
        let mut body = json!({"operation": operation});
        match self.verb.as_str() {
            "delete" => body["name"] = self.names.clone().into(),
            "ls" => {}
            _ => body["name"] = json!([self.name.as_deref().unwrap_or("on-demand")]),
        }
        if let Some(dir) = &said.dir {
            body["dir"] = dir.as_str().into();
        }
        if let Some(compress) = said.compress {
            body["compress"] = compress.into();
        }
        // What is saved by hand drives nothing out.
        let retention = if self.verb == "save" { Some(0) } else { said.retention };
        if let Some(retention) = retention {
            body["retention"] = retention.into();
        }
        if let Some(s3) = &said.s3 {
            body["s3"] = s3.clone();
            if self.verb == "save" {
                body["s3"]["retention"] = 0.into();
            }
        }
        body
    }

    /// What to print of the server's answer.
    ///
    /// # Errors
    /// If it is none.
    pub fn shown(&self, answer: &[u8]) -> Result<String> {
        let answer: Value =
            serde_json::from_slice(answer).context(|| "read the server's answer")?;
        let told = |list: &str, done: &str| {
            let names = answer.list(list).iter().filter_map(Value::as_str);
            names.map(|name| format!("Snapshot {} {done}.\n", plain(name))).collect()
        };
        match self.verb.as_str() {
            "save" => return Ok(told("created", "saved")),
            "delete" | "prune" => return Ok(told("deleted", "deleted")),
            _ => {}
        }
        let mut items = answer.list("items").to_vec();
        items.arrange_by(|a, b| {
            let key = |item: &Value| {
                [item.str("status.creationTime"), item.str("spec.snapshotName")].map(str::to_owned)
            };
            key(a).cmp(&key(b))
        });
        match self.output.as_str() {
            "json" => {
                let mut answer = answer;
                answer["items"] = items.into();
                Ok(answer.to_string() + "\n")
            }
            "yaml" => Ok(yaml::text(
                &json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {}}),
            )),
            _ => Ok(table(&items)),
        }
    }
}

fn table(items: &[Value]) -> String {
    let mut rows = vec![["Name", "Location", "Size", "Created"].map(str::to_owned)];
    for item in items {
        rows.push([
            plain(item.str("spec.snapshotName")),
            plain(item.str("spec.location")),
            bytes(item.str("status.size")).to_string(),
            plain(item.str("status.creationTime")),
        ]);
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 1;
    let widths = [width(0), width(1), width(2)];
    let line = |[name, location, size, created]: &[String; 4]| {
        let [w0, w1, w2] = widths;
        format!("{name:w0$}{location:w1$}{size:w2$}{created}\n")
    };
    rows.iter().map(line).collect()
}

/// The number that a quantity of bytes is.
fn bytes(quantity: &str) -> u64 {
    let digits = quantity.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &quantity[digits.len()..] {
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => 1,
    };
    digits.parse::<u64>().unwrap_or(0).saturating_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Ask>> {
        Ask::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_asked_for_is_what_k3s_asks_for() {
        let said = Said {
            dir: Some("/d".into()),
            compress: Some(true),
            retention: Some(3),
            s3: Some(json!({"bucket": "b", "retention": 2})),
        };
        for (args, wanted) in [
            (
                &["save"][..],
                json!({"operation": "save", "name": ["on-demand"], "dir": "/d", "compress": true, "retention": 0, "s3": {"bucket": "b", "retention": 0}}),
            ),
            (
                &["prune", "--name=x"],
                json!({"operation": "prune", "name": ["x"], "dir": "/d", "compress": true, "retention": 3, "s3": {"bucket": "b", "retention": 2}}),
            ),
        ] {
            assert_eq!(parse(args).unwrap().unwrap().body(&said), wanted, "{args:?}");
        }
        let none = Said::default();
        let ask = parse(&["delete", "a", "b"]).unwrap().unwrap();
        assert_eq!(ask.body(&none), json!({"operation": "delete", "name": ["a", "b"]}));
        for list in ["ls", "list", "l"] {
            assert_eq!(parse(&[list]).unwrap().unwrap().body(&none), json!({"operation": "list"}));
        }
        let ask = parse(&[
            "save",
            "--dir",
            "/x",
            "--snapshot-compress",
            "-d=/data",
            "--s3",
            "--s3-bucket=b",
            "-t",
            "tok",
        ]);
        let ask = ask.unwrap().unwrap();
        let argv = [
            "--etcd-snapshot-dir=/x",
            "--etcd-snapshot-compress=true",
            "--data-dir=/data",
            "--etcd-s3=true",
            "--etcd-s3-bucket=b",
        ];
        assert_eq!(
            (ask.argv, ask.token.as_deref()),
            (argv.map(str::to_owned).to_vec(), Some("tok"))
        );
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&["ls", "--help"]).unwrap(), None);
        for (args, wanted) in [
            (&["delete"][..], "no snapshots given for removal"),
            (&["save", "x"], "this command does not take any arguments, see --help for usage"),
            (&["ls", "-o", "xml"], "invalid output format: xml"),
            (&["frobnicate"], "unknown command \"frobnicate\""),
            (&["save", "--frobnicate"], "flag provided but not defined: --frobnicate"),
            (&["save", "--name"], "flag needs an argument: --name"),
            (&["ls", "--name=x"], "flag provided but not defined: --name"),
            (
                &["save", "--snapshot-retention=1"],
                "flag provided but not defined: --snapshot-retention",
            ),
        ] {
            assert_eq!(parse(args).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn answers_look_as_k3s_shows_them() {
        let object = |name: &str, size: &str, at: &str| {
            json!({
                "spec": {"snapshotName": name, "location": format!("file:///s/{name}")},
                "status": {"size": size, "creationTime": at, "readyToUse": true},
            })
        };
        let list = json!({"items": [
            object("b", "4096k", "2027-01-15T08:00:01Z"), object("a", "17", "2027-01-15T08:00:00Z"),
        ]});
        let list = list.to_string();
        let shown = |args: &[&str], answer: &str| {
            parse(args).unwrap().unwrap().shown(answer.as_bytes()).unwrap()
        };
        assert_eq!(
            shown(&["ls"], &list),
            "Name Location    Size    Created\na    file:///s/a 17      2027-01-15T08:00:00Z\nb    file:///s/b 4096000 2027-01-15T08:00:01Z\n"
        );
        assert!(shown(&["ls", "-o", "json"], &list).starts_with("{\"items\":[{\"spec\":{"));
        assert_eq!(
            shown(&["ls", "-o=yaml"], &json!({"items": [object("a", "17", "t")]}).to_string()),
            "apiVersion: v1\nitems:\n- spec:\n    location: file:///s/a\n    snapshotName: \"a\"\n  status:\n    creationTime: \"t\"\n    readyToUse: true\n    size: \"17\"\nkind: List\nmetadata: {}\n"
        );
        assert_eq!(shown(&["save"], r#"{"created":["x"]}"#), "Snapshot x saved.\n");
        assert_eq!(
            shown(&["prune"], r#"{"deleted":["x","y\u001b"]}"#),
            "Snapshot x deleted.\nSnapshot y? deleted.\n"
        );
        assert_eq!(shown(&["delete", "z"], "{}"), "");
    }
}
