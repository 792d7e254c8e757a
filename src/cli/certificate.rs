//! `k3rs certificate ...`: certificates looked at, made anew, and new authorities, with k3s's flags and output.

use api::{Value, json};
use stdx::time::Wall;
use stdx::{Error, Result};

use crate::flags::{Flag, Given, plain};
use crate::yaml;

pub const USAGE: &str = "\
USAGE: k3rs certificate COMMAND [OPTIONS]

COMMANDS:
   check      tell when certificates expire
                --output, -o FORMAT  text, table, json or yaml (default text)
   rotate     put certificates aside, so that the next start makes new ones; a server or agent that runs must be restarted
   rotate-ca  give the cluster new certificate authorities, which each server takes at its next start
                --path FOLDER        where they are: tls/{server,client,request-header}-ca.{crt,key}, tls/service.key,
                                     tls/etcd/{server,peer}-ca.{crt,key}; what is left out stays
                --force              also those that share no root with the present ones
                --token, -t TOKEN    the server's token (default the one in the folder) [K3S_TOKEN]
                --server, -s URL     the server (default https://127.0.0.1:6443)

   --service LIST         of these only (check, rotate): admin, api-server, auth-proxy, cloud-controller,
                          controller-manager, etcd, k3s-controller, k3s-server, kube-proxy, kubelet, scheduler,
                          supervisor; for check certificate-authority, too
   --data-dir, -d FOLDER  where they are (default /var/lib/rancher/k3s) [K3S_DATA_DIR]
";

const BOTH: &[&str] = &["check", "rotate"];
const ALL: &[&str] = &["check", "rotate", "rotate-ca"];
const CA: &[&str] = &["rotate-ca"];
const FLAGS: &[Flag] = &[
    Flag { name: "output", others: &["o"], takes: true, verbs: &["check"] },
    // As k3s has it: -s is a service where there are some, and the server for rotate-ca.
    Flag { name: "service", others: &["s"], takes: true, verbs: BOTH },
    Flag { name: "server", others: &["s"], takes: true, verbs: CA },
    Flag { name: "token", others: &["t"], takes: true, verbs: CA },
    Flag { name: "path", others: &[], takes: true, verbs: CA },
    Flag { name: "force", others: &[], takes: false, verbs: CA },
    Flag { name: "data-dir", others: &["d"], takes: true, verbs: ALL },
];

/// Fewer days left than this are worth a warning: then a start renews them.
const WARN_DAYS: i64 = 120;
const SECS_PER_DAY: i64 = 86_400;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ask {
    pub verb: String,
    pub output: String,
    pub services: Vec<String>,
    pub path: Option<String>,
    pub force: bool,
    pub data_dir: Option<String>,
    pub token: Option<String>,
    pub server: Option<String>,
}

/// A certificate to show.
#[derive(Debug)]
pub struct Row {
    pub file: String,
    pub subject: String,
    pub issuer: String,
    pub usages: Vec<&'static str>,
    pub not_before: Wall,
    pub not_after: Wall,
}

impl Ask {
    /// Reads the arguments; `None`: help is wanted.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(args: &[String]) -> Result<Option<Ask>> {
        let Some(given) = Given::read(args, &["check", "rotate", "rotate-ca"], FLAGS)? else {
            return Ok(None);
        };
        given.no_words()?;
        let ask = Ask {
            output: given.value("output").unwrap_or_else(|| "text".to_owned()),
            services: given.list("service"),
            path: given.value("path"),
            force: given.is_on("force"),
            data_dir: given.value("data-dir"),
            token: given.value("token"),
            server: given.value("server"),
            verb: given.verb,
        };
        if ask.verb == "rotate-ca" && ask.path.is_none() {
            return Err(Error::new("Required flag \"path\" not set"));
        }
        match ask.output.as_str() {
            "text" | "table" | "json" | "yaml" => Ok(Some(ask)),
            other => Err(Error::new(format!("invalid output format {other}"))),
        }
    }

    /// What to print of certificates.
    pub fn shown(&self, rows: &[Row], is_servers: bool, now: Wall) -> String {
        match self.output.as_str() {
            "table" => table(rows, now),
            "json" | "yaml" => {
                let rows: Vec<Value> = rows.iter().map(|row| tree(row, now)).collect();
                let tree = json!({"Certificates": rows});
                if self.output == "yaml" { yaml::text(&tree) } else { tree.to_string() + "\n" }
            }
            _ => {
                let mut text = match (self.services.is_empty(), is_servers) {
                    (false, _) => String::new(),
                    (true, true) => {
                        "Server detected, checking agent and server certificates\n".to_owned()
                    }
                    (true, false) => "Agent detected, checking agent certificates\n".to_owned(),
                };
                rows.iter().for_each(|row| text.push_str(&line(row, now)));
                text
            }
        }
    }
}

/// k3s's words for how a certificate is.
fn status(row: &Row, now: Wall) -> &'static str {
    if now < row.not_before {
        "NOT YET VALID"
    } else if now > row.not_after {
        "EXPIRED"
    } else if row.not_after.secs() - now.secs() < WARN_DAYS * SECS_PER_DAY {
        "WARNING"
    } else {
        "OK"
    }
}

fn line(row: &Row, now: Wall) -> String {
    let at = api::time::format(row.not_after);
    let (file, subject, usages) = (plain(&row.file), plain(&row.subject), row.usages.join(","));
    let how = match status(row, now) {
        "NOT YET VALID" => format!("is not valid before {}", api::time::format(row.not_before)),
        "EXPIRED" => format!("expired at {at}"),
        "WARNING" => format!("will expire within {WARN_DAYS} days at {at}"),
        _ => format!("is ok, expires at {at}"),
    };
    format!("{file}: certificate {subject} ({usages}) {how}\n")
}

fn tree(row: &Row, now: Wall) -> Value {
    let status = status(row, now);
    let at = if status == "NOT YET VALID" { row.not_before } else { row.not_after };
    let left_nanos = (row.not_after.secs() - now.secs()).saturating_mul(1_000_000_000);
    json!({
        "Filename": row.file, "Subject": row.subject, "Issuer": row.issuer, "Usages": row.usages,
        "ExpiryTime": api::time::format(at), "ResidualTime": left_nanos, "Status": status,
    })
}

fn table(rows: &[Row], now: Wall) -> String {
    let mut cells = vec![
        ["FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS"].map(str::to_owned),
        ["--------", "-------", "------", "-------", "-------------", "------"].map(str::to_owned),
    ];
    for row in rows {
        let status = status(row, now);
        let at = if status == "NOT YET VALID" { row.not_before } else { row.not_after };
        cells.push([
            plain(&row.file),
            plain(&row.subject),
            row.usages.join(","),
            day(at),
            left(row.not_after.secs() - now.secs()),
            status.to_owned(),
        ]);
    }
    let width =
        |idx: usize| cells.iter().map(|row| row[idx].chars().count() + 3).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::from("\n");
    for row in &cells {
        for (idx, cell) in row.iter().enumerate() {
            let width = widths.get(idx).copied().unwrap_or(0);
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

/// `Jun 09, 2026 10:17 UTC`.
fn day(at: Wall) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, secs) = api::time::civil(at.secs());
    let month = usize::try_from(month - 1).ok().and_then(|idx| MONTHS.get(idx));
    let (hour, minute) = (secs / 3600, secs / 60 % 60);
    format!("{} {day:02}, {year} {hour:02}:{minute:02} UTC", month.unwrap_or(&"???"))
}

/// A time in the one unit in which people say it.
fn left(secs: i64) -> String {
    const DAY: i64 = SECS_PER_DAY;
    let secs = secs.abs();
    let many = |n: i64, unit: &str| match n {
        1 => format!("1 {unit}"),
        n => format!("{n} {unit}s"),
    };
    match secs {
        0 => "now".to_owned(),
        _ if secs < 60 => many(secs, "second"),
        _ if secs < 3600 => many(secs / 60, "minute"),
        _ if secs < DAY => many(secs / 3600, "hour"),
        _ if secs < 7 * DAY => many(secs / DAY, "day"),
        _ if secs < 30 * DAY => many(secs / (7 * DAY), "week"),
        _ if secs < 360 * DAY => many(secs / (30 * DAY), "month"),
        _ if secs < 540 * DAY => "1 year".to_owned(),
        _ if secs < 720 * DAY => "2 years".to_owned(),
        _ => many(secs / (360 * DAY), "year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Ask>> {
        Ask::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_asked_for() {
        let ask = parse(&["check", "-s", "admin,etcd", "--service=kubelet", "-o", "table"]);
        let ask = ask.unwrap().unwrap();
        assert_eq!((ask.services.len(), ask.output.as_str()), (3, "table"));
        let ask =
            parse(&["rotate-ca", "--path=/x", "--force", "-s", "https://a"]).unwrap().unwrap();
        assert_eq!((ask.force, ask.server.as_deref()), (true, Some("https://a")));
        assert_eq!(parse(&[]).unwrap(), None);
        for (args, wanted) in [
            (&["rotate-ca"][..], "Required flag \"path\" not set"),
            (&["check", "-o", "xml"], "invalid output format xml"),
            (&["frobnicate"], "unknown command \"frobnicate\""),
            (&["check", "--x"], "flag provided but not defined: --x"),
            (&["check", "x"], "unexpected argument \"x\""),
            (&["check", "--force"], "flag provided but not defined: --force"),
            (&["rotate-ca", "--path=/x", "-o", "json"], "flag provided but not defined: -o"),
        ] {
            assert_eq!(parse(args).unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn certificates_look_as_k3s_shows_them() {
        let now = Wall::from_secs(1_780_000_000);
        let row = |subject: &str, from_days: i64, to_days: i64| Row {
            file: "client-admin.crt".into(),
            subject: subject.into(),
            issuer: "ca".into(),
            usages: vec!["ClientAuth"],
            not_before: Wall::from_secs(now.secs() + from_days * SECS_PER_DAY),
            not_after: Wall::from_secs(now.secs() + to_days * SECS_PER_DAY),
        };
        let rows =
            [row("ok", -1, 365), row("soon", -1, 119), row("over", -9, -1), row("early", 1, 9)];
        let text = parse(&["check"]).unwrap().unwrap().shown(&rows, true, now);
        assert_eq!(
            text,
            "Server detected, checking agent and server certificates\n\
             client-admin.crt: certificate ok (ClientAuth) is ok, expires at 2027-05-28T20:26:40Z\n\
             client-admin.crt: certificate soon (ClientAuth) will expire within 120 days at 2026-09-24T20:26:40Z\n\
             client-admin.crt: certificate over (ClientAuth) expired at 2026-05-27T20:26:40Z\n\
             client-admin.crt: certificate early (ClientAuth) is not valid before 2026-05-29T20:26:40Z\n"
        );
        let text = parse(&["check", "-o=table"]).unwrap().unwrap().shown(&rows[..2], true, now);
        assert_eq!(
            text,
            "\nFILENAME           SUBJECT   USAGES       EXPIRES                  RESIDUAL TIME   STATUS\n\
             --------           -------   ------       -------                  -------------   ------\n\
             client-admin.crt   ok        ClientAuth   May 28, 2027 20:26 UTC   1 year          OK\n\
             client-admin.crt   soon      ClientAuth   Sep 24, 2026 20:26 UTC   3 months        WARNING\n"
        );
        let text = parse(&["check", "-o=json"]).unwrap().unwrap().shown(&rows[..1], true, now);
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["Certificates"][0]["Status"], "OK");
        let text = parse(&["check", "-o=yaml"]).unwrap().unwrap().shown(&rows[..1], true, now);
        assert!(
            text.starts_with("Certificates:\n- ExpiryTime: \"2027-05-28T20:26:40Z\"\n  Filename: "),
            "{text}"
        );
        for (secs, wanted) in [
            (0, "now"),
            (1, "1 second"),
            (90, "1 minute"),
            (7200, "2 hours"),
            (8 * SECS_PER_DAY, "1 week"),
            (400 * SECS_PER_DAY, "1 year"),
            (3650 * SECS_PER_DAY, "10 years"),
        ] {
            assert_eq!(left(secs), wanted);
        }
    }
}
