//! `k3rs etcd-snapshot`: asks the server of this machine.

use std::process::ExitCode;
use std::time::Duration;

use cli::etcd_snapshot::{Ask, Said, USAGE};
use cluster::supervisor::SNAPSHOT;
use http::{Method, Request};
use stdx::{Context, Error, Result};

use crate::peers::whom::Whom;
use crate::settings::config::Config;
use crate::settings::flags::On;

/// A large datastore on a slow disk.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// The command: exit code 0, or 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    let done = Ask::parse(args).and_then(|ask| match ask {
        Some(ask) => rt::block_on(run(&ask)),
        None => Ok(USAGE.to_owned()),
    });
    crate::ended("etcd-snapshot", done)
}

async fn run(ask: &Ask) -> Result<String> {
    let config = Config::load(On::Either, &ask.argv, |name| std::env::var(name).ok())?;
    let flags = config.snapshots.clone();
    let of_bucket = ask.argv.iter().find(|word| word.starts_with("--etcd-s3-"));
    if let (Some(word), None) = (of_bucket, &flags.s3) {
        let name = word.split('=').next().unwrap_or_default();
        return Err(Error::new(format!("{name} does nothing without --etcd-s3")));
    }
    let mut answer_max = ANSWER_MAX;
    let s3 = match &flags.s3 {
        Some(said) => {
            answer_max += said.timeout()?;
            Some(said.for_request().context(|| "read --etcd-s3-endpoint-ca")?)
        }
        None => None,
    };
    let said = Said {
        dir: flags.dir.map(|dir| dir.display().to_string()),
        compress: flags.compress,
        retention: flags.retention,
        s3,
    };
    // Whichever server this one joined, its own snapshots are meant.
    let whom = Whom::new(config, ask.token.clone(), ask.server.clone(), None);
    let request = Request::new(Method::Post, SNAPSHOT)
        .header("content-type", "application/json")
        .body(ask.body(&said).to_string());
    ask.shown(&whom.ask(request, answer_max).await?)
}
