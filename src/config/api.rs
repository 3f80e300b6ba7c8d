//! What `[api]` must satisfy. That files hold what they should is seen when the API starts.

use super::Api;
use super::check::Check;
use crate::scopes::ALL_SCOPES;
use std::collections::BTreeSet;

pub(super) fn check(api: &Api, check: &mut Check) {
    check.listens("api.listen", &api.listen);
    check.range("api.max_concurrent_reads", api.max_concurrent_reads, 1, 1024);
    check.range("api.max_concurrent_verifications", api.max_concurrent_verifications, 1, 64);
    check.range("api.request_timeout_ms", api.request_timeout_ms, 100, 600_000);
    check.range("api.scan_budget_ms", api.scan_budget_ms, 1, api.request_timeout_ms / 2);
    check.range("api.verification_timeout_ms", api.verification_timeout_ms, 100, 3_600_000);
    check.range("api.max_body_bytes", api.max_body_bytes, 1024, 2 << 20);
    check.range("api.max_live_feeds", api.max_live_feeds, 1, 1024);
    mtls(api, check);
}

fn mtls(api: &Api, check: &mut Check) {
    let files = [
        ("mtls_cert_file", &api.mtls_cert_file),
        ("mtls_key_file", &api.mtls_key_file),
        ("mtls_client_ca_file", &api.mtls_client_ca_file),
    ];
    let Some(listen) = &api.mtls_listen else {
        let alone = files.iter().all(|(_, file)| file.is_none()) && api.clients.is_empty();
        check.that(alone, "api.mtls_listen", "it is required when the other mtls_ keys or clients are given");
        return;
    };
    check.listens("api.mtls_listen", listen);
    check.that(*listen != api.listen, "api.mtls_listen", "it must differ from api.listen");
    for (name, file) in files {
        check.that(file.is_some(), &format!("api.{name}"), "it is required with mtls_listen");
    }
    let mut names = BTreeSet::new();
    for (i, client) in api.clients.iter().enumerate() {
        let key = |name: &str| format!("api.clients[{i}].{name}");
        check.that(!client.name.is_empty(), &key("name"), "it is the common name of a certificate");
        let once = names.insert(&client.name);
        check.that(once, &key("name"), &format!("{} is named twice", client.name));
        for scope in &client.scopes {
            let why = format!("{scope:?} is none of {}", ALL_SCOPES.join(", "));
            check.that(ALL_SCOPES.contains(&scope.as_str()), &key("scopes"), &why);
        }
    }
}
