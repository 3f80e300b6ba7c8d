//! How to reach NATS, and the connection that follows from it.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};

use super::breaks::Breaks;
use crate::BusError;

/// How to prove who connects. Secrets come from files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NatsAuth {
    /// Not at all.
    #[default]
    None,
    /// A credentials file (JWT and seed), as NATS issues it.
    CredentialsFile(PathBuf),
    /// A user name, and a file whose first line is the password.
    UserPassword {
        /// The name.
        user: String,
        /// The file.
        password_file: PathBuf,
    },
    /// A file whose first line is a token.
    TokenFile(PathBuf),
    /// A file whose first line is an nkey seed.
    NkeySeedFile(PathBuf),
}

/// How to encrypt the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// PEM file of the authorities to trust; the system's own if there is none.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client's certificate and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How to reach NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsOptions {
    /// `nats://host:port` or `tls://host:port`; any of a cluster.
    pub servers: Vec<String>,
    /// Name of the connection, shown in the server's monitoring.
    pub name: String,
    /// Proof of identity.
    pub auth: NatsAuth,
    /// Encryption beyond what `tls://` asks for.
    pub tls: Option<NatsTls>,
    /// Encrypt before the server says a word, for servers with `handshake_first`.
    pub tls_first: bool,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long to wait for the answer to a request or for a publish acknowledgement.
    pub request_timeout: Duration,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            name: "cdr-mediation".to_owned(),
            auth: NatsAuth::None,
            tls: None,
            tls_first: false,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

impl NatsOptions {
    /// Plain options for one server, without authentication.
    pub fn new(server: impl Into<String>) -> Self {
        Self { servers: vec![server.into()], ..Self::default() }
    }

    pub(super) async fn connect(&self, breaks: Breaks) -> Result<Client, BusError> {
        let mut addresses = Vec::with_capacity(self.servers.len());
        for server in &self.servers {
            let address = server.parse::<ServerAddr>();
            addresses
                .push(address.map_err(|error| broken("servers", format!("{}: {error}", shown(server))))?);
        }
        if addresses.is_empty() {
            return Err(broken("servers", "there is none".to_owned()));
        }
        let options = self.with_tls(self.with_auth(ConnectOptions::new()).await?);
        options
            .name(&self.name)
            .connection_timeout(self.connect_timeout)
            .request_timeout(Some(self.request_timeout))
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| {
                Duration::from_millis(50 * attempts as u64).min(Duration::from_secs(2))
            })
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected) {
                    breaks.note();
                }
                report(&event);
                std::future::ready(())
            })
            .connect(addresses)
            .await
            .map_err(|error| {
                let servers = self.servers.iter().map(|server| shown(server)).collect::<Vec<_>>().join(", ");
                BusError::Connect { servers, reason: error.to_string() }
            })
    }

    async fn with_auth(&self, options: ConnectOptions) -> Result<ConnectOptions, BusError> {
        Ok(match &self.auth {
            NatsAuth::None => options,
            NatsAuth::CredentialsFile(path) => {
                let read = options.credentials_file(path).await;
                read.map_err(|error| broken("credentials file", format!("{}: {error}", path.display())))?
            }
            NatsAuth::UserPassword { user, password_file } => {
                options.user_and_password(user.clone(), first_line("password file", password_file).await?)
            }
            NatsAuth::TokenFile(path) => options.token(first_line("token file", path).await?),
            NatsAuth::NkeySeedFile(path) => options.nkey(first_line("nkey seed file", path).await?),
        })
    }

    fn with_tls(&self, mut options: ConnectOptions) -> ConnectOptions {
        let encrypted = self.servers.iter().any(|server| server.starts_with("tls://"));
        if self.tls.is_some() || encrypted {
            // Which one of several TLS back ends a process uses must be chosen once; an earlier choice stays.
            let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
        }
        let Some(tls) = &self.tls else { return options };
        options = options.require_tls(true);
        if self.tls_first {
            options = options.tls_first();
        }
        if let Some(path) = &tls.ca_file {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &tls.client {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        options
    }
}

fn broken(option: &'static str, reason: String) -> BusError {
    BusError::Option { option, reason }
}

/// A server's address without a password that it may hold.
fn shown(server: &str) -> String {
    match (server.find("://"), server.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{}", &server[..scheme + 3], &server[at + 1..])
        }
        (None, Some(at)) => server[at + 1..].to_owned(),
        _ => server.to_owned(),
    }
}

async fn first_line(option: &'static str, path: &PathBuf) -> Result<String, BusError> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| broken(option, format!("{}: {error}", path.display())))?;
    match text.lines().next().map(str::trim_end).filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(broken(option, format!("{}: its first line is empty", path.display()))),
    }
}

fn report(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS; reconnecting"),
        Event::SlowConsumer(id) => {
            tracing::warn!(subscription = id, "NATS messages were dropped: reader too slow");
        }
        other => tracing::debug!(event = %other, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn addresses_are_shown_without_passwords() {
        assert_eq!(shown("nats://user:p@ss@host:4222"), "nats://host:4222");
        assert_eq!(shown("user:pass@host"), "host");
        assert_eq!(shown("tls://host:4222"), "tls://host:4222");
    }
}
