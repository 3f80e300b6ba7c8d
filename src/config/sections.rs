//! The sections of the configuration: every key with its meaning and default.

use super::reader::Reader;
use super::typed::{ExchangeRate, TimeOfDay};
use super::wait::Wait;
use cdr_core::key::Algorithm;
use cdr_core::rules::{Build, Rules};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A section: its keys, their defaults, and how they are read.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $name {
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                Self { $($field: reader.value(stringify!($field), $default)),+ }
            }
        }
    };
}

section! {
    /// `[cluster]`: who the replicas are, and how fast they notice that one is gone.
    Cluster {
        /// Name of the cluster, `[A-Za-z0-9_-]{1,16}`; part of every genesis hash, fixed for the ledger's life.
        id: String = String::new(),
        /// This node's id, from 1; never given to another node again.
        node_id: u64 = 0,
        /// Every node's address for the other nodes, by node id.
        peers: Peers = Peers::default(),
        /// Address on which this node listens for the others.
        listen: String = "0.0.0.0:7018".to_owned(),
        /// Certificates that every node's certificate must descend from, PEM; without it, nodes talk in plain text, and
        /// on loopback addresses only.
        tls_ca_file: Option<PathBuf> = None,
        /// This node's certificate, PEM, with what leads to the authority; its DNS name is `node-<node_id>.<id>`.
        tls_cert_file: Option<PathBuf> = None,
        /// Private key of `tls_cert_file`, PEM, mode 0600.
        tls_key_file: Option<PathBuf> = None,
        /// True on exactly one node of a new cluster: it begins the ledger. Without effect once there is one.
        initialize: bool = false,
        /// Interval of the leader's heartbeats, milliseconds.
        heartbeat_ms: u64 = 200,
        /// Shortest silence of a leader after which a node stands for election, milliseconds.
        election_min_ms: u64 = 1_000,
        /// Longest such silence, milliseconds.
        election_max_ms: u64 = 2_000,
        /// The most that the leader's clock may be off the median of the replicas', or may be moved at once,
        /// milliseconds; beyond it, it proposes nothing and gives up leadership.
        max_clock_offset_ms: u64 = 1_000,
        /// The leader brings later rules of the ledger into force, up to this version, once every replica knows them. They
        /// never go back: no build that does not know them can be installed again.
        rules_upto: Rules = Rules::FIRST,
        /// `next`: this build also knows rules that no release has. For tests of upgrades, in clusters whose id begins with
        /// `test`.
        test_build: TestBuild = TestBuild::This,
    }
}

/// As which build a replica behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestBuild {
    /// The one that it is.
    This,
    /// The one after it, as far as tests need it.
    Next,
}

impl Cluster {
    /// As which build this node behaves.
    pub fn build(&self) -> Build {
        match self.test_build {
            TestBuild::This => Build::THIS,
            TestBuild::Next => Build::NEXT,
        }
    }
}

section! {
    /// `[storage]`: where the bytes are, and how much memory they may use.
    Storage {
        /// Directory of this node's data.
        data_dir: PathBuf = PathBuf::new(),
        /// Memory for blocks read from disk, MiB.
        block_cache_mb: u64 = 64,
        /// Memory for what is not flushed yet, all column families together, MiB.
        write_buffer_mb: u64 = 128,
        /// Memory for the duplicate filter, MiB; 525 hold 7 days of 50 million messages.
        dedup_filter_mb: u64 = 300,
        /// Local time at which the leader begins to verify every row of the last seven days, `HH:MM`.
        integrity_at: TimeOfDay = TimeOfDay::at(3, 30),
        /// Rows that it verifies a second, at most.
        integrity_rows_per_second: u64 = 50_000,
        /// Free space on the disk of `data_dir` below which this node takes no commands, MiB. A quarter of it is kept for
        /// what the log holds already, so that reads go on.
        min_free_mb: u64 = 1_024,
    }
}

section! {
    /// `[ingest]`: the bus, and how delivery receipts are taken from it.
    Ingest {
        /// Which bus.
        bus: BusKind = BusKind::Nats,
        /// Servers, `nats://host:port` or `tls://host:port`.
        nats_urls: Vec<String> = Vec::new(),
        /// NATS credentials file (JWT and seed).
        credentials_file: Option<PathBuf> = None,
        /// Certificates that the servers' certificates must descend from, PEM.
        tls_ca_file: Option<PathBuf> = None,
        /// This client's certificate, PEM.
        tls_cert_file: Option<PathBuf> = None,
        /// Private key of `tls_cert_file`, PEM.
        tls_key_file: Option<PathBuf> = None,
        /// Subject of the DLRs; dead letters go to `<subject>.deadletter`.
        subject: String = "sms.dlr.inbound".to_owned(),
        /// Stream that holds the subject.
        stream: String = "SMS_DLR_INBOUND".to_owned(),
        /// Durable consumer that serves the bus's own bookkeeping.
        durable: String = "cdr-mediation-dlr".to_owned(),
        /// Copies that the bus keeps of the streams made here.
        replicas: u8 = 3,
        /// Most messages in one log entry.
        batch_max: u32 = 500,
        /// Most log entries proposed and not yet committed.
        in_flight: u32 = 8,
        /// How long `messageId` decides what is a duplicate, hours; fixed when the ledger begins.
        dedup_horizon_hours: u32 = 168,
        /// How long a receipt may take after a message expired (`sms.events.status`), before the message is recorded
        /// without one.
        expired_wait: Wait = Wait::hours(1),
    }
}

section! {
    /// `[events]`: what is published over the bus.
    Events {
        /// False to publish no events; what happens meanwhile is never published.
        enabled: bool = true,
        /// RSA private key that signs events, PEM (PKCS#8 or PKCS#1), the same on every replica.
        signing_key_file: Option<PathBuf> = None,
        /// Most events under one signature.
        batch: u32 = 512,
        /// Most events sent and not yet confirmed.
        in_flight: u32 = 2_048,
        /// Copies that the bus keeps of the event streams.
        replicas: u8 = 3,
        /// How events name subscribers' numbers: by their SHA-256, or by their HMAC-SHA-256.
        msisdn_hash: MsisdnHash = MsisdnHash::Plain,
        /// Key of the HMAC, 64 hexadecimal digits, the same on every replica.
        msisdn_hash_key_file: Option<PathBuf> = None,
    }
}

section! {
    /// `[settlement]`: the regulator's day.
    Settlement {
        /// IANA name of the zone of local times and settlement days; fixed when the ledger begins.
        zone: String = "Asia/Kabul".to_owned(),
        /// Local time from which the TAP files of the day before are made, `HH:MM`.
        tap_start: TimeOfDay = TimeOfDay::at(0, 30),
        /// Local time by which they have to be delivered, `HH:MM`.
        tap_deadline: TimeOfDay = TimeOfDay::at(2, 0),
        /// Local time at which the day's adjustments are cut off for the RAP file, `HH:MM`.
        rap_cut_off: TimeOfDay = TimeOfDay::at(2, 30),
    }
}

section! {
    /// `[export]`: which settlement files are made.
    Export {
        /// Directory of the schema variants, a folder each.
        schema_dir: PathBuf = PathBuf::from("tap-schemas"),
        /// Schema variant of the regulator's files until another is activated; none to make no files.
        schema_variant: Option<String> = None,
        /// Further variants of which files are made, each with numbers of its own.
        additional_variants: Vec<String> = Vec::new(),
        /// Exchange rates to the currency of the files, by currency: how many of its units one unit of that currency
        /// is. Records in a currency without a rate go into quarantine.
        exchange_rates: BTreeMap<String, ExchangeRate> = BTreeMap::new(),
        /// How long a record may wait for a price before it goes into quarantine, hours.
        unpriced_wait_hours: u32 = 24,
    }
}

section! {
    /// `[signer]`: who signs seals and the files of exports.
    Signer {
        /// Where the key is.
        kind: SignerKind = SignerKind::DevKeyFile,
        /// With `pkcs11`: label (or `CKA_ID`) of the key pair that signs.
        key_id: String = "cdr-export-signer-v1".to_owned(),
        /// With `pkcs11`: how that key signs.
        algorithm: Algorithm = Algorithm::Ed25519,
        /// With `pkcs11`: labels of the key pairs that it replaced; seals that name one are still to be signed.
        previous_key_ids: Vec<String> = Vec::new(),
        /// With `pkcs11`: the device's PKCS#11 library.
        module: Option<PathBuf> = None,
        /// With `pkcs11`: label of the token that holds the keys.
        token_label: Option<String> = None,
        /// With `pkcs11`: file with the token's PIN; without it, the environment variable `CDR_SIGNER_PIN`.
        pin_file: Option<PathBuf> = None,
        /// Key file of `dev-key-file`, made on first start with mode 0600.
        key_file: Option<PathBuf> = None,
        /// Record of the signing key, vouched for by the root key (JSON).
        key_record_file: Option<PathBuf> = None,
        /// True to sign with a development key in spite of everything.
        allow_dev: bool = false,
    }
}

section! {
    /// `[delivery]`: where files for the regulator go.
    Delivery {
        /// By which channels.
        kind: DeliveryKind = DeliveryKind::None,
        /// Directory that takes the files of `directory`; made if it is missing.
        directory_path: Option<PathBuf> = None,
        /// The regulator's SFTP server, name or address.
        sftp_host: String = String::new(),
        /// Its port.
        sftp_port: u16 = 2222,
        /// User name there.
        sftp_user: String = String::new(),
        /// Directory of the drop there, relative to where the server lets the user in.
        sftp_directory: String = String::new(),
        /// Fingerprints of the keys that the server may show, `SHA256:...` as `ssh-keygen -l` prints them; several while
        /// a key is exchanged.
        sftp_host_fingerprints: Vec<String> = Vec::new(),
        /// Private keys (OpenSSH or PKCS#8; Ed25519 or ECDSA) with mode 0600, tried in this order; two while a key is
        /// exchanged.
        sftp_key_files: Vec<PathBuf> = Vec::new(),
        /// The regulator's REST interface, the fallback; none if absent.
        rest_url: Option<String> = None,
        /// Certificates from which the interface's must descend, PEM; those of the system if absent.
        rest_ca_file: Option<PathBuf> = None,
        /// This side's certificate, PEM.
        rest_client_cert_file: Option<PathBuf> = None,
        /// Private key of the certificate, PEM, with mode 0600.
        rest_client_key_file: Option<PathBuf> = None,
        /// Longest time of one step of an attempt, milliseconds: connecting, a piece of the file, a question.
        step_timeout_ms: u64 = 30_000,
        /// Longest time from the last byte of a file to the REST interface's answer, milliseconds.
        answer_timeout_ms: u64 = 120_000,
    }
}

section! {
    /// `[api]`: the HTTP interface.
    Api {
        /// Address on which the API is served to callers with a bearer token.
        listen: String = "0.0.0.0:3018".to_owned(),
        /// Address on which it is served over TLS to services that show a client certificate; nowhere if absent.
        mtls_listen: Option<String> = None,
        /// This node's certificate there, PEM.
        mtls_cert_file: Option<PathBuf> = None,
        /// Private key of `mtls_cert_file`, PEM, with mode 0600.
        mtls_key_file: Option<PathBuf> = None,
        /// Certificates that the services' certificates must descend from, PEM.
        mtls_client_ca_file: Option<PathBuf> = None,
        /// The services.
        clients: Vec<ApiClient> = Vec::new(),
        /// Most queries that read the store at once; more wait.
        max_concurrent_reads: u32 = 32,
        /// Most chain verifications at once; more wait.
        max_concurrent_verifications: u32 = 2,
        /// Longest time a query of the store may take before it is answered 503, milliseconds.
        request_timeout_ms: u64 = 30_000,
        /// Time after which a list of records stops looking for more and answers what it found, with a cursor to go on
        /// from, milliseconds.
        scan_budget_ms: u64 = 2_000,
        /// Longest time a chain verification may take before it is answered 503, milliseconds.
        verification_timeout_ms: u64 = 120_000,
        /// Largest request body, bytes.
        max_body_bytes: u32 = 65_536,
        /// Most live feeds at once; more are refused.
        max_live_feeds: u32 = 32,
    }
}

/// `[[api.clients]]`: a service that proves itself by a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiClient {
    /// Common name of its certificate.
    pub name: String,
    /// What it may do on the strength of the certificate alone; a bearer token adds to it.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// True if it must send a bearer token, too.
    #[serde(default)]
    pub requires_token: bool,
}

section! {
    /// `[auth]`: whose tokens are accepted.
    Auth {
        /// JSON Web Key Set (RFC 7517) with the issuer's RSA keys; read again when it changes.
        jwks_file: PathBuf = PathBuf::new(),
        /// Required `iss`; not checked if absent.
        issuer: Option<String> = None,
        /// Required `aud`; not checked if absent.
        audience: Option<String> = None,
        /// Tolerance for the issuer's clock, seconds.
        leeway_seconds: u64 = 5,
    }
}

section! {
    /// `[consumers]`: the streams of the other services' messages, each made if no stream holds its subject. Dead
    /// letters go to `<subject>.deadletter` in `<STREAM>_DEADLETTER`.
    Consumers {
        /// Stream of `billing.pricing.snapshot.ready.v1`.
        pricing_stream: String = "BILLING_PRICING".to_owned(),
        /// Stream of `fraud.reversal.v1`.
        fraud_stream: String = "FRAUD".to_owned(),
        /// Stream of `operator.registry.updated.v1`.
        operator_stream: String = "OPERATOR_REGISTRY".to_owned(),
        /// Stream of `compliance.audit.v1`.
        compliance_stream: String = "COMPLIANCE".to_owned(),
        /// Stream of `sms.events.status`.
        status_stream: String = "SMS_STATUS".to_owned(),
        /// Stream of `billing.events.v1`.
        billing_stream: String = "BILLING_EVENTS".to_owned(),
        /// How long billing's events of messages without a record wait for it, days.
        billing_kept_days: u32 = 30,
    }
}

section! {
    /// `[observability]`: what is logged, and how.
    Observability {
        /// Level, or filter directives such as `info,cdr_raft=debug`.
        log_level: String = "info,openraft=error".to_owned(),
        /// Form of a log line.
        log_format: LogFormat = LogFormat::Text,
    }
}

/// Which bus carries the receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// NATS JetStream.
    Nats,
    /// Durable streams in this process, for development.
    Local,
}

/// How events name subscribers' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MsisdnHash {
    /// By their SHA-256, as the event schemas have it: it can be reversed by trying all numbers.
    Plain,
    /// By their HMAC-SHA-256 under a key.
    Keyed,
}

/// By which channels files leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryKind {
    /// None: files are made and kept.
    None,
    /// Into a directory of this machine, for development.
    Directory,
    /// To the regulator: by SFTP, and by its REST interface as the fallback.
    Regulator,
}

/// Where the signing key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignerKind {
    /// A file, for development.
    DevKeyFile,
    /// An HSM, reached over PKCS#11.
    Pkcs11,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Addresses `host:port` of the nodes, by node id. TOML keys are texts, so ids are read out of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(pub BTreeMap<u64, String>);

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_text = BTreeMap::<String, String>::deserialize(deserializer)?;
        let parse = |(id, address): (String, String)| match id.parse() {
            Ok(id) if id > 0 => Ok((id, address)),
            _ => Err(D::Error::custom(format!("node id {id} is not a whole number from 1"))),
        };
        by_text.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Peers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, address)| (id.to_string(), address)))
    }
}
