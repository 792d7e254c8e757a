//! `mysql://user:password@tcp(host:port)/database?parameters`: the name of a source as Go's driver has it.

use std::time::Duration;

use stdx::{Error, Result};
use wire::percent::unescape;

use super::server::{Host, Server, Tls, Verify, tls_config};
use crate::Files;

const PORT: u16 = 3306;
const DATABASE: &str = "kubernetes";
const SOCKET: &str = "/tmp/mysql.sock";
/// What kine takes where nothing is said, without TLS and with it.
const DEFAULT: &str = "root@unix(/var/run/mysqld/mysqld.sock)/";
const DEFAULT_TLS: &str = "root@tcp(127.0.0.1)/";
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Parameters that only say how Go's driver works.
const IGNORED: &[&str] = &[
    "allowAllFiles",
    "allowNativePasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "timeTruncate",
    "writeTimeout",
];

/// What a source's name says, its files not read yet.
struct Parsed {
    server: Server,
    tls: String,
}

/// # Errors
/// If there is something in the name that means nothing, or that we have not.
pub(super) async fn parse(rest: &str, files: Files) -> Result<Server> {
    let has_files = files != Files::default();
    let Parsed { mut server, tls } = read(rest, has_files)?;
    let required = |config| Tls::Required(config);
    server.tls = match &*tls {
        // The flags' files are a configuration of their own, which the name need not mention.
        _ if has_files => required(tls_config(files, Verify::Name).await?),
        "" | "false" | "0" | "FALSE" => Tls::Off,
        "true" | "1" | "TRUE" => required(tls_config(files, Verify::Name).await?),
        "skip-verify" => required(tls_config(files, Verify::Nothing).await?),
        "preferred" => Tls::Preferred(tls_config(files, Verify::Nothing).await?),
        other => {
            let why = "is not known: give its files by --datastore-cafile, -certfile and -keyfile";
            return Err(bad(&format!("the TLS configuration {other:?} {why}")));
        }
    };
    Ok(server)
}

fn read(rest: &str, has_files: bool) -> Result<Parsed> {
    let rest = match rest {
        "" if has_files => DEFAULT_TLS,
        "" => DEFAULT,
        rest => rest,
    };
    if rest.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(bad("it holds control characters"));
    }
    // Passwords are as they are: the last slash is the one before the database.
    let (place, path) =
        rest.rsplit_once('/').ok_or_else(|| bad("there is no / before the database"))?;
    let (database, query) = path.split_once('?').unwrap_or((path, ""));
    let (userinfo, address) = place.rsplit_once('@').unwrap_or(("", place));
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let host = read_address(address)?;
    let mut server = Server {
        hosts: vec![host],
        user: user.to_owned(),
        password: password.into(),
        database: unescape(database, false),
        tls: Tls::Off,
        settings: Vec::new(),
        connect_max: CONNECT_MAX,
        prepares: false,
        clear_password: false,
        packet_max_bytes: 0,
    };
    if server.database.is_empty() {
        server.database = DATABASE.to_owned();
    }
    let mut tls = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(value, true);
        let no = matches!(&*value, "false" | "0" | "FALSE");
        match name {
            "tls" => tls = value,
            "timeout" => {
                server.connect_max = duration(&value).ok_or_else(|| bad("timeout is none"))?;
            }
            "maxAllowedPacket" => {
                server.packet_max_bytes =
                    value.parse().map_err(|_| bad("maxAllowedPacket is no number"))?;
            }
            "allowCleartextPasswords" => server.clear_password = !no,
            // What others would ask for is only asked for if it is not ours anyway.
            "allowFallbackToPlaintext" | "allowOldPasswords" | "compress" if no => {}
            "allowFallbackToPlaintext" | "allowOldPasswords" | "compress" | "serverPubKey" => {
                return Err(bad(&format!("{name} is not supported")));
            }
            name if IGNORED.contains(&name) => {}
            // Everything else is a variable of the session, in SQL.
            name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                server.settings.push((name.to_owned(), value));
            }
            _ => return Err(bad("a parameter has no name")),
        }
    }
    Ok(Parsed { server, tls })
}

/// `tcp(host:port)`, `unix(path)`, or nothing.
fn read_address(text: &str) -> Result<Host> {
    let (network, address) = match text.split_once('(') {
        Some((network, address)) => {
            let address = address.strip_suffix(')');
            (network, address.ok_or_else(|| bad("an address has no end"))?)
        }
        None => (text, ""),
    };
    match network {
        "" | "tcp" | "tcp4" | "tcp6" => {
            let address = if address.is_empty() { "127.0.0.1" } else { address };
            let parts = http::client::split_host_port(address, PORT);
            let (host, port) = parts.ok_or_else(|| bad("an address is none"))?;
            Ok(Host::Tcp(host, port))
        }
        "unix" => Ok(Host::Unix(if address.is_empty() { SOCKET } else { address }.into())),
        other => Err(bad(&format!("the network {other:?} is none of tcp and unix"))),
    }
}

/// `1m30s`, `500ms`: as Go writes it, and more than nothing.
fn duration(text: &str) -> Option<Duration> {
    let nanos = stdx::duration::parse(text).filter(|nanos| *nanos > 0)?;
    Some(Duration::from_nanos(nanos.unsigned_abs()))
}

/// Says nothing of what may hold a password.
fn bad(why: &str) -> Error {
    Error::new(format!("datastore endpoint: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rest: &str) -> String {
        match read(rest, false) {
            Ok(Parsed { server, tls }) => {
                let password = server.password.reveal();
                let Server { user, hosts, database, settings, .. } = &server;
                format!("{user}:{password}@{}/{database} {tls} {settings:?}", hosts[0])
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn endpoints() {
        for (rest, expected) in [
            ("", "root:@/var/run/mysqld/mysqld.sock/kubernetes  []"),
            ("u:p@ss/w:rd@tcp(db:5)/k3s", "u:p@ss/w:rd@db:5/k3s  []"),
            ("u@tcp(db)/?tls=skip-verify", "u:@db:3306/kubernetes skip-verify []"),
            ("u@tcp([fd00::1]:7)/x", "u:@[fd00::1]:7/x  []"),
            ("u@unix(/run/m.sock)/x", "u:@/run/m.sock/x  []"),
            ("/x", ":@127.0.0.1:3306/x  []"),
            (
                "u@/x?parseTime=true&wait_timeout=%2730%27",
                "u:@127.0.0.1:3306/x  [(\"wait_timeout\", \"'30'\")]",
            ),
            ("u@tcp(db)/x?compress=true", "datastore endpoint: compress is not supported"),
            ("u@pipe(db)/x", "datastore endpoint: the network \"pipe\" is none of tcp and unix"),
            ("u@tcp(db/x", "datastore endpoint: an address has no end"),
            ("u@tcp(db)", "datastore endpoint: there is no / before the database"),
            ("u@/x?a-b=1", "datastore endpoint: a parameter has no name"),
        ] {
            assert_eq!(shown(rest), expected, "{rest}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!([duration(""), duration("5"), duration("s"), duration("0s")], [None; 4]);
    }
}
