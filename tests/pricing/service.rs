//! A billing service and operator registry that answer what a test tells them to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use testkit::certificates::{Authority, Pair};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Generated from `config/proto`.
#[allow(clippy::all, clippy::pedantic)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/server/cdr.pricing.v1.rs"));
}
use v1::operator_registry_service_server::{OperatorRegistryService, OperatorRegistryServiceServer};
use v1::pricing_service_server::{PricingService, PricingServiceServer};

/// What the services answer, and what they were asked.
#[derive(Default)]
pub struct Script {
    /// The snapshot; its etag decides what is not modified.
    pub snapshot: v1::PricingSnapshot,
    /// Tables that are given by name.
    pub named: BTreeMap<String, v1::TariffTable>,
    /// Recording entities.
    pub entities: BTreeMap<String, String>,
    /// Time before an answer.
    pub delay: Duration,
    /// Instead of an answer.
    pub fails: Option<Status>,
    /// Questions for prices.
    pub asked_prices: Vec<v1::GetPricingSnapshotRequest>,
    /// Questions for recording entities.
    pub asked_entities: Vec<Vec<String>>,
}

/// The script that a test and the services share.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Script>>);

impl Shared {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    async fn wait(&self) -> Result<(), Status> {
        let (delay, fails) = {
            let script = self.script();
            (script.delay, script.fails.clone())
        };
        tokio::time::sleep(delay).await;
        fails.map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl PricingService for Shared {
    async fn get_pricing_snapshot(
        &self,
        request: Request<v1::GetPricingSnapshotRequest>,
    ) -> Result<Response<v1::PricingSnapshot>, Status> {
        let request = request.into_inner();
        self.script().asked_prices.push(request.clone());
        self.wait().await?;
        let script = self.script();
        if let Some(version) = &request.table_id {
            let table = script.named.get(version).ok_or_else(|| Status::not_found("no such table"))?;
            let tables = vec![table.clone()];
            return Ok(Response::new(v1::PricingSnapshot { tables, ..Default::default() }));
        }
        let etag = script.snapshot.etag.clone();
        if !etag.is_empty() && request.known_etag.as_deref() == Some(etag.as_str()) {
            return Ok(Response::new(v1::PricingSnapshot { etag, not_modified: true, tables: vec![] }));
        }
        Ok(Response::new(script.snapshot.clone()))
    }
}

#[tonic::async_trait]
impl OperatorRegistryService for Shared {
    async fn get_recording_entity(
        &self,
        request: Request<v1::GetRecordingEntityRequest>,
    ) -> Result<Response<v1::GetRecordingEntityResponse>, Status> {
        let asked = request.into_inner().operator_ids;
        self.script().asked_entities.push(asked.clone());
        self.wait().await?;
        let script = self.script();
        let entity = |id: String| {
            let recording_entity = script.entities.get(&id)?.clone();
            Some(v1::RecordingEntity { operator_id: id, recording_entity })
        };
        let entities = asked.into_iter().filter_map(entity).collect();
        Ok(Response::new(v1::GetRecordingEntityResponse { entities }))
    }
}

/// Running services.
pub struct Service {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Service {
    /// Serves at a port, any if it is 0; clients must show a certificate that `clients` vouches for.
    pub async fn start(port: u16, shared: &Shared, own: &Pair, clients: &Authority) -> Self {
        // Two providers of cryptography are linked, and the server's side of rustls does not choose between them.
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(&own.cert, &own.key))
            .client_ca_root(Certificate::from_pem(&clients.cert));
        let (stop, stopped) = oneshot::channel();
        let serving = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(PricingServiceServer::new(shared.clone()))
            .add_service(OperatorRegistryServiceServer::new(shared.clone()))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
                let _ = stopped.await;
            });
        Self { address, stop, serving: tokio::spawn(serving) }
    }

    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Closes the port and every connection; returns the port.
    pub async fn stop(self) -> u16 {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
        self.address.port()
    }
}
