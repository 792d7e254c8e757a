//! `postgres://user:password@host:port/database?parameters`, as kine hands it to its driver.

use std::time::Duration;

use stdx::{Error, Result};
use wire::percent::unescape;

use super::server::{HOSTS_MAX, Host, Server, Tls, Verify, tls_config};
use crate::Files;

const PORT: u16 = 5432;
const DATABASE: &str = "kubernetes";
/// Where Debian's and the project's own servers have their sockets.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Parameters of clients that we have no use for and cannot pass over.
const REFUSED: &[&str] = &[
    "channel_binding",
    "gssencmode",
    "krbspn",
    "krbsrvname",
    "passfile",
    "requirepeer",
    "service",
    "servicefile",
    "sslcrl",
    "sslcrldir",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslinline",
    "sslnegotiation",
    "sslpassword",
];
/// Those that only tune a client of Go's.
const IGNORED: &[&str] = &[
    "description_cache_capacity",
    "fallback_application_name",
    "min_read_buffer_size",
    "statement_cache_capacity",
    "statement_cache_mode",
];

/// What a URL says, its files not read yet.
#[derive(Debug)]
struct Parsed {
    server: Server,
    files: Files,
    sslmode: String,
}

/// # Errors
/// If there is something in the URL that means nothing, or that we have not.
pub(super) async fn parse(rest: &str, files: Files) -> Result<Server> {
    let Parsed { mut server, files, sslmode } = read(rest, files)?;
    let (verify, must) = match &*sslmode {
        "disable" => return Ok(server),
        "allow" | "prefer" => (Verify::Nothing, false),
        // As every client has it: who names an authority means it.
        "require" if files.cafile.is_some() => (Verify::Authority, true),
        "require" => (Verify::Nothing, true),
        "verify-ca" => (Verify::Authority, true),
        "verify-full" => (Verify::Name, true),
        other => return Err(bad(&format!("sslmode {other:?} is none"))),
    };
    let config = tls_config(files, verify).await?;
    server.tls = if must { Tls::Required(config) } else { Tls::Preferred(config) };
    Ok(server)
}

fn read(rest: &str, given: Files) -> Result<Parsed> {
    // What kine takes where nothing is said.
    let rest = if rest.is_empty() { "postgres:postgres@localhost/" } else { rest };
    if rest.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(bad("it holds control characters"));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut user = unescape(user, false);
    let mut password = unescape(password, false);
    // Kine folds it, so that it means the same quoted and unquoted.
    let mut database = unescape(path, false).to_lowercase();
    let mut hosts = unescape(hosts, false);
    let mut port = String::new();
    let mut settings = Vec::new();
    let mut files = Files::default();
    let (mut sslmode, mut connect_max, mut prepares) = (None, CONNECT_MAX, true);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name, true), unescape(value, true));
        match &*name {
            "user" => user = value,
            "password" => password = value,
            "host" | "hostaddr" => hosts = value,
            "port" => port = value,
            "dbname" | "database" => database = value,
            "sslmode" => sslmode = Some(value),
            "sslrootcert" => files.cafile = Some(value.into()),
            "sslcert" => files.certfile = Some(value.into()),
            "sslkey" => files.keyfile = Some(value.into()),
            "sslsni" if value == "1" => {}
            // We always need a server that takes writes.
            "target_session_attrs" if matches!(&*value, "any" | "read-write" | "primary") => {}
            "connect_timeout" => {
                let seconds = value.parse().map_err(|_| bad("connect_timeout is no number"))?;
                connect_max = if seconds == 0 { CONNECT_MAX } else { Duration::from_secs(seconds) };
            }
            "default_query_exec_mode" => {
                prepares = matches!(&*value, "cache_statement" | "cache_describe");
            }
            "binary_parameters" => prepares = value != "yes",
            name if IGNORED.contains(&name) => {}
            name if REFUSED.contains(&name) || name.starts_with("pool_") => {
                return Err(bad(&format!("{name} is not supported")));
            }
            "sslsni" | "target_session_attrs" => {
                return Err(bad(&format!("{name}={value} is not supported")));
            }
            // The server's to judge.
            _ => settings.push((name, value)),
        }
    }
    // The flags say what the endpoint leaves open; then the server must be the right one.
    for (file, flag) in [
        (&mut files.certfile, given.certfile),
        (&mut files.keyfile, given.keyfile),
        (&mut files.cafile, given.cafile),
    ] {
        if file.is_none() && flag.is_some() {
            *file = flag;
            sslmode.get_or_insert_with(|| "verify-full".to_owned());
        }
    }
    if database.is_empty() {
        database = DATABASE.to_owned();
    }
    if user.is_empty() {
        // The system's user, which is what servers of Kubernetes run as.
        user = "root".to_owned();
    }
    let server = Server {
        hosts: read_hosts(&hosts, &port)?,
        user,
        password: password.into(),
        database,
        tls: Tls::Off,
        settings,
        connect_max,
        prepares,
        clear_password: false,
        packet_max_bytes: 0,
    };
    Ok(Parsed { server, files, sslmode: sslmode.unwrap_or_else(|| "prefer".to_owned()) })
}

/// `a:1,b`, with ports of their own or those of the parameter.
fn read_hosts(hosts: &str, ports: &str) -> Result<Vec<Host>> {
    let bad_port = || bad("a port is no number");
    let mut ports = ports.split(',');
    let mut port = match ports.next() {
        None | Some("") => PORT,
        Some(port) => port.parse().map_err(|_| bad_port())?,
    };
    if hosts.is_empty() {
        let sockets = SOCKETS.iter().map(|directory| Host::socket(directory, port));
        return Ok(sockets.chain([Host::Tcp("localhost".to_owned(), port)]).collect());
    }
    let mut read = Vec::new();
    for host in hosts.split(',') {
        if read.len() == HOSTS_MAX {
            return Err(bad("it names too many hosts"));
        }
        read.push(match host.starts_with('/') {
            true => Host::socket(host, port),
            false => {
                let (host, port) = http::client::split_host_port(host, port)
                    .or_else(|| host.contains("::").then(|| (host.to_owned(), port)))
                    .ok_or_else(bad_port)?;
                Host::Tcp(host, port)
            }
        });
        if let Some(next) = ports.next() {
            port = next.parse().map_err(|_| bad_port())?;
        }
    }
    Ok(read)
}

/// Says nothing of what may hold a password.
fn bad(why: &str) -> Error {
    Error::new(format!("datastore endpoint: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rest: &str) -> String {
        match read(rest, Files::default()) {
            Ok(Parsed { server, files, sslmode }) => {
                let hosts: Vec<String> = server.hosts.iter().map(ToString::to_string).collect();
                let root =
                    files.cafile.map_or(String::new(), |file| format!(" {}", file.display()));
                let password = server.password.reveal();
                format!(
                    "{}:{password}@{}/{} {sslmode}{root} {:?}",
                    server.user,
                    hosts.join(","),
                    server.database,
                    server.settings
                )
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn endpoints() {
        for (rest, expected) in [
            ("", "postgres:postgres@localhost:5432/kubernetes prefer []"),
            ("u:p%40%2F@db/", "u:p@/@db:5432/kubernetes prefer []"),
            ("u@db:5/K3s?sslmode=require", "u:@db:5/k3s require []"),
            ("u@a,b:6/x", "u:@a:5432,b:6/x prefer []"),
            ("u@[fd00::1]:7/x", "u:@[fd00::1]:7/x prefer []"),
            ("/x?host=/run/pg&port=7&user=me", "me:@/run/pg/.s.PGSQL.7/x prefer []"),
            (
                "u@db/x?sslrootcert=/ca&sslmode=verify-ca&search_path=k3s",
                "u:@db:5432/x verify-ca /ca [(\"search_path\", \"k3s\")]",
            ),
            ("u@db/x?passfile=y", "datastore endpoint: passfile is not supported"),
            (
                "u@db/x?target_session_attrs=standby",
                "datastore endpoint: target_session_attrs=standby is not supported",
            ),
            ("u@db:x/x", "datastore endpoint: a port is no number"),
        ] {
            assert_eq!(shown(rest), expected, "{rest}");
        }
    }

    #[test]
    fn flags_say_what_the_endpoint_leaves_open() {
        let flags = Files { cafile: Some("/flag".into()), ..Files::default() };
        let of = |rest| {
            let parsed = read(rest, flags.clone()).unwrap();
            (parsed.sslmode, parsed.files.cafile.unwrap())
        };
        assert_eq!(of("u@db/"), ("verify-full".into(), "/flag".into()));
        assert_eq!(of("u@db/?sslmode=require"), ("require".into(), "/flag".into()));
        assert_eq!(of("u@db/?sslrootcert=/own"), ("prefer".into(), "/own".into()));
    }
}
