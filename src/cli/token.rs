//! `k3rs token ...`: bootstrap tokens, by which agents join, with k3s's flags and output.

use std::pin::Pin;

use api::kinds::SECRET;
use api::kinds::secret::{BOOTSTRAP_TOKEN, text};
use api::{Lens, LensMut, Object, Value, json};
use client::{Client, DeleteOptions, ListOptions};
use stdx::time::Wall;
use stdx::{Error, Result};

use crate::flags::{Flag, Given};
use crate::yaml;

pub const USAGE: &str = "\
USAGE: k3rs token COMMAND

COMMANDS:
   create [TOKEN]   create a bootstrap token and print it
                      --description TEXT   what it is for
                      --groups LIST        groups of who uses it (default system:bootstrappers:k3s:default-node-token)
                      --ttl DURATION       how long it is good, 0 for ever (default 24h0m0s)
                      --usages LIST        what it may be used for (default signing,authentication)
   delete TOKEN...  delete bootstrap tokens, by their id or whole
   generate         print a random token, and create nothing
   list             list the bootstrap tokens
                      --output, -o         text, json or yaml (default text)
   rotate           make another token the servers'; agents and other servers need it at their next start
                      --new-token TOKEN        the new one (default a random one, in server/token)
                      --token, -t TOKEN        the old one (default the one in the folder) [K3S_TOKEN]
                      --server, -s URL         the server (default https://127.0.0.1:6443)
                      --data-dir, -d FOLDER    where the old one is (default /var/lib/rancher/k3s) [K3S_DATA_DIR]

   --kubeconfig FILE  how to reach the server [KUBECONFIG] (default /etc/rancher/k3s/k3s.yaml)
";

const NAMESPACE: &str = "kube-system";
const DEFAULT_GROUP: &str = "system:bootstrappers:k3s:default-node-token";
const DEFAULT_TTL_SECS: i64 = 24 * 3600;
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// What the command needs of the process that runs it.
pub struct World<'a> {
    /// The server of the kubeconfig that was named, if one was, and its CA.
    pub open: &'a dyn Fn(Option<&str>) -> Result<(Client, String)>,
    /// Asks a server for another token.
    pub rotate: &'a dyn Fn(Rotation) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>,
    /// The whole form of a token for a CA.
    pub whole: fn(ca_pem: &str, token: &str) -> String,
    pub random: fn(&mut [u8]),
    pub now: Wall,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// Another token for the servers, and whom to ask for it.
#[derive(Default, PartialEq, Eq)]
pub struct Rotation {
    /// "": a random one.
    pub new_token: String,
    pub token: Option<String>,
    pub server: Option<String>,
    pub data_dir: Option<String>,
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rotation")
    }
}

/// k3s's, in its yellow.
const KEEP_OLD: &str = "\x1b[33mWARNING\x1b[0m: Recommended to keep a record of the old token. If restoring from a snapshot, you must use the token associated with that snapshot.\n";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ask {
    verb: String,
    tokens: Vec<String>,
    description: String,
    groups: Vec<String>,
    usages: Vec<String>,
    ttl_secs: i64,
    output: String,
    kubeconfig: Option<String>,
    rotation: Rotation,
}

/// Runs the command; gives what to print.
///
/// # Errors
/// What is wrong with the arguments, or what the server says.
pub async fn run(args: &[String], world: &World<'_>) -> Result<String> {
    let Some(ask) = parse(args)? else { return Ok(USAGE.to_owned()) };
    if ask.verb == "rotate" {
        (world.rotate)(ask.rotation).await?;
        return Ok(format!("{KEEP_OLD}Token rotated, restart k3rs nodes with new token\n"));
    }
    if ask.verb == "generate" {
        return Ok(generate(world.random) + "\n");
    }
    let (client, ca_pem) = (world.open)(ask.kubeconfig.as_deref())?;
    let failed = |status: api::Status| Error::new(status.to_string());
    match ask.verb.as_str() {
        "create" => {
            let token = ask.tokens.first().cloned().unwrap_or_else(|| generate(world.random));
            let (id, secret) = parts(&token)?;
            let name = format!("bootstrap-token-{id}");
            let known = client.get_optional(&SECRET, NAMESPACE, &name).await.map_err(failed)?;
            if known.is_some() {
                return Err(Error::new(format!("a token with id {id:?} already exists")));
            }
            let tree = secret_of(&ask, id, secret, world.now);
            client.create(&SECRET, tree).await.map_err(failed)?;
            Ok((world.whole)(&ca_pem, &token) + "\n")
        }
        "delete" => {
            let mut told = String::new();
            for token in &ask.tokens {
                let id = if is_plain(token, ID_LENGTH) { token } else { parts(token)?.0 };
                let name = format!("bootstrap-token-{id}");
                let done = client.delete(&SECRET, NAMESPACE, &name, DeleteOptions::default()).await;
                done.map_err(|status| {
                    Error::new(format!("failed to delete bootstrap token {id:?}: {status}"))
                })?;
                told.push_str(&format!("bootstrap token {id:?} deleted\n"));
            }
            Ok(told)
        }
        _ => {
            let options = ListOptions {
                field_selector: format!("type={BOOTSTRAP_TOKEN}"),
                ..ListOptions::default()
            };
            let list = client.list(&SECRET, NAMESPACE, options).await.map_err(failed)?;
            let trees: Vec<Value> = list.items.iter().map(Object::tree).collect();
            let all = || Value::from_iter(trees.iter().map(shown));
            Ok(match ask.output.as_str() {
                "json" => all().to_string() + "\n",
                "yaml" => yaml::text(&all()),
                _ => table(&trees, world.now),
            })
        }
    }
}

const CREATE: &[&str] = &["create"];
const ROTATE: &[&str] = &["rotate"];
const FLAGS: &[Flag] = &[
    Flag { name: "description", others: &[], takes: true, verbs: CREATE },
    Flag { name: "groups", others: &[], takes: true, verbs: CREATE },
    Flag { name: "usages", others: &[], takes: true, verbs: CREATE },
    Flag { name: "ttl", others: &[], takes: true, verbs: CREATE },
    Flag { name: "output", others: &["o"], takes: true, verbs: &["list"] },
    Flag {
        name: "kubeconfig",
        others: &[],
        takes: true,
        verbs: &["create", "delete", "generate", "list"],
    },
    Flag { name: "new-token", others: &[], takes: true, verbs: ROTATE },
    Flag { name: "token", others: &["t"], takes: true, verbs: ROTATE },
    Flag { name: "server", others: &["s"], takes: true, verbs: ROTATE },
    Flag { name: "data-dir", others: &["d"], takes: true, verbs: ROTATE },
];

fn parse(args: &[String]) -> Result<Option<Ask>> {
    let verbs = ["create", "delete", "generate", "list", "rotate"];
    let Some(given) = Given::read(args, &verbs, FLAGS)? else { return Ok(None) };
    let output = given.value("output").unwrap_or_else(|| "text".to_owned());
    if !["text", "json", "yaml"].contains(&output.as_str()) {
        return Err(Error::new(format!(
            "output {output:?} is not supported, want text, json or yaml"
        )));
    }
    let mut ask = Ask {
        description: given.value("description").unwrap_or_default(),
        groups: given.list("groups"),
        usages: given.list("usages"),
        ttl_secs: given.value("ttl").map_or(Ok(DEFAULT_TTL_SECS), |text| duration(&text))?,
        output,
        kubeconfig: given.value("kubeconfig"),
        rotation: Rotation {
            new_token: given.value("new-token").unwrap_or_default(),
            token: given.value("token"),
            server: given.value("server"),
            data_dir: given.value("data-dir"),
        },
        tokens: given.words,
        verb: given.verb,
    };
    match ask.verb.as_str() {
        "create" => {}
        "delete" if ask.tokens.is_empty() => {
            return Err(Error::new("missing argument; 'token delete' is missing token"));
        }
        _ => return Ok(Some(ask)),
    }
    if ask.groups.is_empty() {
        ask.groups.push(DEFAULT_GROUP.to_owned());
    }
    if ask.usages.is_empty() {
        ask.usages = vec!["signing".to_owned(), "authentication".to_owned()];
    }
    if let Some(bad) = ask.groups.iter().find(|group| !group.starts_with("system:bootstrappers:")) {
        return Err(Error::new(format!(
            "bootstrap group {bad:?} is invalid (must match \\Asystem:bootstrappers:[a-z0-9:-]{{0,255}}[a-z0-9]\\z)"
        )));
    }
    if let Some(bad) =
        ask.usages.iter().find(|usage| !["signing", "authentication"].contains(&usage.as_str()))
    {
        return Err(Error::new(format!(
            "invalid bootstrap token usage string: {bad}, valid usage options: signing, authentication"
        )));
    }
    Ok(Some(ask))
}

/// Go's form of a duration, as far as whole seconds: `24h`, `1h30m0s`, `0`.
fn duration(text: &str) -> Result<i64> {
    let bad = || {
        Error::new(format!(
            "invalid value {text:?} for flag --ttl: want a duration like 24h or 1h30m0s"
        ))
    };
    if text == "0" {
        return Ok(0);
    }
    let (mut secs, mut digits) = (0i64, String::new());
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(bad()),
        };
        let n: i64 = digits.parse().map_err(|_| bad())?;
        digits.clear();
        secs = n.checked_mul(unit).and_then(|part| secs.checked_add(part)).ok_or_else(bad)?;
    }
    // A time that no clock will show is none.
    let fits = digits.is_empty() && !text.is_empty() && secs < 1 << 33;
    if fits { Ok(secs) } else { Err(bad()) }
}

fn is_plain(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| ALPHABET.contains(&b))
}

fn parts(token: &str) -> Result<(&str, &str)> {
    // Its whole form as well.
    let token = token.rsplit("::").next().unwrap_or(token);
    let parts = token.split_once('.');
    parts.filter(|(id, secret)| is_plain(id, ID_LENGTH) && is_plain(secret, SECRET_LENGTH)).ok_or_else(
        || {
            Error::new(format!(
                "the bootstrap token {token:?} was not of the form \"\\\\A([a-z0-9]{{6}})\\\\.([a-z0-9]{{16}})\\\\z\""
            ))
        },
    )
}

fn generate(random: fn(&mut [u8])) -> String {
    let mut token = String::new();
    while token.len() < ID_LENGTH + 1 + SECRET_LENGTH {
        let mut byte = [0];
        random(&mut byte);
        if token.len() == ID_LENGTH {
            token.push('.');
        }
        // The largest multiple of 36 in a byte, so that every character is as likely.
        if byte[0] < 252 {
            token.push(char::from(ALPHABET[usize::from(byte[0] % 36)]));
        }
    }
    token
}

fn secret_of(ask: &Ask, id: &str, secret: &str, now: Wall) -> Value {
    let mut texts = json!({
        "token-id": id, "token-secret": secret, "auth-extra-groups": ask.groups.join(","),
    });
    if !ask.description.is_empty() {
        texts.set("description", ask.description.as_str());
    }
    if ask.ttl_secs > 0 {
        let end = Wall::from_secs(now.secs() + ask.ttl_secs);
        texts.set("expiration", api::time::format(end));
    }
    for usage in &ask.usages {
        texts.set(&format!("usage-bootstrap-{usage}"), "true");
    }
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": BOOTSTRAP_TOKEN, "stringData": texts,
        "metadata": {"namespace": NAMESPACE, "name": format!("bootstrap-token-{id}")},
    })
}

fn usages(secret: &Value) -> Vec<&str> {
    let names = secret.at("data").as_object().into_iter().flatten().map(|(name, _)| name);
    let names = names.filter(|name| text(secret, name) == "true");
    names.filter_map(|name| name.strip_prefix("usage-bootstrap-")).collect()
}

/// A token as `-o json` has it.
fn shown(secret: &Value) -> Value {
    let field = |name: &str| text(secret, name);
    let mut tree = json!({
        "token": format!("{}.{}", field("token-id"), field("token-secret")), "usages": usages(secret),
    });
    for (name, value) in [("description", field("description")), ("expires", field("expiration"))] {
        if !value.is_empty() {
            tree.set(name, value);
        }
    }
    let groups = field("auth-extra-groups");
    if !groups.is_empty() {
        tree.set("groups", Value::from_iter(groups.split(',').map(Value::from)));
    }
    tree
}

fn table(secrets: &[Value], now: Wall) -> String {
    let mut rows = vec![
        ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned),
    ];
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    for secret in secrets {
        let field = |name: &str| text(secret, name);
        let expires = field("expiration");
        let (ttl, expires) = match api::time::parse(&expires) {
            Some(end) => (short(end.secs() - now.secs()), expires),
            None => ("<forever>".to_owned(), "<never>".to_owned()),
        };
        rows.push([
            field("token-id"),
            ttl,
            expires,
            or_none(usages(secret).join(",")),
            or_none(field("description")),
            or_none(field("auth-extra-groups")),
        ]);
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].len() + 3).max().unwrap_or(0).max(10);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut told = String::new();
    for row in &rows {
        for (idx, cell) in row.iter().enumerate() {
            // What users wrote is no business of the terminal's.
            told.extend(cell.chars().map(|c| if c.is_control() { '?' } else { c }));
            let pads = if idx == 5 { 0 } else { widths[idx] - cell.len() };
            told.extend(std::iter::repeat_n(' ', pads));
        }
        told.push('\n');
    }
    told
}

/// Upstream's short form of a time that is left.
fn short(secs: i64) -> String {
    match secs {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86_400 => format!("{}h", secs / 3600),
        86_400..31_536_000 => format!("{}d", secs / 86_400),
        _ => format!("{}y", secs / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_is_asked_for() {
        for (words, wanted) in [
            (&["delete"][..], "missing argument; 'token delete' is missing token"),
            (
                &["create", "--ttl", "1d"],
                "invalid value \"1d\" for flag --ttl: want a duration like 24h or 1h30m0s",
            ),
            (&["create", "--ttl"], "flag needs an argument: --ttl"),
            (
                &["create", "--groups=system:masters"],
                "bootstrap group \"system:masters\" is invalid (must match \\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\\z)",
            ),
            (
                &["create", "--usages=all"],
                "invalid bootstrap token usage string: all, valid usage options: signing, authentication",
            ),
            (&["list", "-o", "xml"], "output \"xml\" is not supported, want text, json or yaml"),
            (&["frobnicate"], "unknown command \"frobnicate\""),
            (&["list", "--frobnicate"], "flag provided but not defined: --frobnicate"),
            (&["rotate", "--new-token"], "flag needs an argument: --new-token"),
        ] {
            assert_eq!(parse(&args(words)).unwrap_err().to_string(), wanted);
        }
        let ask = parse(&args(&["create", "--ttl=1h30m5s", "--usages=signing"])).unwrap().unwrap();
        assert_eq!(
            (ask.ttl_secs, ask.usages.len(), ask.groups[0].as_str()),
            (5405, 1, DEFAULT_GROUP)
        );
        assert_eq!(parse(&args(&["create", "--ttl", "0"])).unwrap().unwrap().ttl_secs, 0);
    }

    #[test]
    fn tokens_have_their_form() {
        let token = generate(|bytes| bytes.fill(251));
        assert_eq!(parts(&token).unwrap(), ("999999", "9999999999999999"));
        assert_eq!(parts("K10ab::abcdef.0123456789abcdef").unwrap().0, "abcdef");
        for bad in ["", "abcdef", "abcdef.x", "Abcdef.0123456789abcdef"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn they_are_listed_as_k3s_lists_them() {
        let now = Wall::from_secs(1_800_000_000);
        let ask = parse(&args(&["create", "--description=rack 7"])).unwrap().unwrap();
        let mut secret = secret_of(&ask, "abcdef", "0123456789abcdef", now);
        let texts = secret.remove("stringData").unwrap();
        for (name, value) in texts.as_object().unwrap() {
            // As the server stores it.
            let bytes = value.as_str().unwrap().bytes();
            let encoded = encode(&bytes.collect::<Vec<u8>>());
            secret.map_mut("data").insert(name.clone(), encoded.into());
        }
        let wanted = "TOKEN     TTL       EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS\n\
                      abcdef    24h       2027-01-16T08:00:00Z   authentication,signing   rack 7        system:bootstrappers:k3s:default-node-token\n";
        let found = table(&[secret.clone()], now);
        // 24 hours are a day.
        assert_eq!(found.replace("1d ", "24h"), wanted, "{found}");
        assert_eq!(shown(&secret).str("token"), "abcdef.0123456789abcdef");
        for (secs, wanted) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (59, "59s"),
            (60, "1m"),
            (86_399, "23h"),
            (31_536_000, "1y"),
        ] {
            assert_eq!(short(secs), wanted);
        }
    }

    /// Base64.
    fn encode(bytes: &[u8]) -> String {
        let mut text = String::new();
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for chunk in bytes.chunks(3) {
            let n = chunk.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for idx in 0..4 {
                let digit = DIGITS[(n >> (18 - 6 * idx)) as usize & 63];
                text.push(if idx <= chunk.len() { char::from(digit) } else { '=' });
            }
        }
        text
    }
}
