//! The leader is killed while it uploads, and before the ledger or the bus has heard of it.

use crate::settlement::checks::everything_is_settled;
use crate::settlement::cluster::{OPERATORS, Settlement};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use testkit::softhsm::SoftHsm;
use testkit::wait_until;

/// A connection that stands still then has begun an upload, and one piece of the file is through, but not the second.
const IN_THE_SECOND_PIECE: u64 = 45_000;

#[test]
fn during_the_upload() {
    let Some(hsm) = SoftHsm::for_test("settlement::uploads::during_the_upload") else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.line.hold_after(IN_THE_SECOND_PIECE);
    settlement.end_day(0);
    let name = settlement.wait_for_half_a_file(1);
    settlement.fail_over(0, |_| ());
    assert_eq!(settlement.wait_for_half_a_file(2), name, "the next leader begins with the same file");
    settlement.sshd.kill();
    settlement.wait_for_failures(1, "UNREACHABLE");
    // What is left of an upload may be longer than the file.
    let left = settlement.sshd.drop().join(format!("{name}.tmp"));
    assert!(left.exists());
    std::fs::write(left, vec![7; 1 << 20]).unwrap();
    settlement.line.release();
    settlement.fail_over(60, |settlement| settlement.sshd.restart("host"));
    everything_is_settled(&settlement, 1);
}

#[test]
fn delivered_and_not_committed() {
    let Some(hsm) = SoftHsm::for_test("settlement::uploads::delivered_and_not_committed") else { return };
    // A leader that hears of nobody has six seconds to finish.
    let edit = |text: &str| {
        let patient = "[cluster]\nelection_min_ms = 2000\nelection_max_ms = 6000\n";
        text.replace("[cluster]\n", patient) + "[observability]\nlog_format = \"json\"\n"
    };
    let mut settlement = Settlement::start_edited(hsm, edit);
    settlement.line.hold_after(IN_THE_SECOND_PIECE);
    settlement.end_day(0);
    let name = settlement.wait_for_half_a_file(1);
    let leader = settlement.cluster.leader();
    let followers: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    for id in &followers {
        settlement.cluster.kill(*id);
    }
    settlement.line.release();
    let of_file = ["", ".sig", ".trace.json.zst"].map(|suffix| format!("{name}{suffix}"));
    wait_until("an upload without a quorum", 20, || {
        let names = settlement.sshd.names();
        of_file.iter().all(|part| names.contains(part)) && !names.contains(&format!("{}.tmp", of_file[2]))
    });
    settlement.cluster.kill(leader);
    let stamps = |settlement: &Settlement| {
        of_file.clone().map(|part| {
            let found = std::fs::metadata(settlement.sshd.drop().join(part)).unwrap();
            (found.ino(), found.mtime(), found.mtime_nsec())
        })
    };
    let before = stamps(&settlement);
    // The dead leader's log may hold the row: the others have a quorum without it.
    for id in &followers {
        settlement.cluster.restart(*id);
    }
    settlement.wait_until_delivered(1, "SFTP");
    settlement.bring_back(leader);
    assert_eq!(stamps(&settlement), before, "nothing was sent again");
    // Whichever of the others led when it was delivered again.
    let found = || (1..=3).any(|id| found_there(&settlement.cluster.log(id), &name));
    wait_until("that somebody finds the file at the receiver", 30, found);
    assert_eq!(attempts(&settlement, &name), 1);
    everything_is_settled(&settlement, 1);
}

/// True if a replica says that a file was at the receiver already.
fn found_there(log: &str, name: &str) -> bool {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| line["fields"].clone()).any(|said| said["file"] == name && said["already_there"] == true)
}

/// Rows of the ledger about a file's delivery.
fn attempts(settlement: &Settlement, name: &str) -> usize {
    let files = settlement.files();
    let file = files.iter().find(|file| file["filename"] == *name).unwrap();
    let path = format!("/v1/cdr/exports/{}/delivery-log", file["exportId"].as_str().unwrap());
    settlement.cluster.get_ok(settlement.cluster.leader(), &path)["items"].as_array().unwrap().len()
}

#[test]
fn committed_and_not_published() {
    let Some(hsm) = SoftHsm::for_test("settlement::uploads::committed_and_not_published") else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.nats.kill();
    settlement.end_day(0);
    settlement.wait_until_delivered(1, "SFTP");
    settlement.fail_over(0, |settlement| {
        settlement.cluster.leader();
        settlement.nats.restart();
    });
    assert_eq!(settlement.files().len(), OPERATORS);
    everything_is_settled(&settlement, 1);
}
