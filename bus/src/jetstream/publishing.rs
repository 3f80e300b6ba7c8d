//! Publishing with the stream's acknowledgement.

use std::error::Error;
use std::str::FromStr;

use async_nats::header::{NATS_EXPECTED_LAST_MESSAGE_ID, NATS_MESSAGE_ID};
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, HeaderName, HeaderValue};

use super::breaks::Token;
use super::{JetStream, unavailable};
use crate::{BusError, Outgoing, PublishAck};

/// A message on its way.
pub(super) struct Sent {
    subject: String,
    size_bytes: usize,
    ack: PublishAckFuture,
    token: Token,
}

/// Hands a message to the connection; waits only while too many are unacknowledged.
pub(super) async fn send(bus: &JetStream, message: Outgoing) -> Result<Sent, BusError> {
    super::check_message(&message)?;
    let size_bytes = message.payload.len();
    let mut publish = PublishMessage::build().payload(message.payload);
    let ids = [(NATS_MESSAGE_ID, message.message_id), (NATS_EXPECTED_LAST_MESSAGE_ID, message.behind_id)];
    let mut headers = HeaderMap::new();
    for (name, value) in ids {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            headers.insert(name, checked_value(&value, &message.subject)?);
        }
    }
    for (name, value) in message.headers {
        let value = checked_value(&value, &message.subject)?;
        let invalid = |_| BusError::InvalidHeader { name: name.clone(), subject: message.subject.clone() };
        headers.append(HeaderName::from_str(&name).map_err(invalid)?, value);
    }
    if !headers.is_empty() {
        publish = publish.headers(headers);
    }
    let subject = message.subject;
    let token = bus.breaks.token();
    match bus.context.send_publish(subject.clone(), publish).await {
        Ok(ack) => Ok(Sent { subject, size_bytes, ack, token }),
        Err(error) => Err(failed(subject, size_bytes, &error)),
    }
}

impl Sent {
    /// Waits for the stream's word.
    pub(super) async fn acknowledged(self) -> Result<PublishAck, BusError> {
        let Self { subject, size_bytes, ack, token } = self;
        let answered = async {
            match ack.await {
                Ok(ack) => {
                    Ok(PublishAck { stream: ack.stream, sequence: ack.sequence, duplicate: ack.duplicate })
                }
                Err(error) => Err(failed(subject.clone(), size_bytes, &error)),
            }
        };
        token.guard("publish", &subject, answered).await
    }
}

/// True if the server has no room for the message, by a limit of the stream or its own.
fn is_full(server: &jetstream::Error) -> bool {
    match server.error_code() {
        ErrorCode::STREAM_STORE_FAILED => server.to_string().contains("maximum "),
        code => code == ErrorCode::STORAGE_RESOURCES_EXCEEDED || code == ErrorCode::INSUFFICIENT_RESOURCES,
    }
}

fn checked_value(value: &str, subject: &str) -> Result<HeaderValue, BusError> {
    let invalid = |_| BusError::InvalidHeader { name: value.to_owned(), subject: subject.to_owned() };
    HeaderValue::from_str(value).map_err(invalid)
}

fn failed(subject: String, size_bytes: usize, error: &PublishError) -> BusError {
    match error.kind() {
        PublishErrorKind::StreamNotFound => BusError::NoStreamForSubject { subject },
        PublishErrorKind::WrongLastMessageId => BusError::WrongLastId { subject },
        PublishErrorKind::MaxPayloadExceeded => BusError::TooLarge { subject, size_bytes },
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe | PublishErrorKind::MaxAckPending => {
            unavailable("publish", &subject, error)
        }
        PublishErrorKind::WrongLastSequence | PublishErrorKind::Other => {
            match error.source().and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                Some(server) if server.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                    BusError::TooLarge { subject, size_bytes }
                }
                Some(server) if is_full(server) => BusError::Full { subject, reason: server.to_string() },
                Some(server) if server.code() < 500 => {
                    BusError::Refused { subject, reason: server.to_string() }
                }
                _ => unavailable("publish", &subject, error),
            }
        }
    }
}
