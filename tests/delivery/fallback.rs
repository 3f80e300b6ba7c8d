//! Both channels together, as the policy asks for them: SFTP down, the fallback takes the file; SFTP back, it is first.

use crate::delivery::clients::Server;
use crate::delivery::parcels::{Gate, NAME, SIGNATURE, content, parcel};
use cdr_core::{LedgerState, Millis};
use cdr_mediation::config::{self, DeliveryKind};
use cdr_mediation::delivery::policy::{Attempt, Next, Outcome, decide};
use cdr_mediation::delivery::{ChannelKind, Channels, CurrentChannels, ErrorClass, Parcel};
use cdr_mediation::metrics::Metrics;
use cdr_raft::NodeMetrics;
use cdr_storage::StoreMetrics;
use std::sync::Arc;
use testkit::rest_receiver::{Act, RestReceiver};
use testkit::sshd::Sshd;

/// `[delivery]` for the two servers.
fn config(server: &Sshd, receiver: &RestReceiver) -> config::Delivery {
    let (sftp, rest) = (
        server.options(crate::delivery::parcels::PATIENT),
        receiver.options(crate::delivery::parcels::PATIENT),
    );
    config::Delivery {
        kind: DeliveryKind::Regulator,
        sftp_host: sftp.host,
        sftp_port: sftp.port,
        sftp_user: sftp.user,
        sftp_directory: sftp.directory,
        sftp_host_fingerprints: sftp.host_fingerprints,
        sftp_key_files: sftp.key_files,
        rest_url: Some(rest.url),
        rest_ca_file: rest.ca_file,
        rest_client_cert_file: Some(rest.client_cert_file),
        rest_client_key_file: Some(rest.client_key_file),
        ..config::Delivery::default()
    }
}

/// Makes the attempts that are due, in a time that passes by itself, until the file is delivered or `upto` is reached.
async fn live(channels: &Channels, parcel: &Parcel, attempts: &mut Vec<Attempt>, upto: Millis) -> Next {
    loop {
        let now = attempts.last().map_or(Millis(0), |last| last.at);
        let next = decide(channels.route(), attempts, now, 200).next;
        let Next::At(at, channel) = next else { return next };
        if at > upto {
            return next;
        }
        let delivered = channels.deliver(channel, parcel).await;
        let outcome = delivered.map_or_else(|error| Outcome::Failed(error.class), |_| Outcome::Delivered);
        attempts.push(Attempt { at, channel, outcome });
    }
}

#[tokio::test]
async fn a_file_takes_the_fallback_and_the_next_one_sftp_again() {
    let mut server = Sshd::start();
    let receiver = RestReceiver::start().await;
    let metrics = Arc::new(Metrics::new().unwrap());
    let channels = Channels::open(&config(&server, &receiver), metrics.clone()).unwrap().unwrap();
    server.kill();
    receiver.will(&[Act::Answer(503, String::new())]);
    let (parcel, mut attempts) = (parcel(&content(100_000)), Vec::new());
    assert_eq!(live(&channels, &parcel, &mut attempts, Millis(i64::MAX)).await, Next::Done);
    let (sftp, api) = (ChannelKind::Sftp, ChannelKind::Api);
    let failed = Outcome::Failed(ErrorClass::Unreachable);
    let taken: Vec<(ChannelKind, Outcome)> = attempts.iter().map(|a| (a.channel, a.outcome)).collect();
    assert_eq!(
        taken,
        [(sftp, failed), (sftp, failed), (sftp, failed), (api, failed), (api, Outcome::Delivered)]
    );
    assert_eq!(receiver.uploads().len(), 2);
    assert!(
        metrics.dependencies()["delivery_sftp"].is_err() && metrics.dependencies()["delivery_api"].is_ok()
    );

    server.restart("host");
    let mut attempts = Vec::new();
    assert_eq!(live(&channels, &parcel, &mut attempts, Millis(i64::MAX)).await, Next::Done);
    assert_eq!((attempts.len(), attempts[0].channel), (1, sftp));
    assert_eq!(server.names(), [NAME, SIGNATURE]);
    assert!(metrics.dependencies()["delivery_sftp"].is_ok());

    let (state, node, store) = (LedgerState::default(), NodeMetrics::default(), StoreMetrics::default());
    let shown = metrics.render(Millis(0), &state, &node, &store).unwrap();
    for line in [
        "cdr_delivery_attempts_total{channel=\"sftp\",outcome=\"unreachable\"} 3",
        "cdr_delivery_attempts_total{channel=\"sftp\",outcome=\"delivered\"} 1",
        "cdr_delivery_attempts_total{channel=\"api\",outcome=\"unreachable\"} 1",
        "cdr_delivery_attempts_total{channel=\"api\",outcome=\"delivered\"} 1",
        "cdr_delivery_attempts_total{channel=\"api\",outcome=\"certificate\"} 0",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
}

#[tokio::test]
async fn sftp_that_comes_back_takes_the_file_from_a_failing_fallback() {
    let mut server = Sshd::start();
    let receiver = RestReceiver::start().await;
    let metrics = Arc::new(Metrics::new().unwrap());
    let channels = Channels::open(&config(&server, &receiver), metrics).unwrap().unwrap();
    server.kill();
    receiver.will(&vec![Act::Answer(500, String::new()); 20]);
    let (parcel, mut attempts) = (parcel(b"a file"), Vec::new());
    let ten_minutes = Millis(600_000);
    assert!(matches!(live(&channels, &parcel, &mut attempts, ten_minutes).await, Next::At(..)));
    assert!(attempts.iter().filter(|attempt| attempt.channel == ChannelKind::Api).count() >= 3);
    server.restart("host");
    assert_eq!(live(&channels, &parcel, &mut attempts, Millis(i64::MAX)).await, Next::Done);
    assert_eq!(attempts.last().map(|last| last.channel), Some(ChannelKind::Sftp));
    assert_eq!(server.names(), [NAME, SIGNATURE]);
}

/// Host, keys and URL are exchanged in practice: a file that is on its way stays on it, the next one goes elsewhere.
#[tokio::test]
async fn channels_are_exchanged_without_losing_the_file_on_its_way() {
    let (server, other) = (Sshd::start(), Sshd::start());
    let receiver = RestReceiver::start().await;
    let metrics = Arc::new(Metrics::new().unwrap());
    let current = CurrentChannels::open(&config(&server, &receiver), metrics).unwrap();
    let gate = Gate::new(&content(4 << 20), 2 << 20);
    let (on_its_way, before) = (gate.parcel(), current.now().unwrap());
    let (delivered, ()) = tokio::join!(before.deliver(ChannelKind::Sftp, &on_its_way), async {
        gate.reached().await;
        current.exchange(&config(&other, &receiver)).unwrap();
        gate.open();
    });
    assert!(!delivered.unwrap().already_there);
    assert_eq!((server.names(), other.names()), (vec![NAME.to_owned(), SIGNATURE.to_owned()], vec![]));
    let next = parcel(b"the next one");
    current.now().unwrap().deliver(ChannelKind::Sftp, &next).await.unwrap();
    assert_eq!(other.names(), [NAME, SIGNATURE]);

    let unusable =
        config::Delivery { sftp_key_files: vec!["/nowhere/client.key".into()], ..config(&server, &receiver) };
    let error = current.exchange(&unusable).unwrap_err();
    assert_eq!(error.class, ErrorClass::Setup);
    let again = current.now().unwrap().deliver(ChannelKind::Sftp, &next).await.unwrap();
    assert!(again.already_there, "the other server's channel stays in force");
    current.exchange(&config::Delivery::default()).unwrap();
    assert!(current.now().is_none(), "files wait");
}

#[test]
fn channels_that_cant_be_used_are_named_at_the_start() {
    let metrics = || Arc::new(Metrics::new().unwrap());
    assert!(Channels::open(&config::Delivery::default(), metrics()).unwrap().is_none());
    let nothing = config::Delivery {
        kind: DeliveryKind::Regulator,
        sftp_host: "drop.example.net".to_owned(),
        sftp_user: "cdr".to_owned(),
        sftp_host_fingerprints: vec!["SHA256:3MxkGKQVrIYyH8h6mTUQSBlUnPm8rQIW3KJvXQO5k7E".to_owned()],
        sftp_key_files: vec!["/nowhere/client.key".into()],
        ..config::Delivery::default()
    };
    let error = Channels::open(&nothing, metrics()).err().unwrap();
    assert_eq!(error.class, ErrorClass::Setup);
    assert!(
        error.to_string().contains("sftp://cdr@drop.example.net:2222: /nowhere/client.key can't be used"),
        "{error}"
    );
}
