//! Renders a chart as `helm template` does, to be compared with it (`e2e/charts.py`).
//!
//! `render KUBE_VERSION API_VERSIONS_FILE RELEASE NAMESPACE CHART.tgz [VALUES.yaml | --set=EXPRESSION]...` prints what is to be
//! installed, then the hooks. The randomness is no randomness, and keys are no keys: what depends on them is not compared.

use std::cell::RefCell;
use std::io::Write as _;

use charts::{Asked, Capabilities, Certificate, Chart, Lookup, Release, World};
use serde_json::{Value, json};
use stdx::prng::Prng;

struct Here(RefCell<Prng>);

impl World for Here {
    fn random(&self, bytes: &mut [u8]) {
        self.0.borrow_mut().fill(bytes);
    }

    fn now(&self) -> (i64, u32) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        (i64::try_from(now.as_secs()).unwrap_or(0), now.subsec_nanos())
    }

    fn lookup(&self, _: &Asked) -> Lookup {
        Lookup::Known(json!({}))
    }

    fn private_key(&self, _: &str) -> Result<String, String> {
        Ok("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned())
    }

    fn certificate(&self, _: &Certificate<'_>) -> Result<(String, String), String> {
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        Ok((certificate.to_owned(), self.private_key("rsa")?))
    }
}

fn run(args: &[String]) -> stdx::Result<String> {
    let [kube_version, api_versions, release, namespace, chart, values @ ..] = args else {
        return Err(stdx::Error::new(
            "usage: render KUBE_VERSION API_VERSIONS_FILE RELEASE NAMESPACE CHART.tgz [VALUES.yaml | --set=EXPRESSION]...",
        ));
    };
    let read = |path: &str| {
        std::fs::read(path).map_err(|error| stdx::Error::wrap(format!("read {path}"), error))
    };
    let api_versions = String::from_utf8_lossy(&read(api_versions)?).into_owned();
    let capabilities = Capabilities {
        kube_version: kube_version.clone(),
        api_versions: api_versions.split_whitespace().map(str::to_owned).collect(),
    };
    let chart = Chart::read(&read(chart)?)?;
    let mut merged = Value::Object(serde_json::Map::new());
    for one in values {
        match one.strip_prefix("--set=") {
            Some(expression) => charts::set_value(&mut merged, expression, false)?,
            None => {
                let text = String::from_utf8_lossy(&read(one)?).into_owned();
                charts::merge_values(&mut merged, wire::yaml::parse_one(&text)?);
            }
        }
    }
    let release = Release { name: release, namespace, revision: 1, is_upgrade: false };
    let here = Here(RefCell::new(Prng::new(7)));
    let rendered = charts::render(&chart, &merged, &release, &capabilities, &here)?;
    let mut out = rendered.manifest;
    for hook in &rendered.hooks {
        out.push_str(&format!("---\n# Source: {}\n{}\n", hook.path, hook.manifest));
    }
    Ok(out)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The stack of the threads that render in k3rs.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let done = thread.spawn(move || run(&args)).map(std::thread::JoinHandle::join);
    match done {
        Ok(Ok(Ok(text))) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
        }
        Ok(Ok(Err(error))) => {
            let _ = writeln!(std::io::stderr(), "Error: {error}");
            std::process::exit(1);
        }
        _ => std::process::exit(101),
    }
}
