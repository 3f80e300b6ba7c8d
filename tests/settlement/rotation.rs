//! The signing key is replaced between two settlement days; the files of both can be verified afterwards.

use crate::settlement::checks::everything_is_settled;
use crate::settlement::cluster::{KEY, OPERATORS, Settlement};
use cdr_core::key::Algorithm;
use testkit::softhsm::SoftHsm;

const NEW: &str = "cdr-export-signer-v2";

#[test]
fn files_of_both_keys_can_be_verified() {
    let Some(hsm) = SoftHsm::for_test("settlement::rotation::files_of_both_keys_can_be_verified") else {
        return;
    };
    let mut settlement = Settlement::start(hsm);
    settlement.end_day(0);
    everything_is_settled(&settlement, 1);

    settlement.hsm.import(NEW, Algorithm::EcdsaP256);
    (1..=3).for_each(|id| settlement.cluster.kill(id));
    settlement.begin_day(1);
    settlement.cluster.edit_configuration(|text| {
        settlement.root.with_key(&settlement.hsm, text, NEW, "ecdsa-p256", &[KEY])
    });
    settlement.vouch(NEW, settlement.hour_of_day(1));
    (1..=3).for_each(|id| settlement.cluster.restart(id));
    settlement.cluster.leader();
    settlement.take_in_day(1);
    settlement.end_day(1);
    settlement.wait_until_delivered(2, "SFTP");
    settlement.fail_over(0, |_| ());
    let files = settlement.files();
    for (key, number) in [(KEY, 1), (NEW, 2)] {
        let signed = files.iter().filter(|file| file["signerKeyId"] == key);
        let numbers: Vec<u64> = signed.map(|file| file["fileSequenceNumber"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [number; OPERATORS], "{key}");
    }
    everything_is_settled(&settlement, 2);
}
