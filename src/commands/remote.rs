//! A node's API, as commands ask it. Blocks.

use crate::tls;
use anyhow::{Context, bail};
use cdr_core::json::{self, MAX_FILE_BYTES};
use reqwest::blocking::Client;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node's API.
pub(super) struct Remote {
    client: Client,
    url: String,
    token: Option<String>,
}

impl Remote {
    /// The API at `url`, with the bearer token of a file.
    pub(super) fn new(url: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = match token_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("{} can't be read", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let tls = tls::client(tls::system_roots()).context("TLS can't be used")?.with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(PATIENCE)
            .build()
            .context("no HTTP client")?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// What a path answers.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url);
        let mut request = self.client.get(&url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().with_context(|| format!("{url} does not answer"))?;
        let status = response.status();
        let body = response.bytes().with_context(|| format!("{url} breaks off"))?;
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body);
            bail!("{url} answers {status}: {}", api_error(&body).unwrap_or_else(|| body.into_owned()));
        }
        json::value(&body, MAX_FILE_BYTES).with_context(|| format!("{url} does not answer in JSON"))
    }
}

/// What the API says in an error envelope; none if `text` is something else.
pub(super) fn api_error(text: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let error = answer.get("error")?;
    let (code, message) = (error.get("code")?.as_str()?, error.get("message")?.as_str()?);
    Some(format!("{message} ({code})"))
}
