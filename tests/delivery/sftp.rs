//! SFTP when the server does what it should: files arrive, once, under their names.

use crate::delivery::clients::Server;
use crate::delivery::parcels::{Gate, NAME, PATIENT, SIGNATURE, SIGNED, content, parcel};
use bytes::Bytes;
use cdr_core::hash::sha256;
use cdr_mediation::delivery::{Channel, ChannelKind, ErrorClass, FileSource, Item, Sftp};
use std::fs;
use std::sync::Arc;
use testkit::sshd::Sshd;

/// Size of the large file, MiB.
fn large_mib() -> usize {
    std::env::var("CDR_DELIVERY_TEST_MIB").map_or(24, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_whole_with_its_sidecars_and_once() {
    let server = Sshd::start();
    let path = server.path("made");
    let bytes = content((large_mib() << 20) + 12_345);
    fs::write(&path, &bytes).unwrap();
    let mut parcel = parcel(b"");
    let source = Arc::new(FileSource::new(path).await.unwrap());
    parcel.file = Item::new(NAME, source, sha256(&bytes)).unwrap();
    let trace = content(100_000);
    parcel.sidecars.push(Item::bytes(&format!("{NAME}.trace.json.zst"), Bytes::from(trace.clone())).unwrap());

    let channel = server.channel();
    let receipt = channel.deliver(&parcel).await.unwrap();
    assert_eq!(
        (receipt.channel, receipt.receipt_id, receipt.already_there),
        (ChannelKind::Sftp, None, false)
    );
    assert_eq!(receipt.sha256, sha256(&bytes));
    let names = [NAME.to_owned(), SIGNATURE.to_owned(), format!("{NAME}.trace.json.zst")];
    assert_eq!(server.names(), names);
    assert!(fs::read(server.drop().join(NAME)).unwrap() == bytes);
    assert_eq!(fs::read(server.drop().join(SIGNATURE)).unwrap(), SIGNED);
    assert!(fs::read(server.drop().join(&names[2])).unwrap() == trace);

    fs::remove_file(server.drop().join(SIGNATURE)).unwrap();
    assert!(channel.deliver(&parcel).await.unwrap().already_there);
    assert_eq!(server.names(), names, "a sidecar that is missing is delivered");
    server.wait_for_goodbyes(2).await;
}

#[tokio::test]
async fn files_of_every_awkward_size_arrive() {
    let server = Sshd::start();
    let channel = server.channel();
    for size in [0, 1, 32_767, 32_768, 32_769, 65_536, 32 * 32_768, 33 * 32_768 + 1] {
        let bytes = content(size);
        let name = format!("F{size}.tap");
        let mut parcel = parcel(b"");
        parcel.file = Item::bytes(&name, Bytes::from(bytes.clone())).unwrap();
        parcel.sidecars.clear();
        assert!(!channel.deliver(&parcel).await.unwrap().already_there);
        assert!(fs::read(server.drop().join(&name)).unwrap() == bytes, "{size} bytes");
    }
}

#[tokio::test]
async fn a_file_has_its_name_only_when_it_is_whole() {
    let server = Sshd::start();
    let channel = server.channel();
    let bytes = content(3 << 20);
    let gate = Gate::new(&bytes, 2 << 20);
    let parcel = gate.parcel();
    let delivery = async { channel.deliver(&parcel).await };
    let look = async {
        gate.reached().await;
        assert_eq!(server.names(), [format!("{NAME}.tmp")]);
        gate.open();
    };
    assert!(!tokio::join!(delivery, look).0.unwrap().already_there);
    assert_eq!(server.names(), [NAME, SIGNATURE]);
}

#[tokio::test]
async fn what_an_earlier_attempt_left_is_overwritten() {
    let server = Sshd::start();
    let left = server.drop().join(format!("{NAME}.tmp"));
    fs::write(&left, content(2 << 20)).unwrap();
    server.give_to_user(&left);
    let bytes = content(100_000);
    assert!(!server.channel().deliver(&parcel(&bytes)).await.unwrap().already_there);
    assert_eq!(server.names(), [NAME, SIGNATURE]);
    assert!(fs::read(server.drop().join(NAME)).unwrap() == bytes);

    // An attempt can end after the renaming's first half: then both names are there.
    fs::hard_link(server.drop().join(NAME), &left).unwrap();
    assert!(server.channel().deliver(&parcel(&bytes)).await.unwrap().already_there);
    assert_eq!(server.names(), [NAME, SIGNATURE]);
}

#[tokio::test]
async fn another_file_of_that_name_is_never_touched() {
    let server = Sshd::start();
    let bytes = content(100_000);
    for other in [content(99_999), content(100_001)[1..].to_vec()] {
        fs::write(server.drop().join(NAME), &other).unwrap();
        let error = server.channel().deliver(&parcel(&bytes)).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::DuplicateFile);
        assert!(error.what.starts_with(&format!("DUPLICATE_FILE: there is another {NAME} with ")), "{error}");
        assert!(fs::read(server.drop().join(NAME)).unwrap() == other);
        assert_eq!(server.names(), [NAME], "no signature beside a file that is not ours");
    }
    fs::write(server.drop().join(NAME), &bytes).unwrap();
    fs::write(server.drop().join(SIGNATURE), b"another one").unwrap();
    let error = server.channel().deliver(&parcel(&bytes)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::DuplicateFile, "a signature is never replaced either: {error}");
}

#[tokio::test]
async fn a_file_that_appears_during_the_upload_is_seen() {
    for (other, same) in [(content(1 << 20), true), (content(7), false)] {
        let server = Sshd::start();
        let channel = server.channel();
        let gate = Gate::new(&content(1 << 20), 100_000);
        let parcel = gate.parcel();
        let delivery = async { channel.deliver(&parcel).await };
        let appear = async {
            gate.reached().await;
            fs::write(server.drop().join(NAME), &other).unwrap();
            gate.open();
        };
        match tokio::join!(delivery, appear).0 {
            Ok(receipt) => assert!(same && receipt.already_there),
            Err(error) => assert!(!same && error.class == ErrorClass::DuplicateFile, "{error}"),
        }
        assert!(fs::read(server.drop().join(NAME)).unwrap() == other);
        assert!(!server.names().contains(&format!("{NAME}.tmp")));
    }
}

#[tokio::test]
async fn keys_are_tried_in_order_and_read_anew() {
    let server = Sshd::start();
    server.make_key("second", "ecdsa");
    let both = Sftp::new({
        let mut options = server.options(PATIENT);
        options.key_files.push(server.path("second"));
        options
    })
    .unwrap();
    let deliver = async |n: u8| {
        let mut parcel = parcel(&[n]);
        parcel.file = Item::bytes(&format!("K{n}.tap"), Bytes::copy_from_slice(&[n])).unwrap();
        parcel.sidecars.clear();
        both.deliver(&parcel).await
    };
    deliver(1).await.unwrap();
    server.authorize(&["second"]);
    deliver(2).await.unwrap();
    assert!(server.log().contains("Accepted publickey"), "{}", server.log());
    // The first key is taken away here as well: the second one does.
    fs::rename(server.path("client"), server.path("client.old")).unwrap();
    deliver(3).await.unwrap();
    fs::rename(server.path("second"), server.path("second.old")).unwrap();
    assert_eq!(deliver(4).await.unwrap_err().class, ErrorClass::Setup);
    // A new key under the old name needs no restart.
    server.make_key("third", "ed25519");
    server.authorize(&["third"]);
    fs::rename(server.path("third"), server.path("client")).unwrap();
    deliver(5).await.unwrap();
    assert_eq!(server.names(), ["K1.tap", "K2.tap", "K3.tap", "K5.tap"]);
}
