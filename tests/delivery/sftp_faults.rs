//! SFTP when something is wrong: the server dies, is full, is another one, or lets nobody in.

use crate::delivery::clients::Server;
use crate::delivery::parcels::{BRIEF, Gate, NAME, PATIENT, SIGNATURE, content, parcel};
use cdr_mediation::delivery::{Channel, ErrorClass, Sftp};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use testkit::disk::Disk;
use testkit::sshd::{Sshd, is_root};

#[tokio::test]
async fn a_server_that_dies_during_the_upload_gets_the_file_from_its_successor() {
    let mut server = Sshd::start();
    let channel = server.channel();
    let bytes = content(8 << 20);
    let gate = Gate::new(&bytes, 5 << 20);
    let parcel = gate.parcel();
    let (failed, ()) = tokio::join!(async { channel.deliver(&parcel).await }, async {
        gate.reached().await;
        server.kill();
        gate.open();
    });
    let error = failed.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable, "{error}");
    assert_eq!(server.names(), [format!("{NAME}.tmp")], "half a file has no final name");
    assert_eq!(
        channel.deliver(&parcel).await.unwrap_err().class,
        ErrorClass::Unreachable,
        "it is still away"
    );
    server.restart("host");
    assert!(!channel.deliver(&parcel).await.unwrap().already_there);
    assert_eq!(server.names(), [NAME, SIGNATURE]);
    assert!(fs::read(server.drop().join(NAME)).unwrap() == bytes);
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_nothing_that_hurts() {
    let server = Sshd::start();
    let channel = server.channel();
    let gate = Gate::new(&content(4 << 20), 2 << 20);
    let parcel = gate.parcel();
    tokio::select! {
        _ = channel.deliver(&parcel) => panic!("the gate is closed"),
        () = gate.reached() => {}
    }
    gate.open();
    assert!(!channel.deliver(&parcel).await.unwrap().already_there);
    assert_eq!(server.names(), [NAME, SIGNATURE]);
}

#[tokio::test]
async fn a_full_disk_is_told_apart_and_left_as_it_was() {
    let server = Sshd::start();
    let bytes = content(6 << 20);
    let full = if is_root() {
        let small = Disk::mount(server.drop(), "4m");
        server.give_to_user(&server.drop());
        Some(small)
    } else {
        // Who may not mount writes to the device that is always full; its directory has space.
        std::os::unix::fs::symlink("/dev/full", server.drop().join(format!("{NAME}.tmp"))).unwrap();
        None
    };
    let error = server.channel().deliver(&parcel(&bytes)).await.unwrap_err();
    let expected = if full.is_some() { ErrorClass::Full } else { ErrorClass::Unreachable };
    assert_eq!(error.class, expected, "{error}");
    assert!(error.class.blames_channel() && !error.class.stops());
    assert_eq!(server.names(), Vec::<String>::new(), "what was written is removed");
    if full.is_some() {
        // A file that fits is delivered to the same disk.
        assert!(!server.channel().deliver(&parcel(&content(2 << 20))).await.unwrap().already_there);
        fs::remove_file(server.drop().join(NAME)).unwrap();
        fs::remove_file(server.drop().join(SIGNATURE)).unwrap();
    }
    std::mem::drop(full);
    assert!(!server.channel().deliver(&parcel(&bytes)).await.unwrap().already_there);
    assert_eq!(server.names(), [NAME, SIGNATURE]);
}

#[tokio::test]
async fn a_server_with_another_host_key_gets_nothing() {
    let mut server = Sshd::start();
    let channel = server.channel();
    server.make_key("host-2", "ed25519");
    server.restart("host-2");
    let before = server.log();
    let error = channel.deliver(&parcel(b"secret")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::HostKeyChanged);
    for print in [server.fingerprint("host"), server.fingerprint("host-2")] {
        assert!(error.what.contains(&print), "{error}");
    }
    assert_eq!(server.names(), Vec::<String>::new());
    let since = server.log().split_off(before.len());
    assert!(!since.contains("Accepted") && !since.contains("publickey"), "no key was shown: {since}");

    // While the key is exchanged, both are pinned.
    let mut options = server.options(PATIENT);
    options.host_fingerprints.push(server.fingerprint("host-2"));
    let pinned = Sftp::new(options).unwrap();
    assert!(!pinned.deliver(&parcel(b"secret")).await.unwrap().already_there);
    server.restart("host");
    assert!(pinned.deliver(&parcel(b"secret")).await.unwrap().already_there);

    server.make_key("host-rsa", "rsa");
    server.restart("host-rsa");
    let error = pinned.deliver(&parcel(b"secret")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Setup, "nothing in common: {error}");
}

#[tokio::test]
async fn who_is_not_let_in_does_not_try_again() {
    let server = Sshd::start();
    server.make_key("stranger", "ed25519");
    let mut options = server.options(PATIENT);
    options.key_files = vec![server.path("stranger")];
    let error = Sftp::new(options.clone()).unwrap().deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::PermissionDenied);
    assert!(error.class.stops() && error.what.contains("stranger"), "{error}");

    options.key_files = vec![server.path("client")];
    options.user = "somebody-else".to_owned();
    let error = Sftp::new(options).unwrap().deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::PermissionDenied, "{error}");

    fs::set_permissions(server.drop(), PermissionsExt::from_mode(0o555)).unwrap();
    let error = server.channel().deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::PermissionDenied, "{error}");
    assert!(error.what.contains(&format!("{NAME}.tmp can't be made")), "{error}");
}

#[tokio::test]
async fn what_is_set_up_wrongly_is_said() {
    let server = Sshd::start();
    let mut options = server.options(PATIENT);
    options.directory = "nowhere".to_owned();
    let error = Sftp::new(options).unwrap().deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Setup);
    assert!(error.what.contains("no directory \"nowhere\""), "{error}");

    let refused = |change: fn(&mut std::fs::Permissions)| {
        let mut permissions = fs::metadata(server.path("client")).unwrap().permissions();
        change(&mut permissions);
        fs::set_permissions(server.path("client"), permissions).unwrap();
        Sftp::new(server.options(PATIENT)).unwrap_err()
    };
    let error = refused(|permissions| permissions.set_mode(0o644));
    assert!(error.what.contains("its mode is 0644; a private key must have 0600"), "{error}");
    server.make_key("rsa", "rsa");
    fs::rename(server.path("rsa"), server.path("client")).unwrap();
    let error = refused(|permissions| permissions.set_mode(0o600));
    assert_eq!(error.class, ErrorClass::Setup, "{error}");
    fs::write(server.path("client"), "SECRET WORDS that are no key").unwrap();
    let error = refused(|_| ());
    assert!(error.class == ErrorClass::Setup && !error.to_string().contains("SECRET"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_waited_for() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Sshd::start();
    let mut options = server.options(BRIEF);
    options.port = silent.local_addr().unwrap().port();
    let channel = Sftp::new(options.clone()).unwrap();
    let error = channel.deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable);
    assert!(error.what.contains("connecting took longer than 2s"), "{error}");
    std::mem::drop(silent);
    let error = channel.deliver(&parcel(b"x")).await.unwrap_err();
    assert!(error.class == ErrorClass::Unreachable && error.what.contains("refused"), "{error}");
}
