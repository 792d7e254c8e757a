//! Keys and certificates, which the world makes.

use std::rc::Rc;

use template::{Object, Run, Value};

use super::text::{int, made, text};
use super::{Engine, Entry, Given, Out};
use crate::world::Certificate;

pub(super) const TABLE: &[Entry] = &[
    ("genPrivateKey", "s", |engine, run, args| {
        let kind = text(&args[0]);
        let kind = if kind.is_empty() { "rsa" } else { &*kind };
        match kind {
            "rsa" | "dsa" | "ecdsa" | "ed25519" => {}
            other => return made(run.heap, format!("Unknown type {other}")),
        }
        run.heap.step(KEY_STEPS)?;
        let key = engine.world.private_key(kind);
        made(run.heap, key.unwrap_or_else(|why| format!("failed to generate private key: {why}")))
    }),
    ("buildCustomCert", "ss", |_, _, args| {
        let decode = |value: &Value, what: &str| {
            let decoded = wire::base64::decode(&text(value));
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            text.filter(|text| !wire::pem::sections(text.as_bytes()).is_empty())
                .ok_or_else(|| format!("unable to decode base64 {what}"))
        };
        let certificate = decode(&args[0], "certificate")?;
        let key = decode(&args[1], "private key")?;
        Ok(Value::object(Pair { certificate, key }))
    }),
    ("genCA", "si", |engine, run, args| {
        issue(engine, run, &args[0], &[], int(&args[1]), Signed::Authority, None)
    }),
    ("genCAWithKey", "sis", |engine, run, args| {
        issue(engine, run, &args[0], &[], int(&args[1]), Signed::Authority, Some(&args[2]))
    }),
    ("genSelfSignedCert", "slli", |engine, run, args| {
        issue(engine, run, &args[0], &args[1..3], int(&args[3]), Signed::Itself, None)
    }),
    ("genSelfSignedCertWithKey", "sllis", |engine, run, args| {
        issue(engine, run, &args[0], &args[1..3], int(&args[3]), Signed::Itself, Some(&args[4]))
    }),
    ("genSignedCert", "sllia", |engine, run, args| {
        let by = issuer(&args[4])?;
        issue(engine, run, &args[0], &args[1..3], int(&args[3]), Signed::By(by), None)
    }),
    ("genSignedCertWithKey", "sllias", |engine, run, args| {
        let by = issuer(&args[4])?;
        issue(engine, run, &args[0], &args[1..3], int(&args[3]), Signed::By(by), Some(&args[5]))
    }),
];

/// Steps that a new key counts for.
const KEY_STEPS: u64 = 500_000;
/// Names and addresses of one certificate.
const NAMES_MAX: usize = 1000;

/// A certificate and its key, in PEM: sprig's `certificate`.
struct Pair {
    certificate: String,
    key: String,
}

enum Signed<'v> {
    Authority,
    Itself,
    By(&'v Pair),
}

fn issuer(value: &Value) -> Result<&Pair, String> {
    let pair = match value {
        Value::Object(object) => object.as_any().downcast_ref(),
        _ => None,
    };
    pair.ok_or_else(|| {
        format!("wrong type for value; expected sprig.certificate; got {}", value.type_name())
    })
}

fn texts(value: Option<&Value>, what: &str) -> Result<Vec<String>, String> {
    let Some(Value::List(list)) = value else { return Ok(Vec::new()) };
    if list.items.len() > NAMES_MAX {
        return Err(format!("more than {NAMES_MAX} names in one certificate"));
    }
    let items = list.items.iter().map(|item| match item {
        Value::Text(_) => Ok(text(item).into_owned()),
        other => Err(format!("error {what}: {} is not a string", other.type_name())),
    });
    items.collect()
}

fn issue(
    engine: &Engine<'_>,
    run: &Run<'_>,
    name: &Value,
    names: Given<'_>,
    days: i64,
    signed: Signed<'_>,
    key: Option<&Value>,
) -> Out {
    run.heap.step(KEY_STEPS)?;
    let addresses = texts(names.first(), "parsing ip")?
        .into_iter()
        .map(|address| address.parse().map_err(|_| format!("error parsing ip: {address}")));
    let common_name = text(name);
    let key = key.map(text);
    let request = Certificate {
        common_name: &common_name,
        addresses: addresses.collect::<Result<_, _>>()?,
        dns_names: texts(names.get(1), "processing alternate dns name")?,
        days,
        is_authority: matches!(signed, Signed::Authority),
        key: key.as_deref(),
        issuer: match &signed {
            Signed::By(pair) => Some((&pair.certificate, &pair.key)),
            _ => None,
        },
    };
    let (certificate, key) = engine.world.certificate(&request)?;
    run.heap.charge(certificate.len() + key.len())?;
    Ok(Value::object(Pair { certificate, key }))
}

impl Object for Pair {
    fn type_name(&self) -> &'static str {
        "sprig.certificate"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Cert" => Some(Value::text(&self.certificate)),
            "Key" => Some(Value::text(&self.key)),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("{{{} {}}}", self.certificate, self.key)
    }

    fn plain(&self) -> Value {
        let texts = [("Cert", &self.certificate), ("Key", &self.key)];
        Value::map(
            texts.into_iter().map(|(name, pem)| (Rc::from(name), Value::text(pem))).collect(),
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
