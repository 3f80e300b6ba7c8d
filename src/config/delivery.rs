//! What `[delivery]` must satisfy. That files exist and hold what they should is seen when the channels are opened.

use super::check::Check;
use super::{Delivery, DeliveryKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

pub(super) fn check(delivery: &Delivery, check: &mut Check) {
    check.range("delivery.step_timeout_ms", delivery.step_timeout_ms, 1_000, 600_000);
    check.range("delivery.answer_timeout_ms", delivery.answer_timeout_ms, 1_000, 3_600_000);
    let regulator = delivery.kind == DeliveryKind::Regulator;
    let given = !delivery.sftp_host.is_empty() || delivery.rest_url.is_some();
    let why =
        "it has no effect without kind = \"regulator\": set that, or leave the sftp_ and rest_ keys out";
    check.that(regulator || !given, "delivery.kind", why);
    match delivery.kind {
        DeliveryKind::None => {}
        DeliveryKind::Directory => {
            let named = delivery.directory_path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
            check.that(named, "delivery.directory_path", "it is required with kind = \"directory\"");
        }
        DeliveryKind::Regulator => {
            sftp(delivery, check);
            rest(delivery, check);
        }
    }
}

fn sftp(delivery: &Delivery, check: &mut Check) {
    let required = "it is required with kind = \"regulator\"";
    let host = &delivery.sftp_host;
    check.that(!host.is_empty(), "delivery.sftp_host", required);
    let plain = !host.contains(['/', '@', ' ']);
    check.that(plain, "delivery.sftp_host", &format!("{host:?} is not a host name or address"));
    check.that(delivery.sftp_port > 0, "delivery.sftp_port", "a port is 1 to 65535");
    check.that(!delivery.sftp_user.is_empty(), "delivery.sftp_user", required);
    let prints = &delivery.sftp_host_fingerprints;
    let why = "it is required with kind = \"regulator\": ask the receiver for what `ssh-keygen -l` says of its host keys";
    check.that(!prints.is_empty(), "delivery.sftp_host_fingerprints", why);
    for (i, print) in prints.iter().enumerate() {
        let why =
            format!("{print:?} is not SHA256: and 43 characters of base64, as `ssh-keygen -l` prints it");
        check.that(is_fingerprint(print), &format!("delivery.sftp_host_fingerprints[{i}]"), &why);
    }
    let keys = &delivery.sftp_key_files;
    check.that(
        (1..=2).contains(&keys.len()),
        "delivery.sftp_key_files",
        "one private key, or two while one replaces the other",
    );
}

/// A SHA-256 fingerprint as OpenSSH writes it.
fn is_fingerprint(text: &str) -> bool {
    let digest = text.strip_prefix("SHA256:").and_then(|digest| STANDARD_NO_PAD.decode(digest).ok());
    digest.is_some_and(|digest| digest.len() == 32)
}

fn rest(delivery: &Delivery, check: &mut Check) {
    let files = [
        ("rest_client_cert_file", &delivery.rest_client_cert_file),
        ("rest_client_key_file", &delivery.rest_client_key_file),
    ];
    let Some(url) = &delivery.rest_url else {
        let why = "it is required when the other rest_ keys are given";
        let alone = files.iter().all(|(_, file)| file.is_none()) && delivery.rest_ca_file.is_none();
        check.that(alone, "delivery.rest_url", why);
        return;
    };
    let usable = url.strip_prefix("https://").is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && !rest.contains(['@', ' ', '#'])
    });
    let why = format!("{url:?} is not https://HOST/PATH; both sides present certificates");
    check.that(usable, "delivery.rest_url", &why);
    for (name, file) in files {
        check.that(file.is_some(), &format!("delivery.{name}"), "it is required with rest_url");
    }
}
