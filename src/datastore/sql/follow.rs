//! Hearing of what others append: the database tells, or is asked now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use stdx::Result;

use super::session::{Session, Step, Way, number_or_null};
use super::{Database, column};

/// A database that tells is asked all the same so often: it may lose its voice, and a kine beside us tells nothing.
const TOLD_POLL: Duration = Duration::from_secs(5);
/// One that does not tell is asked so soon again while others write, half as often each time they did not, down to
/// the second figure, and to the third while there are no others.
const POLL_MIN: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(500);
const POLL_ALONE: Duration = Duration::from_secs(2);
/// Before another connection is tried.
const RETRY: Duration = Duration::from_secs(1);

/// How far the log has come, and how far this server knows it.
#[derive(Debug, Default)]
pub(super) struct Followed {
    newest: AtomicU64,
    known: AtomicU64,
    n_servers: AtomicUsize,
    grown: rt::Event,
}

impl Followed {
    /// This server appended up to there.
    pub(super) fn appended(&self, last: u64) {
        self.known.fetch_max(last, Ordering::Relaxed);
    }

    pub(super) fn set_servers(&self, n_servers: usize) {
        self.n_servers.store(n_servers, Ordering::Relaxed);
    }

    pub(super) async fn grown(&self, after: u64) {
        self.known.fetch_max(after, Ordering::Relaxed);
        loop {
            let listener = self.grown.listen();
            if self.newest.load(Ordering::Relaxed) > after {
                return;
            }
            listener.await;
        }
    }

    /// Whether it is news to this server.
    fn tell(&self, newest: u64) -> bool {
        self.newest.fetch_max(newest, Ordering::Relaxed);
        self.grown.notify(usize::MAX);
        newest > self.known.load(Ordering::Relaxed)
    }
}

/// Follows for ever, on a connection of its own.
pub(super) async fn follow(database: Arc<Database>, followed: Arc<Followed>) {
    loop {
        if let Err(error) = follow_once(&database, &followed).await {
            log::warn!("datastore: what other servers write may be seen late: {error}");
        }
        rt::sleep(RETRY).await;
    }
}

async fn follow_once(database: &Database, followed: &Followed) -> Result<()> {
    let statements = database.statements();
    let mut session = database.connect().await?;
    if let Some(listen) = statements.listen {
        session.run(Way::Each, &[Step::new(listen, [])], &mut |_, _| Ok(())).await?;
    }
    let mut wait = POLL_MIN;
    loop {
        let news = followed.tell(newest(&mut *session, statements.newest).await?);
        wait = match statements.listen {
            Some(_) => TOLD_POLL,
            None if news => POLL_MIN,
            None if followed.n_servers.load(Ordering::Relaxed) < 2 => POLL_ALONE,
            None => (wait * 2).min(POLL_MAX),
        };
        while let Ok(told) = rt::timeout(wait, session.told()).await {
            followed.tell(told?);
        }
    }
}

async fn newest(session: &mut dyn Session, sql: &'static str) -> Result<u64> {
    let mut newest = 0;
    let mut sink = |_: usize, row: &[Option<&[u8]>]| {
        newest = number_or_null(column(row, 0))?.unwrap_or(0);
        Ok(())
    };
    session.run(Way::Each, &[Step::new(sql, [])], &mut sink).await?;
    Ok(newest)
}
