#![allow(clippy::unwrap_used)]

use super::*;

const SMALLEST: &str = r#"
    [cluster]
    id = "test"
    node_id = 1
    peers = { 1 = "127.0.0.1:7018" }
    listen = "127.0.0.1:7018"
    [storage]
    data_dir = "/var/lib/cdr"
    [ingest]
    nats_urls = ["nats://user:secret@bus:4222"]
    [events]
    signing_key_file = "/etc/cdr/events.pem"
    [signer]
    key_file = "/etc/cdr/signer.key"
    allow_dev = true
    [auth]
    jwks_file = "/etc/cdr/jwks.json"
"#;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse(text, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

/// The problems of `text` as `key: why`.
fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match parse(text, environment) {
        Err(ConfigError::Invalid { problems }) => {
            problems.into_iter().map(|p| format!("{}: {}", p.key, p.why)).collect()
        }
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn the_smallest_configuration_has_defaults() {
    let config = parse(SMALLEST, &[]).unwrap();
    assert_eq!(config.api.listen, "0.0.0.0:3018");
    assert_eq!(config.cluster.peers.0[&1], "127.0.0.1:7018");
    assert_eq!(config.ingest.dedup_horizon_hours, 168);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let text = SMALLEST.replace("data_dir =", "block_cahce_mb = 3\n data_dir =");
    assert_eq!(
        problems(&text, &[]),
        ["storage.block_cahce_mb: unknown key; did you mean storage.block_cache_mb?"]
    );
    let text = format!("{SMALLEST}\n[clutser]\nid = 'x'");
    assert_eq!(problems(&text, &[]), ["clutser: unknown section; did you mean cluster?"]);
    let text = format!(
        "{SMALLEST}\n[[pricing.tables]]\nversion='1'\nvalid_from='2026-01-01T00:00:00Z'\nvalid_til='x'"
    );
    assert_eq!(
        problems(&text, &[]),
        ["pricing.tables[0].valid_til: unknown key; did you mean pricing.tables[0].valid_to?"]
    );
    assert_eq!(problems(&format!("{SMALLEST}\n[archive]\nurl='x'"), &[]).len(), 1);
}

#[test]
fn the_environment_overrides_the_file() {
    let config = parse(
        SMALLEST,
        &[
            ("CDR__API__LISTEN", "127.0.0.1:9"),
            ("CDR__CLUSTER__PEERS", r#"{1="localhost:1",2="[::1]:2"}"#),
            ("CDR__INGEST__NATS_URLS", r#"["nats://x:1"]"#),
            ("CDR__INGEST__BATCH_MAX", "17"),
            ("CDR__CLUSTER__ID", "8222"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.api.listen, "127.0.0.1:9");
    assert_eq!(config.cluster.peers.0[&2], "[::1]:2");
    assert_eq!(config.ingest.batch_max, 17);
    assert_eq!(config.cluster.id, "8222");
    assert_eq!(
        problems(SMALLEST, &[("CDR__API__LISTN", "127.0.0.1:9")]),
        ["api.listn: unknown key; did you mean api.listen?"]
    );
    assert_eq!(problems(SMALLEST, &[("CDR__API", "1")]), ["CDR__API: a variable is named CDR__SECTION__KEY"]);
}

#[test]
fn every_problem_is_named_by_its_key() {
    let text = r#"
        [cluster]
        id = "not.a.name"
        node_id = 2
        peers = { 1 = "nowhere" }
        listen = "localhost"
        election_max_ms = 500
        max_clock_offset_ms = 5000
        [storage]
        min_free_mb = 100
        [ingest]
        batch_max = 0
        subject = "sms.*"
        expired_wait = "500ms"
        [pricing]
        reprice_ms = 1
        [consumers]
        fraud_stream = "FRAUD.IN"
        compliance_stream = "SMS_DLR_INBOUND"
        status_stream = "COMPLIANCE.IN"
        billing_kept_days = 0
        [settlement]
        zone = "Asia/Nowhere"
    "#;
    let found = problems(text, &[]);
    for key in [
        "cluster.id",
        "cluster.node_id",
        "cluster.peers.1",
        "cluster.listen",
        "cluster.election_max_ms",
        "cluster.max_clock_offset_ms",
        "storage.data_dir",
        "storage.min_free_mb",
        "ingest.nats_urls",
        "ingest.batch_max",
        "pricing.reprice_ms",
        "consumers.fraud_stream",
        "consumers.compliance_stream",
        "consumers.status_stream",
        "consumers.billing_kept_days",
        "ingest.expired_wait",
        "ingest.subject",
        "events.signing_key_file",
        "settlement.zone",
        "signer.allow_dev",
        "signer.key_file",
        "auth.jwks_file",
    ] {
        assert!(found.iter().any(|p| p.starts_with(&format!("{key}: "))), "{key} is missing in {found:#?}");
    }
}

#[test]
fn wrong_types_name_the_key() {
    let text =
        SMALLEST.replace("node_id = 1", "node_id = 'one'").replace("allow_dev = true", "allow_dev = 1");
    let found = problems(&text, &[]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("cluster.node_id: ") && found[1].starts_with("signer.allow_dev: "),
        "{found:#?}"
    );
}

#[test]
fn tariffs_are_read_exactly() {
    let text = format!(
        "{SMALLEST}
        [[operators.list]]
        id = 'AWCC'
        recording_entity = '41201001'
        [[pricing.tables]]
        version = '2026-04'
        valid_from = 2026-04-01T00:00:00Z
        [[pricing.tables.tariffs]]
        operator_id = 'AWCC'
        charge_type = 'A2P'
        per_segment = '0.0128'
        currency = 'AFN'
        tap_tariff_class = 'A001'"
    );
    let config = parse(&text, &[]).unwrap();
    assert_eq!(parse(&config.effective_toml().unwrap(), &[]).unwrap().pricing, config.pricing);
    let line = &config.pricing.tables[0].tariffs[0];
    assert_eq!(line.per_segment.micros(), 12_800);
    assert_eq!(config.pricing.tables[0].valid_from.to_string(), "2026-04-01T00:00:00.000Z");
    assert_eq!(
        problems(&text.replace("= '0.0128'", "= 0.0128"), &[]).len(),
        1,
        "binary fractions are not money"
    );
    let unknown = problems(&text.replace("operator_id = 'AWCC'", "operator_id = 'ROSHAN'"), &[]);
    assert_eq!(unknown, ["pricing.tables[0].tariffs[0].operator_id: no such operator in operators.list"]);
}

const SERVICES: &str = "
    [pricing]
    source = 'grpc'
    endpoint = 'https://billing.example.net:7443'
    ca_file = '/etc/cdr/services-ca.pem'
    cert_file = '/etc/cdr/client.pem'
    key_file = '/etc/cdr/client.key'";

#[test]
fn a_line_that_could_not_price_is_refused_by_its_key() {
    let line = "per_segment='0.5'\ncurrency='AFN'\ntap_tariff_class='A040'\n";
    let table = format!(
        "{SMALLEST}\n[[pricing.tables]]\nversion='1'\nvalid_from='2026-01-01T00:00:00Z'\n[[pricing.tables.tariffs]]\n"
    );
    parse(&format!("{table}{line}"), &[]).unwrap();
    for (from, to, key) in [
        ("0.5", "-0.5", "per_segment"),
        ("0.5", "0.1234567", "per_segment"),
        ("0.5", "3921568628", "per_segment"),
        ("AFN", "afn", "currency"),
        ("A040", "A1", "tap_tariff_class"),
        ("currency", "billing_indicator='UNKNOWN'\ncurrency", "billing_indicator"),
    ] {
        let found = problems(&format!("{table}{}", line.replace(from, to)), &[]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(&format!("pricing.tables[0].tariffs[0].{key}: ")), "{found:#?}");
    }
}

#[test]
fn pricing_services_need_addresses_and_certificates() {
    let config = parse(&format!("{SMALLEST}{SERVICES}"), &[]).unwrap();
    assert_eq!((config.pricing.source, config.pricing.retries), (PricingSource::Grpc, 3));
    assert_eq!(parse(&config.effective_toml().unwrap(), &[]).unwrap().pricing, config.pricing);

    let found =
        problems(&format!("{SMALLEST}\n[pricing]\nsource = 'grpc'\nrefresh_ms = 1\nretries = 99"), &[]);
    for key in ["refresh_ms", "retries", "endpoint", "ca_file", "cert_file", "key_file"] {
        assert!(
            found.iter().any(|p| p.starts_with(&format!("pricing.{key}: "))),
            "{key} is missing in {found:#?}"
        );
    }
    for endpoint in
        ["http://billing:1", "https://billing", "https://:7443", "billing:7443", "https://a:1/path"]
    {
        let text = format!("{SMALLEST}{SERVICES}").replace("https://billing.example.net:7443", endpoint);
        let found = problems(&text, &[]);
        assert!(found.len() == 1 && found[0].contains("is not https://HOST:PORT"), "{endpoint}: {found:#?}");
    }
    let tables = "\n[[pricing.tables]]\nversion='1'\nvalid_from='2026-01-01T00:00:00Z'";
    let found = problems(&format!("{SMALLEST}{SERVICES}{tables}"), &[]);
    assert!(found.len() == 1 && found[0].starts_with("pricing.tables: "), "{found:#?}");
    let found = problems(&format!("{SMALLEST}{}", SERVICES.replace("'grpc'", "'tables'")), &[]);
    assert!(found.len() == 1 && found[0].starts_with("pricing.endpoint: "), "{found:#?}");
    let found = problems(&format!("{SMALLEST}{}", SERVICES.replace("'grpc'", "'rest'")), &[]);
    assert!(found[0].starts_with("pricing.source: "), "{found:#?}");
}

const REGULATOR: &str = "
    [delivery]
    kind = 'regulator'
    sftp_host = 'drop.example.net'
    sftp_user = 'cdr'
    sftp_host_fingerprints = ['SHA256:3MxkGKQVrIYyH8h6mTUQSBlUnPm8rQIW3KJvXQO5k7E']
    sftp_key_files = ['/etc/cdr/drop.key']
    rest_url = 'https://api.example.net/v1/upload'
    rest_client_cert_file = '/etc/cdr/upload.pem'
    rest_client_key_file = '/etc/cdr/upload.key'";

#[test]
fn delivery_to_the_regulator_needs_pinned_hosts_and_keys() {
    let config = parse(&format!("{SMALLEST}{REGULATOR}"), &[]).unwrap();
    assert_eq!((config.delivery.kind, config.delivery.sftp_port), (DeliveryKind::Regulator, 2222));
    assert_eq!(parse(&config.effective_toml().unwrap(), &[]).unwrap().delivery, config.delivery);

    let found = problems(&format!("{SMALLEST}\n[delivery]\nkind = 'regulator'\nsftp_port = 0"), &[]);
    for key in ["sftp_host", "sftp_port", "sftp_user", "sftp_host_fingerprints", "sftp_key_files"] {
        assert!(
            found.iter().any(|p| p.starts_with(&format!("delivery.{key}: "))),
            "{key} is missing in {found:#?}"
        );
    }
    for (from, to, key) in [
        ("SHA256:3M", "SHA256:M", "sftp_host_fingerprints[0]"),
        ("SHA256:3M", "MD5:3M", "sftp_host_fingerprints[0]"),
        ("https://", "http://", "rest_url"),
        ("rest_url", "rest_ca_file", "rest_url"),
        ("rest_client_key_file", "rest_ca_file", "rest_client_key_file"),
        ("'regulator'", "'none'", "kind"),
        ("'regulator'", "'directory'", "directory_path"),
        ("kind", "step_timeout_ms = 5\nkind", "step_timeout_ms"),
        ("'/etc/cdr/drop.key'", "", "sftp_key_files"),
    ] {
        let found = problems(&format!("{SMALLEST}{}", REGULATOR.replacen(from, to, 1)), &[]);
        assert!(
            found.iter().any(|p| p.starts_with(&format!("delivery.{key}: "))),
            "{key} is missing in {found:#?}"
        );
    }
}

#[test]
fn the_effective_configuration_reads_back_and_hides_passwords() {
    let config = parse(SMALLEST, &[]).unwrap();
    let shown = config.effective_toml().unwrap();
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("nats://***@bus:4222"));
    let mut again = parse(&shown, &[]).unwrap();
    again.ingest.nats_urls.clone_from(&config.ingest.nats_urls);
    assert_eq!(again, config);
}

#[test]
fn a_development_node_needs_nothing_more() {
    let peers = BTreeMap::from([(1, "127.0.0.1:7018".to_owned())]);
    let config = Config::development("dev", 1, peers, Path::new("data"), "127.0.0.1:3018");
    assert_eq!(config.problems(), []);
    assert_eq!(parse(&config.effective_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn sections_that_differ_are_named() {
    let before = parse(SMALLEST, &[]).unwrap();
    assert_eq!(before.sections_that_differ(&before), Vec::<&str>::new());
    // Every section takes part: none can change unnoticed.
    for (variable, section) in [
        ("CDR__CLUSTER__HEARTBEAT_MS", "cluster"),
        ("CDR__STORAGE__DEDUP_FILTER_MB", "storage"),
        ("CDR__INGEST__BATCH_MAX", "ingest"),
        ("CDR__API__MAX_CONCURRENT_READS", "api"),
        ("CDR__AUTH__LEEWAY_SECONDS", "auth"),
        ("CDR__DELIVERY__SFTP_PORT", "delivery"),
    ] {
        let after = parse(SMALLEST, &[(variable, "101")]).unwrap();
        assert_eq!(after.sections_that_differ(&before), [section]);
    }
    let text = format!(
        "{SMALLEST}\n[settlement]\nzone = 'UTC'\n[observability]\nlog_level = 'warn'\n\
         [[operators.list]]\nid = 'A'\nrecording_entity = '1'\n\
         [[pricing.tables]]\nversion = '1'\nvalid_from = '2026-01-01T00:00:00Z'\n"
    )
    .replace("signer.key", "other.key");
    let named = parse(&text, &[]).unwrap().sections_that_differ(&before);
    assert_eq!(named, ["pricing", "operators", "settlement", "signer", "observability"]);
}

const HSM: &str = r#"
    [signer]
    kind = "pkcs11"
    module = "/usr/lib/softhsm/libsofthsm2.so"
    token_label = "cdr"
    key_record_file = "/etc/cdr/signer.json"
"#;

fn with_signer(signer: &str) -> String {
    let (before, rest) = SMALLEST.split_once("[signer]").unwrap();
    let (_, after) = rest.split_once("[auth]").unwrap();
    format!("{before}[auth]{after}{signer}")
}

#[test]
fn an_hsm_signs_with_named_keys() {
    let signer = parse(&with_signer(HSM), &[]).unwrap().signer;
    assert_eq!((signer.key_id.as_str(), signer.algorithm), ("cdr-export-signer-v1", Algorithm::Ed25519));
    let more = "algorithm = \"ecdsa-p256\"\nkey_id = \"v2\"\nprevious_key_ids = [\"v1\"]\npin_file = \"/etc/cdr/pin\"";
    let signer = parse(&with_signer(&format!("{HSM}{more}")), &[]).unwrap().signer;
    assert_eq!((signer.algorithm, signer.previous_key_ids), (Algorithm::EcdsaP256, vec!["v1".to_owned()]));
}

#[test]
fn what_an_hsm_needs_is_named() {
    let found = problems(&with_signer("[signer]\nkind = \"pkcs11\""), &[]);
    let keys: Vec<&str> = found.iter().filter_map(|problem| problem.split(':').next()).collect();
    assert_eq!(keys, ["signer.module", "signer.token_label", "signer.key_record_file"]);
    for (lines, problem) in [
        ("key_file = \"/k\"", "signer.key_file: it belongs to kind = \"dev-key-file\": leave it out"),
        ("key_id = \"two words\"", "signer.key_id: \"two words\" is not"),
        ("key_id = \"dev-x\"", "signer.key_id: \"dev-x\" is not"),
        (
            "previous_key_ids = [\"cdr-export-signer-v1\"]",
            "signer.previous_key_ids: \"cdr-export-signer-v1\" is named twice",
        ),
        ("algorithm = \"rsa\"", "signer.algorithm: unknown variant `rsa`"),
    ] {
        let found = problems(&with_signer(&format!("{HSM}{lines}")), &[]);
        assert!(found.len() == 1 && found[0].starts_with(problem), "{lines}: {found:?}");
    }
    let found = problems(&SMALLEST.replace("allow_dev = true", "allow_dev = true\nmodule = \"/m\""), &[]);
    assert_eq!(found, ["signer.module: it belongs to kind = \"pkcs11\": set that, or leave it out"]);
}

#[test]
fn a_pin_is_no_key_of_the_configuration() {
    let expected = "signer.pin: unknown key; did you mean signer.pin_file?";
    assert_eq!(problems(&with_signer(&format!("{HSM}pin = \"4711\"")), &[]), [expected]);
    assert_eq!(problems(&with_signer(HSM), &[("CDR__SIGNER__PIN", "4711")]), [expected]);
}

#[test]
fn replicas_talk_in_plain_text_on_one_machine_only() {
    let told = |text: &str, environment: &[(&str, &str)]| {
        problems(text, environment)
            .into_iter()
            .map(|p| p.split(": ").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let elsewhere = [("CDR__CLUSTER__PEERS", r#"{1="127.0.0.1:1",2="cdr-2.example.net:1",3="10.0.0.3:1"}"#)];
    assert_eq!(told(SMALLEST, &elsewhere), ["cluster.peers.2", "cluster.peers.3"]);
    assert_eq!(told(SMALLEST, &[("CDR__CLUSTER__LISTEN", "0.0.0.0:7018")]), ["cluster.listen"]);
    assert_eq!(told(SMALLEST, &[("CDR__CLUSTER__LISTEN", "[::]:7018")]), ["cluster.listen"]);
    assert!(parse(SMALLEST, &[("CDR__CLUSTER__LISTEN", "[::ffff:127.0.0.1]:7018")]).is_ok());

    let secured = SMALLEST.replace(
        "listen = \"127.0.0.1:7018\"",
        "tls_ca_file = \"ca.pem\"\n tls_cert_file = \"node.pem\"\n tls_key_file = \"node.key\"",
    );
    assert!(parse(&secured, &elsewhere).is_ok());
    let half = secured.replace("tls_ca_file = \"ca.pem\"", "");
    assert_eq!(told(&half, &[]), ["cluster.tls_ca_file"]);
}
