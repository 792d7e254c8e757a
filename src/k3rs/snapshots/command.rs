//! `k3rs etcd-snapshot`: asks the server of this machine.

use std::process::ExitCode;
use std::time::Duration;

use cli::etcd_snapshot::{Ask, Said, USAGE};
use cluster::Paths;
use cluster::supervisor::SNAPSHOT;
use cluster::token::Token;
use http::client::Url;
use http::{Method, Request};
use stdx::{Context, Result};

use crate::config::Config;
use crate::flags::On;

/// A large datastore on a slow disk.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// The command: exit code 0, or 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    let done = match Ask::parse(args) {
        Ok(Some(ask)) => rt::block_on(run(&ask)),
        Ok(None) => Ok(USAGE.to_owned()),
        Err(error) => Err(error),
    };
    match done {
        Ok(text) => {
            crate::print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => crate::fail(&format!("etcd-snapshot: {error}")),
    }
}

async fn run(ask: &Ask) -> Result<String> {
    let config = Config::load(On::Either, &ask.argv, |name| std::env::var(name).ok())?;
    let flags = config.snapshots;
    let said = Said {
        dir: flags.dir.map(|dir| dir.display().to_string()),
        compress: flags.compress,
        retention: flags.retention,
    };
    let token = match ask.token.clone().or(config.token) {
        Some(token) => token,
        None => rt::fs::read_text(Paths::new(config.data_dir).server().join("token"))?,
    };
    let token = Token::parse(&token)?;
    // Whichever server this one joined, its own snapshots are meant.
    let url = ask.server.clone();
    let url = url.unwrap_or_else(|| format!("https://127.0.0.1:{}", config.https_port));
    let url = Url::parse(&url).context(|| format!("read --etcd-server {url:?}"))?;
    let request = Request::new(Method::Post, SNAPSHOT)
        .header("content-type", "application/json")
        .body(ask.body(&said).to_string());
    let answer = crate::join::ask(&url, &token, request, ANSWER_MAX).await;
    ask.shown(&answer.context(|| "see server log for details")?)
}
