//! The leader alone is killed between every two steps of a file's way; another one goes on from there.

use crate::settlement::checks::everything_is_settled;
use crate::settlement::cluster::Settlement;
use testkit::rest_receiver::Act;
use testkit::softhsm::SoftHsm;
use testkit::wait_until;

#[test]
fn opened_and_not_encoded() {
    let Some(hsm) = SoftHsm::for_test("settlement::steps::opened_and_not_encoded") else { return };
    let mut settlement = Settlement::start(hsm);
    let in_the_way = [1, 2, 3].map(|id| settlement.cluster.data_dir(id).join("exports"));
    for path in &in_the_way {
        std::fs::write(path, "no directory").unwrap();
    }
    settlement.end_day(0);
    settlement.wait_for_files("opened", 1, |file| file["sha256"].is_null());
    wait_until("files that can't be made", 30, || {
        settlement.cluster.log(settlement.cluster.leader()).contains("is held up")
    });
    settlement.fail_over(0, |_| in_the_way.iter().for_each(|path| std::fs::remove_file(path).unwrap()));
    everything_is_settled(&settlement, 1);
}

#[test]
fn encoded_and_not_signed() {
    let Some(hsm) = SoftHsm::for_test("settlement::steps::encoded_and_not_signed") else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.hsm.take_away();
    settlement.end_day(0);
    settlement.wait_for_files("encoded", 1, |file| file["sha256"].is_string());
    settlement.fail_over(0, |settlement| {
        settlement.cluster.leader();
        assert!(
            settlement.files().iter().all(|file| file["signedAt"].is_null()),
            "{:#?}",
            settlement.files()
        );
        settlement.hsm.bring_back();
    });
    everything_is_settled(&settlement, 1);
}

#[test]
fn signed_and_not_delivered() {
    let Some(hsm) = SoftHsm::for_test("settlement::steps::signed_and_not_delivered") else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.sshd.kill();
    settlement.receiver.will(&vec![Act::Refuse(503); 200]);
    settlement.end_day(0);
    settlement.wait_for_failures(1, "UNREACHABLE");
    assert!(settlement.files().iter().all(|file| file["signedAt"].is_string()), "{:#?}", settlement.files());
    for minutes in [1, 2] {
        settlement.fail_over(minutes * 60, |_| ());
        settlement.wait_for_failures(minutes as u64 + 1, "UNREACHABLE");
    }
    settlement
        .wait_for_files("refused by the fallback, too", 1, |file| file["lastError"]["channel"] == "API");
    settlement.fail_over(15 * 60, |settlement| settlement.sshd.restart("host"));
    everything_is_settled(&settlement, 1);
}
