//! The regulator's REST interface as the receiver (US-CDR-014): one `POST` with mutual TLS.
//!
//! The body is `multipart/form-data` with the parts `file`, `signature` (the sidecar that ends with `.sig`) and one
//! `sidecar` for every other one, each with its file name. `Idempotency-Key` holds the file's SHA-256 in lower-case
//! hexadecimal, so that a request that is repeated after a lost answer is the same request. The receiver answers 201 with
//! `{"receiptId": "...", "sha256": "..."}`, or 409 with the same members if it has the file already. The only place that
//! names the HTTP client.

mod answer;
mod body;
mod tls;

use super::error::{ChannelKind, DeliveryError, ErrorClass, Place};
use super::parcel::Parcel;
use super::{Channel, Receipt, Timeouts};
use crate::causes::chain;
use crate::config;
use body::Upload;
use cdr_core::hash::to_hex;
use futures::future::BoxFuture;
use reqwest::{Client, Url, redirect};
use std::path::PathBuf;
use tls::{ClientConfig, TlsFiles};

/// The header that makes a repeated request the same request.
pub const IDEMPOTENCY_HEADER: &str = "Idempotency-Key";

/// What is to be known about the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestOptions {
    /// Where files are posted to, `https://...`.
    pub url: String,
    /// Certificates from which the receiver's must descend, PEM; those of the system if absent.
    pub ca_file: Option<PathBuf>,
    /// This side's certificate and what vouches for it, PEM.
    pub client_cert_file: PathBuf,
    /// Private key of the certificate, PEM.
    pub client_key_file: PathBuf,
    /// How long steps may take.
    pub timeouts: Timeouts,
}

impl RestOptions {
    /// `None` if the configuration has no REST interface.
    pub(super) fn of(config: &config::Delivery) -> Option<Self> {
        Some(Self {
            url: config.rest_url.clone()?,
            ca_file: config.rest_ca_file.clone(),
            client_cert_file: config.rest_client_cert_file.clone().unwrap_or_default(),
            client_key_file: config.rest_client_key_file.clone().unwrap_or_default(),
            timeouts: config.into(),
        })
    }
}

/// Delivers by the REST interface.
#[derive(Debug)]
pub struct Rest {
    url: Url,
    files: TlsFiles,
    timeouts: Timeouts,
    place: Place,
}

impl Rest {
    /// The channel to the interface; it connects when something is delivered.
    ///
    /// # Errors
    /// [`DeliveryError`] of class [`ErrorClass::Setup`] if the URL, a certificate or the key can't be used.
    pub fn new(options: RestOptions) -> Result<Self, DeliveryError> {
        let RestOptions { url, ca_file, client_cert_file, client_key_file, timeouts } = options;
        let place = Place { channel: ChannelKind::Api, name: url.clone() };
        let parsed = Url::parse(&url).ok().filter(|url| url.scheme() == "https" && url.has_host());
        let url = parsed.ok_or_else(|| place.error(ErrorClass::Setup, "this is not an https:// URL"))?;
        let files = TlsFiles { ca: ca_file, cert: client_cert_file, key: client_key_file };
        files.load(&place)?;
        Ok(Self { url, files, timeouts, place })
    }

    /// A client for one attempt: keys and certificates are those of this moment.
    fn client(&self, tls: ClientConfig) -> Result<Client, DeliveryError> {
        let builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .connect_timeout(self.timeouts.step)
            .user_agent(concat!("cdr-mediation/", env!("CARGO_PKG_VERSION")));
        builder
            .build()
            .map_err(|e| self.place.error(ErrorClass::Setup, format!("no HTTP client: {}", chain(&e))))
    }

    async fn post(&self, parcel: &Parcel) -> Result<Receipt, DeliveryError> {
        let tls = self.files.load(&self.place)?;
        let client = self.client(tls.clone())?;
        let (form, upload) = Upload::begin(&self.place, parcel, self.timeouts);
        let key = to_hex(parcel.file.sha256());
        let request = client.post(self.url.clone()).header(IDEMPOTENCY_HEADER, key).multipart(form).send();
        let answer = tokio::select! {
            answer = request => answer,
            error = upload.stalled() => return Err(error),
        };
        match answer {
            Ok(answer) => answer::receipt(&self.place, parcel, answer, self.timeouts.step).await,
            Err(error) => Err(self.explain(upload, tls, &error).await),
        }
    }

    /// Why there is no answer: because of this side's file, a certificate, or the network.
    async fn explain(&self, upload: Upload, tls: ClientConfig, error: &reqwest::Error) -> DeliveryError {
        if let Some(unread) = upload.unread() {
            return unread;
        }
        // A receiver that refuses the certificate may do so after the first bytes of the file, and then all that is
        // seen here is a connection that broke.
        let refusal = match tls::refusal(error) {
            None if !error.is_connect() && !error.is_timeout() => {
                tls::ask(&self.url, tls, self.timeouts.step).await
            }
            found => found,
        };
        match refusal {
            Some(refusal) => {
                let what = format!("no encrypted connection with both certificates: {refusal}");
                self.place.error(ErrorClass::Certificate, what)
            }
            None => self.place.error(ErrorClass::Unreachable, format!("no answer: {}", chain(error))),
        }
    }
}

impl Channel for Rest {
    fn kind(&self) -> ChannelKind {
        ChannelKind::Api
    }

    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        Box::pin(self.post(parcel))
    }
}
