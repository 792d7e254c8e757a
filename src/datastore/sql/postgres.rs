//! A connection to PostgreSQL.

use ::wire::postgres::{self as wire, Authentication, Message, ServerError};
use rt::BoxFuture;
use stdx::{Context, Error, Result};

use super::scram::Scram;
use super::server::{Host, Server, Tls};
use super::session::{Failure, FailureKind, Session, Sink, Step, Stream, Value, Way};

/// The channel on which appends are told, with the newest revision.
pub(super) const CHANNEL: &str = "k3rs";

/// What kine's table calls its key: who meets it was too late.
const PRIMARY_KEY: &str = "kine_pkey";
const UNIQUE_VIOLATION: &str = "23505";
const NO_DATABASE: &str = "3D000";
/// It is starting, or stopping.
const NOT_NOW: [&str; 4] = ["57P01", "57P02", "57P03", "53300"];

/// A server that vanished keeps no lock for long; a statement sees what was committed before it; and who
/// may only read is no place to write to.
const PREPARE: &str = "SELECT set_config('tcp_keepalives_idle', '10', false), \
    set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false), \
    set_config('default_transaction_isolation', 'read committed', false), \
    current_setting('transaction_read_only')";
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const COMMIT: &str = "COMMIT";

/// What PostgreSQL's older way of passwords is made of.
fn md5_hex(bytes: &[u8]) -> String {
    use md5::Digest;
    ::wire::hex::encode(&md5::Md5::digest(bytes))
}

pub(super) struct Postgres {
    stream: Stream,
    /// Statements that the server holds, each under its place.
    prepared: Vec<&'static str>,
    keeps: bool,
    /// Told, and not asked for yet.
    told: Option<u64>,
}

impl Postgres {
    /// Connects to the first host that answers.
    pub(super) async fn connect(server: &Server) -> Result<Postgres, Failure> {
        let mut last = Failure::from(Error::new("the endpoint names no host"));
        for host in &server.hosts {
            let what = || format!("connect to PostgreSQL at {host}");
            let connected = rt::timeout(server.connect_max, Postgres::connect_to(server, host));
            match connected.await {
                Ok(Ok(postgres)) => return Ok(postgres),
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

    async fn connect_to(server: &Server, host: &Host) -> Result<Postgres, Failure> {
        let mut stream = Stream::new(host.dial().await?);
        if !host.is_unix() {
            stream = begin_tls(stream, &server.tls, host).await?;
        }
        let mut settings = vec![
            ("user", server.user.as_str()),
            ("database", &server.database),
            ("client_encoding", "UTF8"),
            ("application_name", "k3rs"),
        ];
        settings.extend(server.settings.iter().map(|(name, value)| (&**name, &**value)));
        wire::put_startup(&mut stream.output, settings);
        stream.send().await?;
        authenticate(&mut stream, server).await?;
        let keeps = server.prepares;
        let mut postgres = Postgres { stream, prepared: Vec::new(), keeps, told: None };
        let mut read_only = false;
        let mut look = |_: usize, row: &[Option<&[u8]>]| {
            read_only = row.get(4) == Some(&Some(b"on"));
            Ok(())
        };
        postgres.run_all(Way::Each, &[Step::new(PREPARE, [])], &mut look).await?;
        match read_only {
            true => Err(Error::new("it may only be read, as a standby").into()),
            false => Ok(postgres),
        }
    }

    /// Runs a statement of which nothing is wanted.
    pub(super) async fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        let out = &mut self.stream.output;
        wire::put_parse(out, "", sql);
        wire::put_run(out, "", &[]);
        wire::put_sync(out);
        self.stream.send().await?;
        self.answers(1, 0, &mut |_, _| Ok(())).await?;
        Ok(())
    }

    async fn run_all(
        &mut self,
        way: Way,
        steps: &[Step<'_>],
        sink: Sink<'_>,
    ) -> Result<Vec<u64>, Failure> {
        if way == Way::Snapshot {
            self.put(BEGIN_SNAPSHOT, &[]);
        }
        let mut values = Vec::new();
        for step in steps {
            values.clear();
            values.extend(step.values.iter().map(|value| match value {
                Value::Null => wire::Value::Null,
                Value::Int(n) => wire::Value::Int(*n),
                Value::Text(text) => wire::Value::Bytes(text.as_bytes()),
                Value::Bytes(bytes) => wire::Value::Bytes(bytes),
            }));
            self.put(step.sql, &values);
            if way == Way::Each {
                wire::put_sync(&mut self.stream.output);
            }
        }
        if way == Way::Snapshot {
            self.put(COMMIT, &[]);
        }
        if way != Way::Each {
            // Without a BEGIN, what comes up to here is one transaction.
            wire::put_sync(&mut self.stream.output);
        }
        self.stream.send().await?;
        let n_before = usize::from(way == Way::Snapshot);
        let n_ready = if way == Way::Each { steps.len() } else { 1 };
        let mut n_changed = self.answers(n_ready, n_before, sink).await?;
        if n_changed.len() != steps.len() + 2 * n_before {
            return Err(Error::new("the database did not answer every statement").into());
        }
        n_changed.drain(..n_before);
        n_changed.truncate(steps.len());
        Ok(n_changed)
    }

    /// A statement that is run, and prepared if it was not.
    fn put(&mut self, sql: &'static str, values: &[wire::Value<'_>]) {
        let out = &mut self.stream.output;
        if !self.keeps {
            wire::put_parse(out, "", sql);
            return wire::put_run(out, "", values);
        }
        let known = self.prepared.iter().position(|known| *known == sql);
        let name = format!("k3rs_{}", known.unwrap_or(self.prepared.len()));
        if known.is_none() {
            self.prepared.push(sql);
            wire::put_parse(out, &name, sql);
        }
        wire::put_run(out, &name, values);
    }

    /// Reads until the server was ready so often. What a statement changed, for each.
    async fn answers(
        &mut self,
        mut n_ready: usize,
        n_before: usize,
        sink: Sink<'_>,
    ) -> Result<Vec<u64>, Failure> {
        let mut n_changed = Vec::new();
        let mut failed: Option<Failure> = None;
        while n_ready > 0 {
            let n = match wire::next(self.stream.unread()).context(|| "read from the database")? {
                None => {
                    self.stream.fill().await?;
                    continue;
                }
                Some((message, n)) => {
                    match message {
                        Message::Row(row) if failed.is_none() => {
                            let statement = n_changed.len();
                            sink(statement.saturating_sub(n_before), &row)?;
                        }
                        Message::Complete(n) => n_changed.push(n),
                        Message::Error(error) => {
                            failed.get_or_insert_with(|| failure(error));
                        }
                        Message::Ready(_) => n_ready -= 1,
                        Message::Notification { channel, payload } => {
                            self.told = told(channel, payload).or(self.told);
                        }
                        Message::Row(_) | Message::Authentication(_) | Message::Other(_) => {}
                    }
                    n
                }
            };
            self.stream.consume(n);
        }
        failed.map_or(Ok(n_changed), Err)
    }

    async fn next_told(&mut self) -> Result<u64> {
        loop {
            if let Some(told) = self.told.take() {
                return Ok(told);
            }
            let n = match wire::next(self.stream.unread()).context(|| "listen to the database")? {
                None => {
                    self.stream.fill_sometime().await?;
                    continue;
                }
                Some((Message::Notification { channel, payload }, n)) => {
                    self.told = told(channel, payload);
                    n
                }
                Some((Message::Error(error), _)) => return Err(failure(error).error),
                Some((_, n)) => n,
            };
            self.stream.consume(n);
        }
    }
}

impl Session for Postgres {
    fn run<'a>(
        &'a mut self,
        way: Way,
        steps: &'a [Step<'a>],
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<Vec<u64>, Failure>> {
        Box::pin(self.run_all(way, steps, sink))
    }

    fn told(&mut self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.next_told())
    }
}

fn told(channel: &str, payload: &str) -> Option<u64> {
    (channel == CHANNEL).then(|| payload.parse().ok()).flatten()
}

fn failure(error: ServerError) -> Failure {
    let kind = match &*error.code {
        UNIQUE_VIOLATION if error.constraint == PRIMARY_KEY => FailureKind::Taken,
        NO_DATABASE => FailureKind::NoDatabase,
        code if NOT_NOW.contains(&code) => FailureKind::Cut,
        _ => FailureKind::Other,
    };
    let mut text = format!("PostgreSQL: {} ({})", error.message, error.code);
    if !error.detail.is_empty() {
        text += &format!(": {}", error.detail);
    }
    Failure { kind, error: Error::new(text) }
}

async fn begin_tls(mut stream: Stream, tls: &Tls, host: &Host) -> Result<Stream> {
    let (config, must) = match tls {
        Tls::Off => return Ok(stream),
        Tls::Preferred(config) => (config, false),
        Tls::Required(config) => (config, true),
    };
    stream.output.extend(wire::TLS_REQUEST);
    stream.send().await?;
    if stream.unread().is_empty() {
        stream.fill().await?;
    }
    let answer = stream.unread()[0];
    stream.consume(1);
    match answer {
        b'S' => {
            // Other protocols are none that it may choose.
            let (io, _) = http::tls::begin(stream.into_io()?, config, host.name(), &[]).await?;
            Ok(Stream::new(io))
        }
        b'N' if !must => Ok(stream),
        _ => Err(Error::new("the server does not speak TLS")),
    }
}

/// Goes on until the server is ready for statements.
async fn authenticate(stream: &mut Stream, server: &Server) -> Result<(), Failure> {
    let password = server.password.reveal();
    let mut scram: Option<(Scram, String)> = None;
    let mut believed = false;
    loop {
        let mut out = Vec::new();
        let n = match wire::next(stream.unread()).context(|| "read from the database")? {
            None => {
                stream.fill().await?;
                continue;
            }
            Some((Message::Error(error), _)) => return Err(failure(error)),
            Some((Message::Ready(_), n)) => {
                stream.consume(n);
                return match believed {
                    true => Ok(()),
                    false => Err(Error::new("the database is ready too early").into()),
                };
            }
            Some((Message::Authentication(wanted), n)) => {
                match wanted {
                    // A server that knows our password has shown it by then.
                    Authentication::Ok => {
                        believed = scram.as_ref().is_none_or(|(_, last)| last.is_empty());
                    }
                    Authentication::ClearPassword => {
                        wire::put_password(&mut out, password.as_bytes());
                    }
                    Authentication::Md5 { salt } => {
                        let inner = md5_hex(format!("{password}{}", server.user).as_bytes());
                        let outer = md5_hex(&[inner.as_bytes(), &salt].concat());
                        wire::put_password(&mut out, format!("md5{outer}").as_bytes());
                    }
                    Authentication::Sasl(mechanisms) => {
                        const MECHANISM: &str = "SCRAM-SHA-256";
                        if !mechanisms.contains(&MECHANISM) {
                            return Err(Error::new(
                                "the server wants a SASL mechanism that is not SCRAM-SHA-256",
                            )
                            .into());
                        }
                        let mut random = [0; 18];
                        rt::random(&mut random);
                        let begun = Scram::new(&random);
                        wire::put_sasl_first(&mut out, MECHANISM, begun.first().as_bytes());
                        scram = Some((begun, "-".to_owned()));
                    }
                    Authentication::SaslContinue(first) => {
                        let first = String::from_utf8(first.to_vec()).context(|| "read SCRAM")?;
                        let Some((begun, last)) = scram.take() else {
                            return Err(
                                Error::new("the server goes on with what was not begun").into()
                            );
                        };
                        if last != "-" {
                            return Err(Error::new("the server begins SCRAM again").into());
                        }
                        let secret = server.password.clone();
                        // Thousands of rounds.
                        let answered = rt::unblock(move || {
                            let answered = begun.answer(&first, secret.reveal().as_bytes());
                            answered.map(|answered| (begun, answered))
                        });
                        let (begun, (answer, expected)) = answered.await?;
                        wire::put_sasl(&mut out, answer.as_bytes());
                        scram = Some((begun, expected));
                    }
                    Authentication::SaslFinal(last) => match &mut scram {
                        Some((_, expected)) if expected.as_bytes() == last => expected.clear(),
                        _ => {
                            return Err(
                                Error::new("the server does not know the password either").into()
                            );
                        }
                    },
                    Authentication::Other(number) => {
                        let text = format!(
                            "the server wants authentication {number}, which is none of password, md5 and scram-sha-256"
                        );
                        return Err(Error::new(text).into());
                    }
                }
                n
            }
            Some((_, n)) => n,
        };
        stream.consume(n);
        if !out.is_empty() {
            stream.output = out;
            stream.send().await?;
        }
    }
}
