//! The REST interface takes over after three failures of SFTP within 15 minutes, each under another leader.

use crate::settlement::checks::everything_is_in;
use crate::settlement::house::{House, OPERATORS};
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
    let mut house = House::start(hsm);
    house.sshd.kill();
    house.end_day(0);
    house.wait_for_failures(1, "UNREACHABLE");
    house.fail_over(60, |_| ());
    house.wait_for_failures(2, "UNREACHABLE");
    assert!(house.receiver.uploads().is_empty(), "two failures are too few");

    // The first file is taken, and the leader killed before it hears of it.
    house.receiver.will(&[Act::Hang]);
    house.fail_over(120, |_| ());
    wait_until("an upload by the fallback", 60, || house.receiver.uploads().len() == 1);
    house.fail_over(0, |house| {
        let hash = to_hex(&sha256(&house.receiver.uploads()[0].parts[0].bytes));
        let receipt = format!("{{\"receiptId\": \"ATRA-0\", \"sha256\": \"{hash}\"}}");
        house.receiver.will(&[Act::Answer(409, receipt)]);
    });
    house.wait_until_delivered(1, "API");
    let files = house.files();
    assert!(files.iter().all(|file| file["atraReceiptId"].is_string()), "{files:#?}");
    assert_eq!(files.iter().filter(|file| file["atraReceiptId"] == "ATRA-0").count(), 1, "{files:#?}");

    let uploads = house.receiver.uploads();
    assert_eq!(uploads.len(), OPERATORS + 1);
    assert_eq!(uploads[0].parts, uploads[1].parts, "asked again with the same bytes");
    let taken = house.dir.join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert_eq!(keep(&uploads, &taken), OPERATORS);
    assert!(house.sshd.names().is_empty());
    everything_is_in(&house, 1, &taken);
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
