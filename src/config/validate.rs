//! What values must satisfy before a node starts with them.

use super::check::Check;
use super::sections::TestBuild;
use super::wait::Wait;
use super::{BusKind, Cluster, Config, MsisdnHash, Problem, Signer, SignerKind, api, delivery, pricing};
use cdr_core::export_signature::is_key_id;
use cdr_core::id::is_name;
use cdr_core::row::SYSTEM_OPERATOR;
use cdr_core::rules::Rules;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut check = Check::default();
    cluster(config, &mut check);
    storage(config, &mut check);
    ingest(config, &mut check);
    events(config, &mut check);
    consumers(config, &mut check);
    billing(config, &mut check);
    operators(config, &mut check);
    pricing::check(config, &mut check);
    signer(config, &mut check);
    delivery::check(&config.delivery, &mut check);
    let zone = &config.settlement.zone;
    let why = format!("{zone:?} is not an IANA time zone, such as Asia/Kabul");
    check.that(jiff::tz::TimeZone::get(zone).is_ok(), "settlement.zone", &why);
    settlement(config, &mut check);
    export(config, &mut check);
    api::check(&config.api, &mut check);
    let jwks = &config.auth.jwks_file;
    check.that(
        *jwks != PathBuf::new(),
        "auth.jwks_file",
        "it is required: name the issuer's JSON Web Key Set",
    );
    check.range("auth.leeway_seconds", config.auth.leeway_seconds, 0, 300);
    check.problems()
}

fn settlement(config: &Config, check: &mut Check) {
    let settlement = &config.settlement;
    let order = settlement.tap_start < settlement.tap_deadline;
    check.that(order, "settlement.tap_deadline", "it must be later than settlement.tap_start");
}

fn export(config: &Config, check: &mut Check) {
    let export = &config.export;
    let needless = "it has no effect without export.schema_variant: set that, or leave it out";
    check.that(
        export.schema_variant.is_some() || export.additional_variants.is_empty(),
        "export.additional_variants",
        needless,
    );
    let mut seen = BTreeSet::new();
    for variant in export.schema_variant.iter().chain(&export.additional_variants) {
        check.that(seen.insert(variant), "export.additional_variants", &format!("{variant} is named twice"));
    }
    for currency in export.exchange_rates.keys() {
        let key = format!("export.exchange_rates.{currency}");
        check.that(
            currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()),
            &key,
            "a currency is three capital letters (ISO 4217)",
        );
    }
    check.range("export.unpriced_wait_hours", export.unpriced_wait_hours, 1, 24 * 30);
}

fn cluster(config: &Config, check: &mut Check) {
    let cluster = &config.cluster;
    check.that(is_name(&cluster.id), "cluster.id", "it is required: 1 to 16 of A-Z a-z 0-9 _ -");
    let known = cluster.peers.0.contains_key(&cluster.node_id);
    check.that(
        known,
        "cluster.node_id",
        "cluster.peers must name this node, with the address that the others use",
    );
    let mut addresses = BTreeSet::new();
    for (id, address) in &cluster.peers.0 {
        let usable = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        check.that(usable, &format!("cluster.peers.{id}"), &format!("{address:?} is not HOST:PORT"));
        check.that(
            addresses.insert(address),
            &format!("cluster.peers.{id}"),
            "another node has the same address",
        );
    }
    check.listens("cluster.listen", &cluster.listen);
    cluster_tls(&config.cluster, check);
    check.range("cluster.heartbeat_ms", cluster.heartbeat_ms, 10, 5_000);
    check.range(
        "cluster.election_min_ms",
        cluster.election_min_ms,
        cluster.heartbeat_ms.saturating_mul(3),
        60_000,
    );
    check.range(
        "cluster.election_max_ms",
        cluster.election_max_ms,
        cluster.election_min_ms.saturating_add(1),
        120_000,
    );
    check.range("cluster.max_clock_offset_ms", cluster.max_clock_offset_ms, 100, 1_000);
    check.range("cluster.rules_upto", cluster.rules_upto, Rules::FIRST, cluster.build().rules);
    check.that(
        cluster.test_build == TestBuild::This || cluster.id.starts_with("test"),
        "cluster.test_build",
        "it writes what no release reads: only a cluster whose id begins with test may use it",
    );
}

/// Replicas talk over TLS, or on addresses of one machine.
fn cluster_tls(cluster: &Cluster, check: &mut Check) {
    let files = [
        ("cluster.tls_ca_file", &cluster.tls_ca_file),
        ("cluster.tls_cert_file", &cluster.tls_cert_file),
        ("cluster.tls_key_file", &cluster.tls_key_file),
    ];
    if files.iter().any(|(_, file)| file.is_some()) {
        for (key, file) in files {
            check.that(
                file.is_some(),
                key,
                "the three tls_ keys of [cluster] are given together or not at all",
            );
        }
        return;
    }
    let addresses = std::iter::once(("cluster.listen".to_owned(), &cluster.listen));
    let peers = cluster.peers.0.iter().map(|(id, address)| (format!("cluster.peers.{id}"), address));
    for (key, address) in addresses.chain(peers) {
        let why = format!(
            "{address:?} is not a loopback address, and replicas talk in plain text on those only: set tls_ca_file, \
             tls_cert_file and tls_key_file"
        );
        check.that(is_loopback(address), &key, &why);
    }
}

/// True if only this machine reaches `HOST:PORT`. An invalid address is reported elsewhere.
fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else { return true };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn storage(config: &Config, check: &mut Check) {
    let storage = &config.storage;
    check.that(
        storage.data_dir != PathBuf::new(),
        "storage.data_dir",
        "it is required: a directory of this node's own",
    );
    check.range("storage.block_cache_mb", storage.block_cache_mb, 8, 1 << 20);
    check.range("storage.write_buffer_mb", storage.write_buffer_mb, 16, 1 << 16);
    check.range("storage.dedup_filter_mb", storage.dedup_filter_mb, 1, 1 << 16);
    check.range("storage.integrity_rows_per_second", storage.integrity_rows_per_second, 1_000, 10_000_000);
    check.range("storage.min_free_mb", storage.min_free_mb, 256, 1 << 20);
}

fn ingest(config: &Config, check: &mut Check) {
    let ingest = &config.ingest;
    if ingest.bus == BusKind::Nats {
        check.that(!ingest.nats_urls.is_empty(), "ingest.nats_urls", "it is required with bus = \"nats\"");
    }
    for url in &ingest.nats_urls {
        let known = url.starts_with("nats://") || url.starts_with("tls://");
        // The text may hold a password, so it is not repeated.
        check.that(known, "ingest.nats_urls", "every server is written nats://HOST:PORT or tls://HOST:PORT");
    }
    let pair = ingest.tls_cert_file.is_some() == ingest.tls_key_file.is_some();
    check.that(
        pair,
        "ingest.tls_key_file",
        "tls_cert_file and tls_key_file are given together or not at all",
    );
    let subject = !ingest.subject.is_empty()
        && ingest.subject.split('.').all(|token| !token.is_empty() && !token.contains(['*', '>', ' ', '\t']));
    check.that(
        subject,
        "ingest.subject",
        "a subject is tokens with dots between them, without * > and spaces",
    );
    for (key, name) in [("ingest.stream", &ingest.stream), ("ingest.durable", &ingest.durable)] {
        check.bus_name(key, name);
    }
    check.range("ingest.replicas", ingest.replicas, 1, 5);
    check.range("ingest.batch_max", ingest.batch_max, 1, 10_000);
    check.range("ingest.in_flight", ingest.in_flight, 1, 64);
    check.range("ingest.dedup_horizon_hours", ingest.dedup_horizon_hours, 1, 24 * 90);
    // What expired before the horizon can no longer be recorded.
    let longest = Wait::hours(u64::from(ingest.dedup_horizon_hours.saturating_sub(1)).max(1));
    check.range("ingest.expired_wait", ingest.expired_wait, Wait(Duration::from_secs(1)), longest);
}

fn events(config: &Config, check: &mut Check) {
    let events = &config.events;
    check.that(
        !events.enabled || events.signing_key_file.is_some(),
        "events.signing_key_file",
        "it is required: the RSA key that signs events; or set events.enabled = false to publish none",
    );
    check.range("events.batch", events.batch, 1, 4_096);
    check.range("events.in_flight", events.in_flight, 1, 8_192);
    check.range("events.replicas", events.replicas, 1, 5);
    check.that(
        (events.msisdn_hash == MsisdnHash::Keyed) == events.msisdn_hash_key_file.is_some(),
        "events.msisdn_hash_key_file",
        "it belongs to msisdn_hash = \"keyed\", which needs it: the file of a key of 64 hexadecimal digits",
    );
}

fn consumers(config: &Config, check: &mut Check) {
    let consumers = &config.consumers;
    let mut seen = BTreeSet::from([config.ingest.stream.as_str()]);
    for (name, stream) in [
        ("pricing_stream", &consumers.pricing_stream),
        ("fraud_stream", &consumers.fraud_stream),
        ("operator_stream", &consumers.operator_stream),
        ("compliance_stream", &consumers.compliance_stream),
        ("status_stream", &consumers.status_stream),
        ("billing_stream", &consumers.billing_stream),
    ] {
        let key = format!("consumers.{name}");
        check.bus_name(&key, stream);
        check.that(seen.insert(stream), &key, "another subject has a stream of the same name");
    }
}

fn billing(config: &Config, check: &mut Check) {
    check.range("consumers.billing_kept_days", config.consumers.billing_kept_days, 1, 400);
}

fn operators(config: &Config, check: &mut Check) {
    let mut seen = BTreeSet::new();
    for (i, operator) in config.operators.list.iter().enumerate() {
        let key = |name: &str| format!("operators.list[{i}].{name}");
        let legal = is_name(&operator.id) && !operator.id.starts_with('_') && operator.id != SYSTEM_OPERATOR;
        check.that(legal, &key("id"), "1 to 16 of A-Z a-z 0-9 _ -, not beginning with _");
        check.that(seen.insert(&operator.id), &key("id"), "another operator has the same id");
        // It is part of file names, too.
        let entity = &operator.recording_entity;
        let plain = entity.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        check.that(
            plain && (1..=15).contains(&entity.len()),
            &key("recording_entity"),
            "1 to 15 of A-Z a-z 0-9 - _",
        );
    }
}

fn signer(config: &Config, check: &mut Check) {
    let signer = &config.signer;
    match signer.kind {
        SignerKind::DevKeyFile => {
            let why = "seals would be signed with a development key from a file; set it to true only where that is \
                       meant, or kind = \"pkcs11\" for an HSM";
            check.that(signer.allow_dev, "signer.allow_dev", why);
            let why = "it is required with kind = \"dev-key-file\"";
            check.that(signer.key_file.is_some(), "signer.key_file", why);
            let hsm = [
                ("signer.module", signer.module.is_some()),
                ("signer.token_label", signer.token_label.is_some()),
                ("signer.pin_file", signer.pin_file.is_some()),
                ("signer.previous_key_ids", !signer.previous_key_ids.is_empty()),
            ];
            for (key, given) in hsm {
                check.that(!given, key, "it belongs to kind = \"pkcs11\": set that, or leave it out");
            }
        }
        SignerKind::Pkcs11 => hsm(signer, check),
    }
}

fn hsm(signer: &Signer, check: &mut Check) {
    let module = signer.module.as_ref().is_some_and(|path| path.is_absolute());
    let why = "it is required with kind = \"pkcs11\": the absolute path of the device's PKCS#11 library";
    check.that(module, "signer.module", why);
    // PKCS#11 gives a label 32 bytes.
    let label = signer.token_label.as_ref().is_some_and(|label| (1..=32).contains(&label.len()));
    let why = "it is required with kind = \"pkcs11\": the token's label, 1 to 32 bytes";
    check.that(label, "signer.token_label", why);
    let why = "it is required with kind = \"pkcs11\": the record of the key that the offline root key signed";
    check.that(signer.key_record_file.is_some(), "signer.key_record_file", why);
    let why = "it belongs to kind = \"dev-key-file\": leave it out";
    check.that(signer.key_file.is_none(), "signer.key_file", why);
    let mut seen = BTreeSet::new();
    let previous = signer.previous_key_ids.iter().map(|id| ("signer.previous_key_ids", id));
    for (key, id) in std::iter::once(("signer.key_id", &signer.key_id)).chain(previous) {
        let named = is_key_id(id) && !id.starts_with("dev-");
        let why = format!("{id:?} is not 1 to 128 visible ASCII characters, or begins with dev-");
        check.that(named, key, &why);
        check.that(seen.insert(id), key, &format!("{id:?} is named twice"));
    }
}
