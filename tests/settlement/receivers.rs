//! A receiver that takes nothing for a while: its disk is full, or its host key is another one.

use crate::settlement::checks::everything_is_settled;
use crate::settlement::house::{House, OPERATORS};
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
    let mut house = House::start(hsm);
    house.sshd.kill();
    house.end_day(0);
    house.wait_for_failures(1, "UNREACHABLE");
    let disk = is_root().then(|| fill(&house));
    if disk.is_none() {
        // Who may not mount has every file written to the device that is always full; its directory has space.
        for file in house.files() {
            let name = format!("{}.tmp", file["filename"].as_str().unwrap());
            symlink("/dev/full", house.sshd.drop().join(name)).unwrap();
        }
    }
    house.fail_over(60, |house| house.sshd.restart("host"));
    house.wait_for_failures(2, if disk.is_some() { "FULL" } else { "UNREACHABLE" });
    house.fail_over(0, |_| ());
    let left = house.sshd.names();
    assert!(left.iter().all(|name| name == BALLAST), "what was written is removed: {left:?}");
    if disk.is_some() {
        std::fs::remove_file(house.sshd.drop().join(BALLAST)).unwrap();
    }
    house.fail_over(120, |_| ());
    everything_is_settled(&house, 1);
}

/// A receiver's disk on which 4 KiB are free.
fn fill(house: &House) -> Disk {
    let disk = Disk::mount(house.sshd.drop(), "4m");
    house.sshd.give_to_user(&house.sshd.drop());
    let mut ballast = File::create(house.sshd.drop().join(BALLAST)).unwrap();
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
    let mut house = House::start(hsm);
    house.sshd.make_key("host-2", "ed25519");
    house.sshd.restart("host-2");
    house.end_day(0);
    house.wait_for_failures(1, "HOST_KEY_CHANGED");
    house.fail_over(30 * 60, |_| ());
    // Time for several looks at what is due.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let files = house.files();
    assert!(files.iter().all(|file| file["retryCount"] == 1), "nothing is tried again: {files:#?}");
    assert_eq!(house.sshd.names(), Vec::<String>::new());

    house.sshd.restart("host");
    files[..3].iter().for_each(|file| house.redrop(file));
    let dropped = |file: &serde_json::Value| files[..3].iter().any(|one| one["exportId"] == file["exportId"]);
    house.wait_for_files("dropped again", 1, |file| {
        !dropped(file) || file["deliveryStatus"] == "DELIVERED_SFTP"
    });
    assert_eq!(house.sshd.names().len(), 3 * 3);

    house.sshd.restart("host-2");
    let (old, new) = (house.sshd.fingerprint("host"), house.sshd.fingerprint("host-2"));
    house.cluster.edit_configuration(|text| text.replace(&old, &new));
    for id in 1..=3 {
        house.cluster.kill(id);
        house.bring_back(id);
    }
    files[3..].iter().for_each(|file| house.redrop(file));
    assert_eq!(files.len(), OPERATORS);
    everything_is_settled(&house, 1);
}
