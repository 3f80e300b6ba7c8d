//! The REST interface takes over after three failures of SFTP within 15 minutes, each under another leader.

use crate::settlement::checks::everything_is_in;
use crate::settlement::cluster::{OPERATORS, Settlement};
use cdr_core::hash::{sha256, to_hex};
use std::collections::BTreeMap;
use std::path::Path;
use testkit::rest_receiver::{Act, Upload};
use testkit::softhsm::SoftHsm;
use testkit::wait_until;

#[test]
fn three_failures_lead_to_the_fallback_which_takes_every_file_once() {
    let name = "settlement::fallback::three_failures_lead_to_the_fallback_which_takes_every_file_once";
    let Some(hsm) = SoftHsm::for_test(name) else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.sshd.kill();
    settlement.end_day(0);
    settlement.wait_for_failures(1, "UNREACHABLE");
    settlement.fail_over(60, |_| ());
    settlement.wait_for_failures(2, "UNREACHABLE");
    assert!(settlement.receiver.uploads().is_empty(), "two failures are too few");

    // The first file is taken, and the leader killed before it hears of it.
    settlement.receiver.will(&[Act::Hang]);
    settlement.fail_over(120, |_| ());
    wait_until("an upload by the fallback", 60, || settlement.receiver.uploads().len() == 1);
    settlement.fail_over(0, |settlement| {
        let hash = to_hex(&sha256(&settlement.receiver.uploads()[0].parts[0].bytes));
        let receipt = format!("{{\"receiptId\": \"ATRA-0\", \"sha256\": \"{hash}\"}}");
        settlement.receiver.will(&[Act::Answer(409, receipt)]);
    });
    settlement.wait_until_delivered(1, "API");
    let files = settlement.files();
    assert!(files.iter().all(|file| file["atraReceiptId"].is_string()), "{files:#?}");
    assert_eq!(files.iter().filter(|file| file["atraReceiptId"] == "ATRA-0").count(), 1, "{files:#?}");

    let uploads = settlement.receiver.uploads();
    assert_eq!(uploads.len(), OPERATORS + 1);
    assert_eq!(uploads[0].parts, uploads[1].parts, "asked again with the same bytes");
    let taken = settlement.dir.join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert_eq!(keep(&uploads, &taken), OPERATORS);
    assert!(settlement.sshd.names().is_empty());
    everything_is_in(&settlement, 1, &taken);
}

/// Keeps what the receiver holds: one parcel for each `Idempotency-Key`. Says how many there are.
pub fn keep(uploads: &[Upload], dir: &Path) -> usize {
    let parcels: BTreeMap<&str, &Upload> =
        uploads.iter().map(|upload| (upload.idempotency_key.as_str(), upload)).collect();
    for part in parcels.values().flat_map(|parcel| &parcel.parts) {
        let path = dir.join(&part.file_name);
        assert!(!path.exists(), "{} came under two keys", part.file_name);
        std::fs::write(path, &part.bytes).unwrap();
    }
    parcels.len()
}
