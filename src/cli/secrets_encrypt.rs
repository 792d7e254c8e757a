//! `k3rs secrets-encrypt ...`: the encryption of Secrets in the datastore and its keys, with k3s's flags and output.

use api::{Lens, Value, json};
use stdx::{Context, Error, Result};

use crate::flags::{Flag, Given};

pub const USAGE: &str = "\
USAGE: k3rs secrets-encrypt COMMAND [OPTIONS]

COMMANDS:
   status       print the status of the encryption (--output, -o: text or json)
   enable       encrypt Secrets, where the server runs with --secrets-encryption
   disable      decrypt Secrets
   prepare      add a key (--force, -f: at any stage)
   rotate       make the added key the one that encrypts (--force, -f)
   reencrypt    encrypt all Secrets with it and remove the old key (--force, -f; --skip: keep the old key)
   rotate-keys  the three of them at once

   --data-dir, -d FOLDER  where the token is (default /var/lib/rancher/k3s) [K3S_DATA_DIR]
   --token, -t TOKEN      the server's token (default the one in the folder) [K3S_TOKEN]
   --server, -s URL       the server (default https://127.0.0.1:6443) [K3S_URL]
";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ask {
    verb: String,
    as_json: bool,
    force: bool,
    skip: bool,
    pub data_dir: Option<String>,
    pub token: Option<String>,
    pub server: Option<String>,
}

const ALL: &[&str] =
    &["status", "enable", "disable", "prepare", "rotate", "reencrypt", "rotate-keys"];
const FLAGS: &[Flag] = &[
    Flag { name: "output", others: &["o"], takes: true, verbs: &["status"] },
    Flag {
        name: "force",
        others: &["f"],
        takes: false,
        verbs: &["prepare", "rotate", "reencrypt"],
    },
    Flag { name: "skip", others: &[], takes: false, verbs: &["reencrypt"] },
    Flag { name: "data-dir", others: &["d"], takes: true, verbs: ALL },
    Flag { name: "token", others: &["t"], takes: true, verbs: ALL },
    Flag { name: "server", others: &["s"], takes: true, verbs: ALL },
];

/// Verbs, what they ask for, and what they print.
const VERBS: [(&str, &str, &str); 6] = [
    ("enable", "", "secrets-encryption enabled"),
    ("disable", "", "secrets-encryption disabled"),
    ("prepare", "prepare", "prepare completed successfully"),
    ("rotate", "rotate", "rotate completed successfully"),
    ("reencrypt", "reencrypt_active", "reencryption started"),
    ("rotate-keys", "rotate_keys", "keys rotated, reencryption finished"),
];

impl Ask {
    /// Reads the arguments; `None`: help is wanted.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(args: &[String]) -> Result<Option<Ask>> {
        let Some(given) = Given::read(args, ALL, FLAGS)? else { return Ok(None) };
        given.no_words()?;
        let output = given.value("output").unwrap_or_default();
        if !["", "text", "json"].contains(&output.to_ascii_lowercase().as_str()) {
            return Err(Error::new(format!("invalid output format {output}")));
        }
        Ok(Some(Ask {
            data_dir: given.value("data-dir"),
            token: given.value("token"),
            server: given.value("server"),
            as_json: output.eq_ignore_ascii_case("json"),
            force: given.is_on("force"),
            skip: given.is_on("skip"),
            verb: given.verb,
        }))
    }

    /// The body for the server, where it is to change something; otherwise its status is asked for.
    pub fn body(&self) -> Option<Value> {
        let (verb, stage, _) = VERBS.iter().find(|(verb, ..)| *verb == self.verb)?;
        let mut body = json!({"force": self.force, "skip": self.skip});
        match stage.is_empty() {
            true => body["enable"] = (*verb == "enable").into(),
            false => body["stage"] = (*stage).into(),
        }
        Some(body)
    }

    /// What to print of the server's answer.
    ///
    /// # Errors
    /// If it is no status.
    pub fn shown(&self, answer: &[u8]) -> Result<String> {
        if let Some((_, _, done)) = VERBS.iter().find(|(verb, ..)| *verb == self.verb) {
            return Ok(format!("{done}\n"));
        }
        let status: Value =
            serde_json::from_slice(answer).context(|| "read the server's answer")?;
        if self.as_json {
            return Ok(pretty(&status));
        }
        let Some(enabled) = status.get("enable").and_then(Value::as_bool) else {
            return Ok("Encryption Status: Disabled, no configuration file found\n".into());
        };
        let mut text = format!(
            "Encryption Status: {}\nCurrent Rotation Stage: {}\nServer Encryption Hashes: {}\n\n",
            if enabled { "Enabled" } else { "Disabled" },
            status.str("stage"),
            if status.flag("hashmatch") { "All hashes match" } else { status.str("hasherror") },
        );
        let mut rows = vec![["Active", "Key Type", "Name"], ["------", "--------", "----"]];
        for (mark, key) in std::iter::once((" *", status.str("activekey")))
            .chain(status.list("inactivekeys").iter().map(|key| ("", key.as_str().unwrap_or(""))))
        {
            if let Some((kind, name)) = key.split_once(' ') {
                rows.push([mark, kind, name]);
            }
        }
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 2;
        let (first, second) = (width(0), width(1));
        for [mark, kind, name] in rows {
            text.push_str(&format!("{mark:<first$}{kind:<second$}{name}\n"));
        }
        text.push('\n');
        Ok(text)
    }
}

/// Go's `MarshalIndent` with tabs, of one map of texts, booleans and lists of texts.
fn pretty(status: &Value) -> String {
    let mut parts = Vec::new();
    for name in ["stage", "activekey", "enable", "hashmatch", "hasherror", "inactivekeys"] {
        match status.get(name) {
            None => {}
            Some(Value::Array(items)) => {
                let items: Vec<String> = items.iter().map(|item| format!("\t\t{item}")).collect();
                parts.push(format!("\t\"{name}\": [\n{}\n\t]", items.join(",\n")));
            }
            Some(value) => parts.push(format!("\t\"{name}\": {value}")),
        }
    }
    format!("{{\n{}\n}}\n", parts.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Ask>> {
        Ask::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_asked_for_is_what_k3s_asks_for() {
        for (args, wanted) in [
            (&["prepare", "-f"][..], json!({"stage": "prepare", "force": true, "skip": false})),
            (&["rotate"], json!({"stage": "rotate", "force": false, "skip": false})),
            (
                &["reencrypt", "--skip", "--force"],
                json!({"stage": "reencrypt_active", "force": true, "skip": true}),
            ),
            (&["rotate-keys"], json!({"stage": "rotate_keys", "force": false, "skip": false})),
            (&["disable"], json!({"enable": false, "force": false, "skip": false})),
            (&["-d", "/d", "enable"], json!({"enable": true, "force": false, "skip": false})),
        ] {
            assert_eq!(parse(args).unwrap().unwrap().body(), Some(wanted), "{args:?}");
        }
        assert_eq!(parse(&["status"]).unwrap().unwrap().body(), None);
        assert_eq!(parse(&[]).unwrap(), None);
        for (args, wanted) in [
            (&["nonsense"][..], "unknown command \"nonsense\""),
            (&["status", "x"], "unexpected argument \"x\""),
            (&["status", "--x"], "flag provided but not defined: --x"),
            (&["status", "-t"], "flag needs an argument: -t"),
        ] {
            assert_eq!(parse(args).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn a_status_looks_as_k3s_shows_it() {
        let status = json!({"stage": "rotate", "activekey": "AES-CBC aescbckey-1", "enable": true, "hashmatch": true, "inactivekeys": ["XSalsa20-POLY1305 secretboxkey"]});
        let shown = |args: &[&str], status: &Value| {
            parse(args).unwrap().unwrap().shown(status.to_string().as_bytes()).unwrap()
        };
        assert_eq!(
            shown(&["status"], &status),
            "Encryption Status: Enabled\nCurrent Rotation Stage: rotate\nServer Encryption Hashes: All hashes match\n\n\
             Active  Key Type           Name\n------  --------           ----\n *      AES-CBC            aescbckey-1\n        XSalsa20-POLY1305  secretboxkey\n\n"
        );
        assert_eq!(
            shown(&["status", "-o", "json"], &status),
            "{\n\t\"stage\": \"rotate\",\n\t\"activekey\": \"AES-CBC aescbckey-1\",\n\t\"enable\": true,\n\t\"hashmatch\": true,\n\t\"inactivekeys\": [\n\t\t\"XSalsa20-POLY1305 secretboxkey\"\n\t]\n}\n"
        );
        assert_eq!(
            shown(&["status"], &json!({"stage": "", "activekey": ""})),
            "Encryption Status: Disabled, no configuration file found\n"
        );
        assert_eq!(shown(&["rotate-keys"], &status), "keys rotated, reencryption finished\n");
    }
}
