//! Questions in JSON to the very URL that a kubeconfig names: webhooks of administrators, which are no API.

use std::fmt;
use std::io::ErrorKind;
use std::time::Duration;

use http::Method;
use stdx::{Error, Result};

use crate::access::{Access, Current};

/// Tries of one question, and how long the first pause between two is; each is half longer. As upstream's.
const ATTEMPTS_MAX: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What is shown of an answer that is none.
const SHOWN_MAX_BYTES: usize = 512;
const RETRY_AFTER_MAX_SECS: u64 = 10;
/// Of a try, where every failure is tried again.
const TRY_MAX: Duration = Duration::from_secs(30);

/// Whom to ask.
pub struct Hook {
    current: Current,
    http: http::client::Client,
    user_agent: String,
    first_pause: Duration,
    is_persistent: bool,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({})", self.current.base())
    }
}

impl Hook {
    /// `agent` is the asking program's name. Blocking: reads the files that `access` names.
    ///
    /// # Errors
    /// If a certificate, key or URL cannot be used.
    pub fn new(access: Access, agent: &str) -> Result<Hook> {
        Ok(Hook {
            current: Current::new(access)?,
            http: http::client::Client::new(http::client::Options::default()),
            user_agent: format!("{agent}/{}", stdx::version::VERSION),
            first_pause: FIRST_PAUSE,
            is_persistent: false,
        })
    }

    /// Asks again whatever went wrong, and each try has a bound in time: for what must not be lost.
    #[must_use]
    pub fn persistent(self, first_pause: Duration) -> Hook {
        Hook { first_pause, is_persistent: true, ..self }
    }

    /// Puts a question and gives the bytes of its answer, `max_bytes` at most. Asks again where upstream does: after 429,
    /// 500 and 504, whenever the answer says when to come again, and when the connection was cut. Sets no bound to the
    /// time that all takes.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, question: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
        let mut pause = self.first_pause;
        for attempt in 1.. {
            let is_last = attempt >= ATTEMPTS_MAX;
            let reached = self.current.reach().await;
            let path = match self.current.base() {
                "" => "/",
                path => path,
            };
            let mut request = http::Request::new(Method::Post, path)
                .header("content-type", "application/json")
                .header("accept", "application/json, */*")
                .header("user-agent", &self.user_agent)
                .body(question.to_vec());
            if !reached.authorization.is_empty() {
                request = request.header("authorization", &reached.authorization);
            }
            let mut later = None;
            let sending = self.http.send(&reached.endpoint, request);
            let sent = match self.is_persistent {
                false => sending.await,
                true => match rt::timeout(TRY_MAX, sending).await {
                    Ok(sent) => sent,
                    Err(rt::Elapsed) => Err(Error::new("context deadline exceeded")),
                },
            };
            match sent {
                Ok(mut response) if (200..300).contains(&response.status) => {
                    return response.body.read_all(max_bytes).await;
                }
                Ok(mut response) => {
                    let code = response.status;
                    let after = response.headers.get("retry-after");
                    later = after.and_then(|secs| secs.trim().parse::<u64>().ok());
                    let is_over = !matches!(code, 429 | 500 | 504) && later.is_none();
                    if is_last || is_over && !self.is_persistent {
                        let text = response.body.read_all(max_bytes).await.unwrap_or_default();
                        let shown = &text[..text.len().min(SHOWN_MAX_BYTES)];
                        let shown = String::from_utf8_lossy(shown);
                        return Err(Error::new(format!("it answered {code}: {:?}", shown.trim())));
                    }
                }
                Err(error) => {
                    let is_cut = matches!(
                        error.io_kind(),
                        Some(
                            ErrorKind::ConnectionReset
                                | ErrorKind::BrokenPipe
                                | ErrorKind::UnexpectedEof
                        )
                    );
                    if is_last || !is_cut && !self.is_persistent {
                        return Err(error);
                    }
                }
            }
            let asked = later.map(|secs| Duration::from_secs(secs.min(RETRY_AFTER_MAX_SECS)));
            rt::sleep(asked.unwrap_or(pause)).await;
            pause = pause * 3 / 2;
        }
        Err(Error::new("it was asked too often"))
    }
}
