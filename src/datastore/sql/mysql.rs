//! A connection to MySQL or MariaDB.

use ring::digest;
use rt::BoxFuture;
use stdx::{Context, Error, Result};

use super::server::{Host, Server, Tls};
use super::session::{Failure, FailureKind, Session, Sink, Step, Stream, Value, Way, number};
use ::wire::mysql::{self as wire, Greeting, Login, Next, Reply, ServerError, can};

const CAPABILITIES: u32 = can::LONG_PASSWORD
    | can::PROTOCOL_41
    | can::TRANSACTIONS
    | can::SECURE_CONNECTION
    | can::MULTI_STATEMENTS
    | can::MULTI_RESULTS
    | can::PLUGINS;

const NATIVE: &[u8] = b"mysql_native_password";
const CACHING: &[u8] = b"caching_sha2_password";
const CLEAR: &[u8] = b"mysql_clear_password";
/// The server asks the kernel who is at the other end of the socket.
const SOCKET: [&[u8]; 2] = [b"unix_socket", b"auth_socket"];

const DUPLICATE: u16 = 1062;
const NO_DATABASE: u16 = 1049;
const COLUMN_EXISTS: u16 = 1060;
/// Too many connections, and a server that goes down.
const NOT_NOW: [u16; 2] = [1040, 1053];

/// Texts are escaped with backslashes, names that are too long are errors, and nobody waits long for a lock.
const PREPARE: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES';\
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;\
    SET SESSION innodb_lock_wait_timeout = 10;\
    SELECT @@max_allowed_packet, @@read_only";
/// What a packet has besides its statements, and room to be wrong.
const PACKET_SPARE_BYTES: usize = 1024;

pub(super) struct Mysql {
    stream: Stream,
    /// The longest text of statements.
    query_max_bytes: usize,
}

impl Mysql {
    /// Connects to the server; `database` may be empty.
    pub(super) async fn connect(server: &Server, database: &str) -> Result<Mysql, Failure> {
        let mut last = Failure::from(Error::new("the endpoint names no host"));
        for host in &server.hosts {
            let what = || format!("connect to MySQL at {host}");
            let connecting = Mysql::connect_to(server, host, database);
            match rt::timeout(server.connect_max, connecting).await {
                Ok(Ok(mysql)) => return Ok(mysql),
                Ok(Err(Failure { kind, error })) => {
                    last = Failure { kind, error: Error::wrap(what(), error) };
                }
                Err(elapsed) => {
                    let error = Error::wrap(what(), elapsed);
                    last = Failure { kind: FailureKind::Cut, error };
                }
            }
        }
        Err(last)
    }

    async fn connect_to(server: &Server, host: &Host, database: &str) -> Result<Mysql, Failure> {
        let stream = Stream::new(host.dial().await?);
        let stream = log_in(stream, server, host, database).await?;
        let mut mysql = Mysql { stream, query_max_bytes: PACKET_SPARE_BYTES };
        let mut packet_max = 0;
        let mut read_only = false;
        let mut look = |_: usize, row: &[Option<&[u8]>]| {
            packet_max = number(row.first().copied().flatten())?;
            read_only = row.get(1) == Some(&Some(b"1"));
            Ok(())
        };
        let mut sql = PREPARE.as_bytes().to_vec();
        for (name, value) in &server.settings {
            sql.splice(0..0, format!("SET SESSION {name} = {value};").into_bytes());
        }
        mysql.query(&sql, 0, &mut look).await?;
        if read_only {
            return Err(Error::new("it may only be read, as a replica").into());
        }
        let limits = [packet_max, wire::PAYLOAD_MAX_BYTES, server.packet_max_bytes];
        let limits = limits.into_iter().filter(|limit| *limit > 0);
        mysql.query_max_bytes = limits.min().unwrap_or(0).saturating_sub(PACKET_SPARE_BYTES);
        Ok(mysql)
    }

    /// Runs statements of which nothing is wanted.
    pub(super) async fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        self.query(sql.as_bytes(), 0, &mut |_, _| Ok(())).await.map(drop)
    }

    async fn run_all(
        &mut self,
        way: Way,
        steps: &[Step<'_>],
        sink: Sink<'_>,
    ) -> Result<Vec<u64>, Failure> {
        let before: &[&str] = match way {
            Way::Each => &[],
            Way::Together => &["START TRANSACTION"],
            // A snapshot is nothing to who always reads what is committed.
            Way::Snapshot => &[
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            ],
        };
        let mut text = Vec::new();
        for sql in before {
            text.extend(sql.bytes().chain([b';']));
        }
        let mut n_changed = Vec::new();
        let mut counted = |step: usize, row: &[Option<&[u8]>]| sink(step - before.len(), row);
        for step in steps {
            let start = text.len();
            render(&mut text, step);
            text.push(b';');
            if text.len() > self.query_max_bytes && start > 0 {
                // The rest goes when this has worked: after an error nothing may follow it.
                let rest = text.split_off(start);
                n_changed.extend(self.query(&text, n_changed.len(), &mut counted).await?);
                text = rest;
            }
            if text.len() > self.query_max_bytes {
                let text = "a statement is longer than max_allowed_packet of the database takes";
                return Err(Failure { kind: FailureKind::Refused, error: Error::new(text) });
            }
        }
        match way {
            Way::Each => {
                // An empty statement at the end would be one.
                text.pop();
            }
            _ => text.extend(b"COMMIT"),
        }
        n_changed.extend(self.query(&text, n_changed.len(), &mut counted).await?);
        let n_after = usize::from(way != Way::Each);
        if n_changed.len() != before.len() + steps.len() + n_after {
            return Err(Error::new("the database did not answer every statement").into());
        }
        n_changed.drain(..before.len());
        n_changed.truncate(steps.len());
        Ok(n_changed)
    }

    /// Sends statements and reads what comes of each. `n_before` were sent in earlier texts.
    async fn query(
        &mut self,
        sql: &[u8],
        n_before: usize,
        sink: Sink<'_>,
    ) -> Result<Vec<u64>, Failure> {
        wire::put_query(&mut self.stream.output, sql.strip_suffix(b";").unwrap_or(sql));
        self.stream.send().await?;
        let mut n_changed: Vec<u64> = Vec::new();
        loop {
            let (payload, n) = next(&mut self.stream).await?;
            let reply = wire::reply(payload).context(|| "read from the database")?;
            self.stream.consume(n);
            let more = match reply {
                Reply::Error(error) => return Err(failure(error)),
                Reply::Ok { n_changed: n, more } => {
                    n_changed.push(n);
                    more
                }
                Reply::Columns(n_columns) => {
                    let statement = n_before + n_changed.len();
                    let (n_rows, more) = self.rows(n_columns, statement, sink).await?;
                    n_changed.push(n_rows);
                    more
                }
            };
            if !more {
                return Ok(n_changed);
            }
        }
    }

    /// How many rows there were, and whether another result follows.
    async fn rows(
        &mut self,
        n_columns: usize,
        statement: usize,
        sink: Sink<'_>,
    ) -> Result<(u64, bool), Failure> {
        // What the columns are is known; after them comes an end.
        for _ in 0..=n_columns {
            let (_, n) = next(&mut self.stream).await?;
            self.stream.consume(n);
        }
        let mut n_rows = 0;
        loop {
            let (payload, n) = next(&mut self.stream).await?;
            match wire::next_row(payload, n_columns).context(|| "read from the database")? {
                Next::Row(row) => sink(statement, &row)?,
                Next::End { more } => {
                    self.stream.consume(n);
                    return Ok((n_rows, more));
                }
                Next::Error(error) => return Err(failure(error)),
            }
            n_rows += 1;
            self.stream.consume(n);
        }
    }
}

impl Session for Mysql {
    fn run<'a>(
        &'a mut self,
        way: Way,
        steps: &'a [Step<'a>],
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Vec<u64>, Failure>> {
        Box::pin(self.run_all(way, steps, sink))
    }

    fn told(&mut self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(rt::future::pending())
    }
}

/// The next packet, and how much is to be consumed after it.
async fn next(stream: &mut Stream) -> Result<(&[u8], usize)> {
    while wire::next(stream.unread()).context(|| "read from the database")?.is_none() {
        stream.fill().await?;
    }
    match wire::next(stream.unread()).context(|| "read from the database")? {
        Some((_, payload, n)) => Ok((payload, n)),
        // It was there a moment ago.
        None => Err(Error::new("read from the database")),
    }
}

/// Puts the parameters into the text: `$1` the first.
fn render(out: &mut Vec<u8>, step: &Step<'_>) {
    let mut parts = step.sql.split('$');
    out.extend(parts.next().unwrap_or("").bytes());
    for part in parts {
        let n_digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (place, rest) = part.split_at(n_digits);
        let value =
            place.parse::<usize>().ok().and_then(|place| step.values.get(place.wrapping_sub(1)));
        match value {
            None | Some(Value::Null) => out.extend(b"NULL"),
            Some(Value::Int(n)) => out.extend(n.to_string().bytes()),
            Some(Value::Text(text)) => wire::put_quoted(out, text.as_bytes()),
            Some(Value::Bytes(bytes)) => {
                out.extend(b"_binary");
                wire::put_quoted(out, bytes);
            }
        }
        out.extend(rest.bytes());
    }
}

fn failure(error: ServerError) -> Failure {
    let ServerError { number, message } = error;
    let kind = match number {
        // `Duplicate entry '5' for key 'PRIMARY'`, or `'kine.PRIMARY'`.
        DUPLICATE if message.ends_with("PRIMARY'") => FailureKind::Taken,
        // Kine's collation ignores case: a name that differs from another in case only.
        DUPLICATE => FailureKind::Refused,
        NO_DATABASE => FailureKind::NoDatabase,
        COLUMN_EXISTS => FailureKind::Exists,
        number if NOT_NOW.contains(&number) => FailureKind::Cut,
        _ => FailureKind::Other,
    };
    Failure { kind, error: Error::new(format!("MySQL: {message} ({number})")) }
}

/// Says who comes, behind TLS if that is wanted, and proves it.
async fn log_in(
    mut stream: Stream,
    server: &Server,
    host: &Host,
    database: &str,
) -> Result<Stream, Failure> {
    let (payload, n) = next(&mut stream).await?;
    let greeting = match wire::greeting(payload).context(|| "read the greeting")? {
        Ok(greeting) => greeting,
        Err(error) => return Err(failure(error)),
    };
    if !is_new_enough(greeting.version) {
        let version = greeting.version.escape_ascii();
        let text = format!("it is {version}: MySQL 8.0 or MariaDB 10.2 is needed, or a later one");
        return Err(Error::new(text).into());
    }
    let Greeting { capabilities: server_can, mut salt, plugin, .. } = greeting;
    let plugin = plugin.to_vec();
    stream.consume(n);
    let mut capabilities = CAPABILITIES;
    if !database.is_empty() {
        capabilities |= can::WITH_DATABASE;
    }
    let config = match &server.tls {
        Tls::Required(config) | Tls::Preferred(config)
            if !host.is_unix() && server_can & can::TLS != 0 =>
        {
            Some(config)
        }
        Tls::Required(_) if !host.is_unix() => {
            return Err(Error::new("the server does not speak TLS").into());
        }
        _ => None,
    };
    let mut number = 1;
    if let Some(config) = config {
        capabilities |= can::TLS;
        wire::put_packet(&mut stream.output, number, |out| wire::put_hello(out, capabilities));
        stream.send().await?;
        let (io, _) = http::tls::begin(stream.into_io()?, config, host.name(), &[]).await?;
        stream = Stream::new(io);
        number += 1;
    }
    let private = config.is_some() || host.is_unix();
    let password = server.password.reveal().as_bytes();
    let known = [NATIVE, CACHING].contains(&&*plugin);
    // Who has another way is told of it after the first try.
    let mut plugin = if known { plugin } else { NATIVE.to_vec() };
    let proof = prove(&plugin, password, &salt, server, private)?;
    wire::put_packet(&mut stream.output, number, |out| {
        wire::put_hello(out, capabilities);
        let plugin = std::str::from_utf8(&plugin).unwrap_or_default();
        wire::put_login(out, &server.user, &proof, database, plugin);
    });
    stream.send().await?;
    loop {
        while wire::next(stream.unread()).context(|| "log in")?.is_none() {
            stream.fill().await?;
        }
        let Some((number, payload, n)) = wire::next(stream.unread()).context(|| "log in")? else {
            return Err(Error::new("log in").into());
        };
        let answer = match wire::login(payload).context(|| "log in")? {
            Login::Ok => {
                stream.consume(n);
                return Ok(stream);
            }
            Login::Error(error) => return Err(failure(error)),
            Login::Switch { plugin: other, salt: others } => {
                (plugin, salt) = (other.to_vec(), others.to_vec());
                Some(prove(&plugin, password, &salt, server, private)?)
            }
            // The server knows the hash of the password.
            Login::More(b"\x03") if plugin == CACHING => None,
            // It does not, and wants the password itself.
            Login::More(b"\x04") if plugin == CACHING && private => Some([password, &[0]].concat()),
            Login::More(_) if plugin == CACHING => {
                let text = "the server wants the password itself, which goes over TLS or a socket only: \
                    set tls in the endpoint";
                return Err(Error::new(text).into());
            }
            Login::More(_) => {
                return Err(Error::new("the server wants more than a password").into());
            }
        };
        stream.consume(n);
        if let Some(answer) = answer {
            let number = number.wrapping_add(1);
            wire::put_packet(&mut stream.output, number, |out| out.extend(answer));
            stream.send().await?;
        }
    }
}

/// Whether it knows sums over rows before one (window functions).
fn is_new_enough(version: &[u8]) -> bool {
    let version = String::from_utf8_lossy(version);
    // MariaDB says first that it is 5.5.5, for clients that think nothing is newer.
    let (version, least) = match version.contains("MariaDB") {
        true => (version.strip_prefix("5.5.5-").unwrap_or(&version), (10, 2)),
        false => (&*version, (8, 0)),
    };
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>());
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= least,
        _ => false,
    }
}

/// What shows that the password is known.
fn prove(
    plugin: &[u8],
    password: &[u8],
    salt: &[u8],
    server: &Server,
    private: bool,
) -> Result<Vec<u8>> {
    let xor = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect();
    if plugin == CLEAR && (private || server.clear_password) {
        return Ok([password, &[0]].concat());
    }
    if password.is_empty() && [NATIVE, CACHING].contains(&plugin) || SOCKET.contains(&plugin) {
        return Ok(Vec::new());
    }
    let hash = |algorithm, text: &[u8]| digest::digest(algorithm, text);
    if plugin == NATIVE {
        let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
        let once = hash(sha1, password);
        let twice = hash(sha1, once.as_ref());
        return Ok(xor(once.as_ref(), hash(sha1, &[salt, twice.as_ref()].concat()).as_ref()));
    }
    if plugin == CACHING {
        let sha256 = &digest::SHA256;
        let once = hash(sha256, password);
        let twice = hash(sha256, once.as_ref());
        return Ok(xor(once.as_ref(), hash(sha256, &[twice.as_ref(), salt].concat()).as_ref()));
    }
    let plugin = plugin.escape_ascii();
    Err(Error::new(format!(
        "the server wants {plugin}, which is none of mysql_native_password and caching_sha2_password"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, new) in [
            ("8.0.36", true),
            ("9.1.0-log", true),
            ("5.7.44-log", false),
            ("5.5.5-10.11.6-MariaDB-0+deb12u1", true),
            ("11.4.2-MariaDB", true),
            ("5.5.5-10.1.48-MariaDB", false),
            ("x", false),
        ] {
            assert_eq!(is_new_enough(version.as_bytes()), new, "{version}");
        }
    }

    #[test]
    fn parameters_go_into_the_text() {
        let values = [Value::Int(-5), Value::Text("a'$1"), Value::Bytes(b"\0x"), Value::Null];
        let mut out = Vec::new();
        render(&mut out, &Step::new("SELECT $2, $1, $3, $4, $2 + $9;", values));
        assert_eq!(out, b"SELECT 'a\\'$1', -5, _binary'\\0x', NULL, 'a\\'$1' + NULL;");
    }
}
