//! The API over mutual TLS: who gets in, what a certificate allows, and how certificates are exchanged at run time.

use cdr_core::CdrId;
use cdr_mediation::auth::dev::DevIssuer;
use cdr_mediation::tls;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use testkit::certificates::{Authority, ClientFiles, Pair};
use testkit::single::SingleReplica;
use testkit::wait_until;

const CLIENTS: &str = r#"
[[api.clients]]
name = "billing-service"
scopes = ["cdr:read"]

[[api.clients]]
name = "regulator-portal-service"
requires_token = true

[[api.clients]]
name = "atra"
scopes = ["cdr:regulator-ack"]
"#;

/// A replica with both doors, and who vouches for certificates on either side of the second one.
struct Fixture {
    replica: SingleReplica,
    issuer: DevIssuer,
    servers: Authority,
    clients: Authority,
    files: ClientFiles,
    dir: TempDir,
}

impl Fixture {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let own = dir.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let files = ClientFiles::write(&own, &clients, &servers.issue("cdr-mediation"));
        let mut replica = SingleReplica::new(dir.path(), issuer.jwks_path());
        let port = replica.spare_port();
        replica.edit(|text| {
            format!(
                "{text}mtls_listen = \"127.0.0.1:{port}\"\nmtls_cert_file = \"{}\"\nmtls_key_file = \"{}\"\n\
                 mtls_client_ca_file = \"{}\"\n{CLIENTS}",
                files.cert.display(),
                files.key.display(),
                files.ca.display()
            )
        });
        replica.start();
        let fixture = Self { replica, issuer, servers, clients, files, dir };
        let url = fixture.replica.url("/health/live");
        wait_until("the API", 60, || ureq::get(&url).call().is_ok());
        fixture
    }

    fn token(&self, scopes: &[&str]) -> String {
        self.issuer.token("inspector", scopes, 600).unwrap()
    }

    /// A client that shows this certificate, or none.
    fn client(&self, shown: Option<&Pair>) -> Client {
        let builder = tls::client(tls::roots(&write(self.dir.path(), &self.servers)).unwrap()).unwrap();
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let dir = tempfile::tempdir().unwrap();
                let files = ClientFiles::write(dir.path(), &self.servers, shown);
                let chain = tls::certificates(&files.cert).unwrap();
                builder.with_client_auth_cert(chain, tls::private_key(&files.key).unwrap()).unwrap()
            }
        };
        let builder = Client::builder().tls_backend_preconfigured(config);
        builder.timeout(Duration::from_secs(20)).build().unwrap()
    }

    /// A client with a certificate for `name`.
    fn named(&self, name: &str) -> Client {
        self.client(Some(&self.clients.issue(name)))
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.replica.spare_port())
    }

    /// Status and code of the answer to a question; status 0 if there was no connection.
    fn get(&self, client: &Client, path: &str, token: Option<&str>) -> (u16, Value) {
        let mut request = client.get(self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        answer(request)
    }

    fn acknowledge(&self, client: &Client, token: Option<&str>) -> (u16, Value) {
        let name = CdrId([1; 16]).with_prefix("exp_");
        let body = json!({"atraReceiptId": "R-1", "status": "VERIFIED"}).to_string();
        let mut request = client.post(self.url(&format!("/v1/cdr/exports/{name}/mark-acked"))).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        answer(request)
    }
}

fn write(dir: &Path, authority: &Authority) -> std::path::PathBuf {
    let path = dir.join("servers-ca.pem");
    std::fs::write(&path, &authority.cert).unwrap();
    path
}

fn answer(request: reqwest::blocking::RequestBuilder) -> (u16, Value) {
    let Ok(response) = request.send() else { return (0, Value::Null) };
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().unwrap()).unwrap();
    (status, body["error"]["code"].clone())
}

const KEYS: &str = "/v1/cdr/keys?consistency=stale";
const SCHEMAS: &str = "/v1/cdr/regulator-schemas";

fn ok() -> (u16, Value) {
    (200, Value::Null)
}

/// No connection came about.
fn nobody() -> (u16, Value) {
    (0, Value::Null)
}

fn refused(status: u16, code: &str) -> (u16, Value) {
    (status, json!(code))
}

#[test]
fn a_certificate_allows_what_the_configuration_says_and_no_more() {
    let fixture = Fixture::start();
    let billing = fixture.named("billing-service");
    assert_eq!(fixture.get(&billing, KEYS, None), ok());
    assert_eq!(fixture.get(&billing, SCHEMAS, None), refused(403, "INSUFFICIENT_SCOPE"));
    // A token adds to it.
    let admin = fixture.token(&["cdr:admin"]);
    assert_eq!(fixture.get(&billing, KEYS, Some(&admin)), ok());
    assert_ne!(fixture.get(&billing, SCHEMAS, Some(&admin)), refused(403, "INSUFFICIENT_SCOPE"));
    // One that does not count is not passed over.
    assert_eq!(fixture.get(&billing, KEYS, Some("nonsense")), refused(401, "UNAUTHENTICATED"));

    let portal = fixture.named("regulator-portal-service");
    assert_eq!(fixture.get(&portal, KEYS, None), refused(401, "UNAUTHENTICATED"), "a token is required");
    assert_eq!(fixture.get(&portal, KEYS, Some(&fixture.token(&["cdr:read"]))), ok());
    assert_eq!(fixture.get(&portal, KEYS, Some(&fixture.token(&[]))), refused(403, "INSUFFICIENT_SCOPE"));

    let stranger = fixture.named("analytics-service");
    assert_eq!(fixture.get(&stranger, KEYS, None), refused(401, "UNAUTHENTICATED"), "nobody named it");
    let read = fixture.token(&["cdr:read"]);
    assert_eq!(fixture.get(&stranger, KEYS, Some(&read)), refused(401, "UNAUTHENTICATED"));
    assert_eq!(fixture.get(&stranger, "/health/live", None), ok());
}

#[test]
fn only_the_regulators_certificate_acknowledges_a_file() {
    let fixture = Fixture::start();
    // That it may shows in its being told that there is no such file.
    assert_eq!(fixture.acknowledge(&fixture.named("atra"), None), refused(404, "EXPORT_NOT_FOUND"));
    let token = fixture.token(&["cdr:regulator-ack"]);
    let billing = fixture.named("billing-service");
    assert_eq!(fixture.acknowledge(&billing, Some(&token)), refused(403, "INSUFFICIENT_SCOPE"));
    let name = CdrId([1; 16]).with_prefix("exp_");
    let plain = ureq::post(fixture.replica.url(&format!("/v1/cdr/exports/{name}/mark-acked")))
        .header("Authorization", format!("Bearer {token}"))
        .send("{}");
    assert!(matches!(plain, Err(ureq::Error::StatusCode(403))), "{plain:?}");
}

#[test]
fn nobody_gets_in_without_a_certificate_of_the_right_authority() {
    let fixture = Fixture::start();
    let token = fixture.token(&["cdr:read"]);
    let ask = |client: &Client| fixture.get(client, KEYS, Some(&token));
    assert_eq!(ask(&fixture.client(None)), nobody());
    let foreign = Authority::new("clients").issue("billing-service");
    assert_eq!(ask(&fixture.client(Some(&foreign))), nobody(), "another authority of the same name");
    let expired = fixture.clients.issue_expired("billing-service");
    assert_eq!(ask(&fixture.client(Some(&expired))), nobody());
    // Whoever connects and says nothing holds nobody up.
    let silent: Vec<_> = (0..100)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", fixture.replica.spare_port())).unwrap())
        .collect();
    drop(silent.into_iter().take(50).collect::<Vec<_>>());
    assert_eq!(ask(&fixture.named("billing-service")), ok());
}

#[test]
fn certificates_are_exchanged_at_run_time() {
    let mut fixture = Fixture::start();
    assert_eq!(fixture.get(&fixture.named("billing-service"), KEYS, None), ok());
    // Both authorities are exchanged.
    let (servers, clients) = (Authority::new("servers-2"), Authority::new("clients-2"));
    fixture.files.show(&servers.issue("cdr-mediation"));
    std::fs::write(&fixture.files.ca, &clients.cert).unwrap();
    let before = fixture.named("billing-service");
    assert_eq!(fixture.get(&before, KEYS, None), ok(), "the files alone change nothing");
    fixture.replica.hang_up();
    let (old_servers, old_clients) =
        (std::mem::replace(&mut fixture.servers, servers), std::mem::replace(&mut fixture.clients, clients));
    wait_until("the new certificates", 10, || {
        fixture.get(&fixture.named("billing-service"), KEYS, None) == ok()
    });
    let of_before = fixture.client(Some(&old_clients.issue("billing-service")));
    assert_eq!(fixture.get(&of_before, KEYS, None), nobody());
    // What can't be used is not.
    std::fs::write(&fixture.files.cert, &old_servers.cert).unwrap();
    fixture.replica.hang_up();
    wait_until("the complaint", 10, || {
        fixture.replica.log().contains("the API's certificates can't be used")
    });
    assert_eq!(fixture.get(&fixture.named("billing-service"), KEYS, None), ok());
    assert!(fixture.replica.runs());
}
