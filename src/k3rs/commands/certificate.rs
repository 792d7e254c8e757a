//! `k3rs certificate`: looks at the certificates on the disk, puts them aside, and gives the server new authorities.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cli::certificate::{Ask, Row, USAGE};
use cluster::{Paths, bootstrap, certificates, supervisor};
use http::{Method, Request};
use stdx::Result;

use crate::peers::whom::Whom;
use crate::settings::config::Config;
use crate::settings::flags::On;

/// A datastore that is choosing its leader takes a while.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The command: exit code 0, or 1 after an error.
pub(crate) fn command(args: &[String]) -> ExitCode {
    let done = Ask::parse(args).and_then(|ask| match ask {
        Some(ask) => rt::block_on(run(&ask)),
        None => Ok(USAGE.to_owned()),
    });
    crate::ended("certificate", done)
}

async fn run(ask: &Ask) -> Result<String> {
    let config = Config::load(On::Either, &[], |name| std::env::var(name).ok())?;
    let data_dir = ask.data_dir.as_ref().map_or(config.data_dir.clone(), PathBuf::from);
    let paths = Paths::new(data_dir);
    let now = rt::now().wall;
    match ask.verb.as_str() {
        "check" => {
            let found = certificates::look(&paths, &ask.services)?;
            let rows = found.into_iter().map(|found| Row {
                file: found.file,
                subject: found.subject,
                issuer: found.issuer,
                usages: found.usages,
                not_before: found.not_before,
                not_after: found.not_after,
            });
            let rows: Vec<Row> = rows.collect();
            Ok(ask.shown(&rows, certificates::is_servers(&paths), now))
        }
        "rotate" => {
            let (services, backup) = certificates::rotate(&paths, &ask.services, now)?;
            let mut text = String::new();
            if ask.services.is_empty() {
                text.push_str(match certificates::is_servers(&paths) {
                    true => "Server detected, rotating agent and server certificates\n",
                    false => "Agent detected, rotating agent certificates\n",
                });
            }
            for service in services {
                text.push_str(&format!("Rotating certificates for {service}\n"));
            }
            text.push_str(&format!(
                "Successfully backed up certificates to {}, please restart k3rs server or agent to rotate certificates\n",
                backup.display()
            ));
            Ok(text)
        }
        _ => {
            let offered = bootstrap::offered(Path::new(ask.path.as_deref().unwrap_or("")), now)?;
            let whom =
                Whom::new(config, ask.token.clone(), ask.server.clone(), ask.data_dir.as_deref());
            let path =
                format!("{}{}?force={}", supervisor::PREFIX, supervisor::AUTHORITIES, ask.force);
            let request = Request::new(Method::Put, path)
                .header("content-type", "application/json")
                .body(offered);
            whom.ask(request, ANSWER_MAX).await?;
            Ok("certificates saved to datastore\n".to_owned())
        }
    }
}
