//! A receiver that takes nothing for a while: its disk is full, or its host key is another one.

use crate::settlement::checks::everything_is_settled;
use crate::settlement::cluster::{OPERATORS, Settlement};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use testkit::disk::Disk;
use testkit::softhsm::SoftHsm;
use testkit::sshd::is_root;

/// What fills the receiver's disk up to the last page.
const BALLAST: &str = "ballast";

#[test]
fn a_full_disk_is_waited_for() {
    let Some(hsm) = SoftHsm::for_test("settlement::receivers::a_full_disk_is_waited_for") else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.sshd.kill();
    settlement.end_day(0);
    settlement.wait_for_failures(1, "UNREACHABLE");
    let disk = is_root().then(|| fill(&settlement));
    if disk.is_none() {
        // Who may not mount has every file written to the device that is always full; its directory has space.
        for file in settlement.files() {
            let name = format!("{}.tmp", file["filename"].as_str().unwrap());
            symlink("/dev/full", settlement.sshd.drop().join(name)).unwrap();
        }
    }
    settlement.fail_over(60, |settlement| settlement.sshd.restart("host"));
    settlement.wait_for_failures(2, if disk.is_some() { "FULL" } else { "UNREACHABLE" });
    settlement.fail_over(0, |_| ());
    let left = settlement.sshd.names();
    assert!(left.iter().all(|name| name == BALLAST), "what was written is removed: {left:?}");
    if disk.is_some() {
        std::fs::remove_file(settlement.sshd.drop().join(BALLAST)).unwrap();
    }
    settlement.fail_over(120, |_| ());
    everything_is_settled(&settlement, 1);
}

/// A receiver's disk on which 4 KiB are free.
fn fill(settlement: &Settlement) -> Disk {
    let disk = Disk::mount(settlement.sshd.drop(), "4m");
    settlement.sshd.give_to_user(&settlement.sshd.drop());
    let mut ballast = File::create(settlement.sshd.drop().join(BALLAST)).unwrap();
    let mut length = 0;
    while let Ok(written @ 1..) = ballast.write(&[7; 4096]) {
        length += written as u64;
    }
    ballast.set_len(length - 4096).unwrap();
    disk
}

/// Another host key stops deliveries at once, on every channel. What an operator drops again arrives: once the right
/// key is back, or once the new one is pinned.
#[test]
fn another_host_key_stops_deliveries_until_somebody_has_looked() {
    let name = "settlement::receivers::another_host_key_stops_deliveries_until_somebody_has_looked";
    let Some(hsm) = SoftHsm::for_test(name) else { return };
    let mut settlement = Settlement::start(hsm);
    settlement.sshd.make_key("host-2", "ed25519");
    settlement.sshd.restart("host-2");
    settlement.end_day(0);
    settlement.wait_for_failures(1, "HOST_KEY_CHANGED");
    settlement.fail_over(30 * 60, |_| ());
    // Time for several looks at what is due.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let files = settlement.files();
    assert!(files.iter().all(|file| file["retryCount"] == 1), "nothing is tried again: {files:#?}");
    assert_eq!(settlement.sshd.names(), Vec::<String>::new());

    settlement.sshd.restart("host");
    files[..3].iter().for_each(|file| settlement.redrop(file));
    let dropped = |file: &serde_json::Value| files[..3].iter().any(|one| one["exportId"] == file["exportId"]);
    settlement.wait_for_files("dropped again", 1, |file| {
        !dropped(file) || file["deliveryStatus"] == "DELIVERED_SFTP"
    });
    assert_eq!(settlement.sshd.names().len(), 3 * 3);

    settlement.sshd.restart("host-2");
    let (old, new) = (settlement.sshd.fingerprint("host"), settlement.sshd.fingerprint("host-2"));
    settlement.cluster.edit_configuration(|text| text.replace(&old, &new));
    for id in 1..=3 {
        settlement.cluster.kill(id);
        settlement.bring_back(id);
    }
    files[3..].iter().for_each(|file| settlement.redrop(file));
    assert_eq!(files.len(), OPERATORS);
    everything_is_settled(&settlement, 1);
}
