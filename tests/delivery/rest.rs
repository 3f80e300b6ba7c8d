//! The REST interface over real mutual TLS: receipts, refusals, certificates that have ended, connections that break.

use crate::delivery::clients::Server;
use crate::delivery::parcels::{BRIEF, NAME, PATIENT, SIGNATURE, SIGNED, content, parcel};
use bytes::Bytes;
use cdr_core::hash::{sha256, to_hex};
use cdr_mediation::delivery::{
    Channel, ChannelKind, DeliveryError, ErrorClass, FileSource, Item, Parcel, Reason, Receipt, Rest,
};
use std::sync::Arc;
use testkit::certificates::Authority;
use testkit::rest_receiver::{Act, Part, RestReceiver};

fn receipt_of(bytes: &[u8]) -> String {
    format!("{{\"receiptId\": \"ATRA-7\", \"sha256\": \"{}\"}}", to_hex(&sha256(bytes)))
}

async fn after(receiver: &RestReceiver, act: Act) -> Result<Receipt, DeliveryError> {
    receiver.will(&[act]);
    receiver.channel().deliver(&parcel(b"a file")).await
}

#[tokio::test]
async fn a_file_and_its_signature_arrive_and_a_receipt_comes_back() {
    let receiver = RestReceiver::start().await;
    let bytes = content(5 << 20);
    let mut parcel = parcel(&bytes);
    parcel
        .sidecars
        .push(Item::bytes(&format!("{NAME}.trace.json.zst"), Bytes::from_static(b"trace")).unwrap());
    let receipt = receiver.channel().deliver(&parcel).await.unwrap();
    assert_eq!((receipt.channel, receipt.already_there), (ChannelKind::Api, false));
    assert_eq!((receipt.receipt_id.as_deref(), receipt.sha256), (Some("ATRA-1"), sha256(&bytes)));

    let uploads = receiver.uploads();
    assert_eq!(uploads.len(), 1);
    assert_eq!((uploads[0].method.as_str(), uploads[0].path.as_str()), ("POST", "/v1/cdr/upload"));
    assert_eq!(uploads[0].idempotency_key, to_hex(&sha256(&bytes)));
    assert!(uploads[0].length.is_some_and(|length| length > bytes.len() as u64), "its length is announced");
    let part = |field: &str, name: &str, bytes: &[u8]| {
        (Part { field: field.to_owned(), file_name: name.to_owned(), bytes: bytes.to_vec() },)
    };
    let expected = [
        part("file", NAME, &bytes),
        part("signature", SIGNATURE, SIGNED),
        part("sidecar", &format!("{NAME}.trace.json.zst"), b"trace"),
    ];
    assert!(
        uploads[0].parts.iter().eq(expected.iter().map(|(part,)| part)),
        "the parts are as they were sent"
    );
}

#[tokio::test]
async fn a_receipt_for_another_hash_is_no_receipt() {
    let receiver = RestReceiver::start().await;
    let error = after(&receiver, Act::Answer(201, receipt_of(b"another"))).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::IntegrityMismatch);
    assert!(error.what.contains(&to_hex(&sha256(b"another"))), "{error}");
    assert_eq!(error.answer.unwrap().status, 201);
}

#[tokio::test]
async fn a_file_that_is_there_is_delivered_another_one_is_not_ours() {
    let receiver = RestReceiver::start().await;
    let receipt = after(&receiver, Act::Answer(409, receipt_of(b"a file"))).await.unwrap();
    assert_eq!((receipt.already_there, receipt.receipt_id.as_deref()), (true, Some("ATRA-7")));
    let error = after(&receiver, Act::Answer(409, receipt_of(b"another"))).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::DuplicateFile, "{error}");
}

#[tokio::test]
async fn a_receiver_that_cant_now_is_asked_the_same_again() {
    let receiver = RestReceiver::start().await;
    let error = after(&receiver, Act::Answer(503, "maintenance".to_owned())).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable);
    assert_eq!(error.answer.unwrap().body, "maintenance");
    assert!(!after(&receiver, Act::Accept).await.unwrap().already_there);
    let keys: Vec<String> = receiver.uploads().into_iter().map(|upload| upload.idempotency_key).collect();
    assert_eq!(keys, [to_hex(&sha256(b"a file")), to_hex(&sha256(b"a file"))]);
}

#[tokio::test]
async fn a_refusal_comes_with_the_receivers_words() {
    let receiver = RestReceiver::start().await;
    let words = "{\"code\": \"SEQUENCE_OUT_OF_ORDER\"}";
    let error = after(&receiver, Act::Answer(422, words.to_owned())).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Rejected);
    let answer = error.answer.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (422, words));
    assert_eq!(answer.reason, Some(Reason::SequenceOutOfOrder));
    let long = after(&receiver, Act::Answer(400, "x".repeat(1 << 20))).await.unwrap_err();
    assert_eq!(long.answer.unwrap().body.len(), 16 << 10, "not more is kept than is useful");
    let error = after(&receiver, Act::Answer(403, String::new())).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::PermissionDenied);
}

#[tokio::test]
async fn a_refusal_before_the_body_is_heard_during_it() {
    let receiver = RestReceiver::start().await;
    receiver.will(&[Act::Refuse(413)]);
    let error = receiver.channel().deliver(&parcel(&content(32 << 20))).await.unwrap_err();
    // The receiver closes while the body is still under way: its words can get lost, and then it is tried again.
    assert!(matches!(error.class, ErrorClass::Rejected | ErrorClass::Unreachable), "{error}");
    assert!(receiver.uploads().is_empty());
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_reported_and_can_be_exchanged() {
    let receiver = RestReceiver::start().await;
    let channel = receiver.channel();
    receiver.files.show(&receiver.authority.issue_expired("cdr-mediation"));
    // A small body is sent before the refusal comes, a large one is broken off by it.
    for size in [10, 64 << 20] {
        let error = channel.deliver(&parcel(&content(size))).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Certificate, "{size} bytes: {error}");
        assert!(error.what.contains("Expired"), "{error}");
    }
    receiver.files.show(&Authority::new("elsewhere").issue("cdr-mediation"));
    let error = channel.deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Certificate, "{error}");
    assert!(receiver.uploads().is_empty());

    receiver.files.show(&receiver.authority.issue("cdr-mediation"));
    assert!(!channel.deliver(&parcel(b"x")).await.unwrap().already_there);
}

#[tokio::test]
async fn a_receiver_that_cant_prove_who_it_is_gets_nothing() {
    let authority = Authority::new("authority");
    let ended = authority.issue_expired("receiver");
    let receiver = RestReceiver::start_with(authority, &ended).await;
    let error = receiver.channel().deliver(&parcel(b"x")).await.unwrap_err();
    assert!(error.class == ErrorClass::Certificate && error.what.contains("xpired"), "{error}");

    let strange = Authority::new("elsewhere").issue("receiver");
    let receiver = RestReceiver::start_with(Authority::new("authority"), &strange).await;
    let error = receiver.channel().deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Certificate, "{error}");
    assert!(receiver.uploads().is_empty());
}

#[tokio::test]
async fn connections_that_break_or_stall_are_temporary() {
    let receiver = RestReceiver::start().await;
    let large = parcel(&content(32 << 20));
    receiver.will(&[Act::Cut(1 << 20)]);
    let error = receiver.channel().deliver(&large).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable, "{error}");

    let brief = Rest::new(receiver.options(BRIEF)).unwrap();
    receiver.will(&[Act::Hang]);
    let error = brief.deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable);
    assert!(error.what.contains("were sent, then nothing happened for 2s"), "{error}");

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = receiver.options(BRIEF);
    options.url = format!("https://localhost:{}/", silent.local_addr().unwrap().port());
    let nobody = Rest::new(options).unwrap();
    let error = nobody.deliver(&parcel(b"x")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable, "{error}");
    std::mem::drop(silent);
    let error = nobody.deliver(&parcel(b"x")).await.unwrap_err();
    assert!(error.class == ErrorClass::Unreachable && error.what.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_the_signed_one_never_arrives_whole() {
    let receiver = RestReceiver::start().await;
    let bytes = content(300_000);
    let mut damaged = bytes.clone();
    damaged[299_999] ^= 1;
    let file = Item::new(NAME, Arc::new(Bytes::from(damaged)), sha256(&bytes)).unwrap();
    let error = receiver.channel().deliver(&Parcel { file, sidecars: vec![] }).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::IntegrityMismatch);
    assert!(error.what.contains("is not the file that was signed"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made");
    std::fs::write(&path, &bytes).unwrap();
    let source = Arc::new(FileSource::new(path.clone()).await.unwrap());
    std::fs::remove_file(path).unwrap();
    let file = Item::new(NAME, source, sha256(&bytes)).unwrap();
    let error = receiver.channel().deliver(&Parcel { file, sidecars: vec![] }).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Source, "{error}");
    assert!(receiver.uploads().is_empty());
}

#[tokio::test]
async fn what_is_set_up_wrongly_is_said_at_the_start() {
    let receiver = RestReceiver::start().await;
    let refused = |options| {
        let error = Rest::new(options).unwrap_err();
        assert_eq!(error.class, ErrorClass::Setup, "{error}");
        error.what
    };
    let mut options = receiver.options(PATIENT);
    options.url = "http://localhost/".to_owned();
    assert_eq!(refused(options), "this is not an https:// URL");
    let mut options = receiver.options(PATIENT);
    options.client_cert_file = receiver.files.key.clone();
    assert!(refused(options).contains("holds no certificate"));
    let mut options = receiver.options(PATIENT);
    options.client_key_file = receiver.files.cert.clone();
    assert!(refused(options).contains("must have 0600"));
    std::fs::write(&receiver.files.key, receiver.authority.issue("other").key).unwrap();
    assert!(refused(receiver.options(PATIENT)).contains("with its key"));
    std::fs::write(&receiver.files.key, "SECRET").unwrap();
    assert!(!refused(receiver.options(PATIENT)).contains("SECRET"));
}
