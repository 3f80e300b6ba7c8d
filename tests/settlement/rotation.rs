//! The signing key is replaced between two settlement days; the files of both can be verified afterwards.

use crate::settlement::checks::everything_is_settled;
use crate::settlement::house::{House, KEY, OPERATORS};
use cdr_core::key::Algorithm;
use testkit::softhsm::SoftHsm;

const NEW: &str = "cdr-export-signer-v2";

#[test]
fn files_of_both_keys_can_be_verified() {
    let Some(hsm) = SoftHsm::for_test("settlement::rotation::files_of_both_keys_can_be_verified") else {
        return;
    };
    let mut house = House::start(hsm);
    house.end_day(0);
    everything_is_settled(&house, 1);

    house.hsm.import(NEW, Algorithm::EcdsaP256);
    (1..=3).for_each(|id| house.cluster.kill(id));
    house.begin_day(1);
    house.cluster.edit_configuration(|text| house.root.with_key(&house.hsm, text, NEW, "ecdsa-p256", &[KEY]));
    house.vouch(NEW, house.hour_of_day(1));
    (1..=3).for_each(|id| house.cluster.restart(id));
    house.cluster.leader();
    house.take_in_day(1);
    house.end_day(1);
    house.wait_until_delivered(2, "SFTP");
    house.fail_over(0, |_| ());
    let files = house.files();
    for (key, number) in [(KEY, 1), (NEW, 2)] {
        let signed = files.iter().filter(|file| file["signerKeyId"] == key);
        let numbers: Vec<u64> = signed.map(|file| file["fileSequenceNumber"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [number; OPERATORS], "{key}");
    }
    everything_is_settled(&house, 2);
}
