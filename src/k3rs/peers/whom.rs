//! The server that a command of an operator asks, as who has the servers' token.

use std::path::PathBuf;
use std::time::Duration;

use cluster::Paths;
use cluster::token::Token;
use http::Request;
use http::client::Url;
use stdx::{Context, Result};

use crate::settings::config::Config;

/// What flags say of it.
pub(crate) struct Whom {
    data_dir: PathBuf,
    token: Option<String>,
    url: String,
}

impl Whom {
    /// The server of this machine, unless flags or the configuration say otherwise.
    pub(crate) fn new(
        config: Config,
        token: Option<String>,
        url: Option<String>,
        data_dir: Option<&str>,
    ) -> Whom {
        Whom {
            data_dir: data_dir.map_or(config.data_dir, PathBuf::from),
            token: token.or(config.token),
            url: url.unwrap_or_else(|| format!("https://127.0.0.1:{}", config.https_port)),
        }
    }

    /// # Errors
    /// If there is no token, or what the server says.
    pub(crate) async fn ask(&self, request: Request, max: Duration) -> Result<Vec<u8>> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => rt::fs::read_text(Paths::new(&self.data_dir).server().join("token"))?,
        };
        let token = Token::parse(&token)?;
        let url = Url::parse(&self.url).context(|| format!("read --server {:?}", self.url))?;
        let answer = crate::peers::join::ask(&url, &token, request, max).await;
        answer.context(|| "see server log for details")
    }
}
