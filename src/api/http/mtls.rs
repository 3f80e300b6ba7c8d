//! The API's second listener: TLS, for services that present a client certificate (API contract, section 2).
//!
//! Handshakes are made concurrently, so that none waits for a slow one; a client without a certificate that is
//! force gets no further. What the certificate allows is decided request by request.

use super::access::Shown;
use crate::tls::{Secured, Server};
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

/// Longest time that a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Most handshakes at once; more connections wait.
const HANDSHAKES: usize = 64;
/// Pause after a connection could not be accepted, for want of file descriptors for instance.
const BREATHER: Duration = Duration::from_millis(500);

type Accepted = (Secured, Shown);

/// Connections whose handshake is done.
pub struct MutualTls {
    accepted: mpsc::Receiver<Accepted>,
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl MutualTls {
    /// Listens, securing connections as `server` says at the time.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn new(listener: TcpListener, server: Arc<Server>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (done, accepted) = mpsc::channel(HANDSHAKES);
        let listening = tokio::spawn(listen(listener, server, done));
        Ok(Self { accepted, address, listening })
    }
}

impl Drop for MutualTls {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Listener for MutualTls {
    type Io = Secured;
    type Addr = Shown;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The listening task ends only with this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Shown { from: self.address, certificate: None })
    }
}

impl Connected<IncomingStream<'_, MutualTls>> for Shown {
    fn connect_info(stream: IncomingStream<'_, MutualTls>) -> Self {
        stream.remote_addr().clone()
    }
}

async fn listen(listener: TcpListener, server: Arc<Server>, done: mpsc::Sender<Accepted>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        while handshakes.try_join_next().is_some() {}
        let (server, done) = (server.clone(), done.clone());
        handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_WITHIN, server.accept(stream)).await {
                Ok(Ok((stream, certificate))) => {
                    let _ = done.send((stream, Shown { from, certificate })).await;
                }
                Ok(Err(error)) => tracing::info!(%from, %error, "a TLS handshake failed"),
                Err(_) => tracing::info!(%from, "a TLS handshake took too long"),
            }
            drop(place);
        });
    }
}
