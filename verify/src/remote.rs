//! A node's API, asked over HTTP. Blocks.

use anyhow::{Context, bail};
use cdr_core::json::{self, MAX_FILE_BYTES};
use reqwest::blocking::Client;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node's API.
pub(crate) struct Remote {
    client: Client,
    url: String,
    token: Option<String>,
}

impl Remote {
    /// The API at `url`, with the bearer token of a file.
    pub(crate) fn new(url: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let token = match token_file {
            None => None,
            Some(path) => Some(crate::read_text(path)?.trim().to_owned()),
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls().context("TLS can't be used")?)
            .timeout(PATIENCE)
            .build()
            .context("no HTTP client")?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// What a path answers.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
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

/// TLS that believes this system's root certificates.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

/// What the API says in an error envelope; none if `text` is something else.
pub(crate) fn api_error(text: &str) -> Option<String> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let error = answer.get("error")?;
    let (code, message) = (error.get("code")?.as_str()?, error.get("message")?.as_str()?);
    Some(format!("{message} ({code})"))
}
