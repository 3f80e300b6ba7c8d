//! The regulator's REST interface for tests: HTTP/1.1 behind mutual TLS, answering as it is told to and keeping what it
//! got.

use crate::certificates::{Authority, ClientFiles, Pair};
use bytes::Bytes;
use cdr_core::hash::{sha256, to_hex};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// What the receiver does with a request.
#[derive(Clone)]
pub enum Act {
    /// Answers 201 with a receipt for what it got.
    Accept,
    /// Answers so, after the whole request.
    Answer(u16, String),
    /// Answers so as soon as it has seen the head.
    Refuse(u16),
    /// Takes the request and never answers.
    Hang,
    /// Ends the connection after so many bytes of the body.
    Cut(usize),
}

/// A part of a request's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub field: String,
    pub file_name: String,
    pub bytes: Vec<u8>,
}

/// A request that came whole.
#[derive(Clone, Debug)]
pub struct Upload {
    pub method: String,
    pub path: String,
    pub idempotency_key: String,
    pub length: Option<u64>,
    pub parts: Vec<Part>,
}

#[derive(Default)]
struct Shared {
    acts: Mutex<VecDeque<Act>>,
    uploads: Mutex<Vec<Upload>>,
}

/// A running receiver, and what a client needs to reach it.
pub struct RestReceiver {
    pub authority: Authority,
    pub files: ClientFiles,
    shared: Arc<Shared>,
    port: u16,
    serving: JoinHandle<()>,
    _dir: TempDir,
}

impl RestReceiver {
    /// A receiver that lets in the clients of its authority, and a client that it lets in.
    pub async fn start() -> Self {
        let authority = Authority::new("authority");
        let shown = authority.issue("receiver");
        Self::start_with(authority, &shown).await
    }

    /// A receiver that shows another certificate.
    pub async fn start_with(authority: Authority, shown: &Pair) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = ClientFiles::write(dir.path(), &authority, &authority.issue("cdr-mediation"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let acceptor = TlsAcceptor::from(Arc::new(tls(&authority, shown)));
        let serving = tokio::spawn(serve(listener, acceptor, shared.clone()));
        Self { authority, files, shared, port, serving, _dir: dir }
    }

    /// What it does with the next requests; it accepts all further ones.
    pub fn will(&self, acts: &[Act]) {
        self.shared.acts.lock().unwrap().extend(acts.iter().cloned());
    }

    /// Requests that came whole.
    pub fn uploads(&self) -> Vec<Upload> {
        self.shared.uploads.lock().unwrap().clone()
    }

    /// Where files are uploaded.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v1/cdr/upload", self.port)
    }
}

impl Drop for RestReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn tls(authority: &Authority, shown: &Pair) -> ServerConfig {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert.as_bytes()).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(shown.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::spawn(async move {
            // A client whose certificate is refused learns that from TLS.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let act = shared.acts.lock().unwrap().pop_front().unwrap_or(Act::Accept);
            if let Act::Cut(after) = act {
                let mut taken = vec![0; after];
                let _ = stream.read_exact(&mut taken).await;
                return;
            }
            let service = service_fn(|request| answer(request, &shared, act.clone()));
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    act: Act,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response =
        |status, body: String| Ok(Response::builder().status(status).body(Full::from(body)).unwrap());
    if let Act::Refuse(status) = act {
        return response(status, String::new());
    }
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let boundary = header(CONTENT_TYPE.as_str()).unwrap().split_once("boundary=").unwrap().1.to_owned();
    let Ok(body) = body.collect().await else { return pending().await };
    let parts = parts(&body.to_bytes(), &boundary);
    let receipt =
        format!("{{\"receiptId\": \"ATRA-1\", \"sha256\": \"{}\"}}", to_hex(&sha256(&parts[0].bytes)));
    shared.uploads.lock().unwrap().push(Upload {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        idempotency_key: header("idempotency-key").unwrap(),
        length: header("content-length").map(|text| text.parse().unwrap()),
        parts,
    });
    match act {
        Act::Answer(status, body) => response(status, body),
        Act::Hang => pending().await,
        _ => response(201, receipt),
    }
}

/// Takes a form apart (RFC 7578).
fn parts(body: &[u8], boundary: &str) -> Vec<Part> {
    let find = |within: &[u8], what: &[u8]| within.windows(what.len()).position(|window| window == what);
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..]).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let head_ends = find(part, b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&part[..head_ends]).unwrap();
        let ends = find(part, delimiter.as_bytes()).unwrap();
        let value = |key: &str| {
            head.split(&format!("{key}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
        };
        let bytes = part[head_ends + 4..ends].to_vec();
        parts.push(Part { field: value(" name"), file_name: value("filename"), bytes });
        rest = &part[ends + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "the form has an end");
    parts
}
