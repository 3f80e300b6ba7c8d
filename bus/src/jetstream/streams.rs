//! Streams: making them, asking about them, reading one message.

use std::time::Duration;

use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamByNameErrorKind, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{
    Config, DeleteMessageErrorKind, DiscardPolicy, Info, RawMessageErrorKind, RetentionPolicy, StorageType,
    Stream,
};
use async_nats::jetstream::{Context, ErrorCode};

use super::{refused, unavailable};
use crate::subject::{check_name, covers};
use crate::{BusError, Headers, StoredMessage, StreamInfo, StreamSpec};

/// The stream with its present state.
pub(super) async fn get(context: &Context, name: &str) -> Result<Stream, BusError> {
    check_name(name)?;
    context.get_stream(name).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(server) => refused("stream info", name, &server),
        _ => unavailable("stream info", name, &error),
    })
}

pub(super) async fn info(context: &Context, name: &str) -> Result<StreamInfo, BusError> {
    let stream = get(context, name).await?;
    let Info { created, state, .. } = stream.cached_info();
    Ok(StreamInfo {
        created_ms: (created.unix_timestamp_nanos() / 1_000_000) as i64,
        first_sequence: if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence },
        last_sequence: state.last_sequence,
        messages: state.messages,
    })
}

/// Name of the stream that takes `subject`.
pub(super) async fn holder(context: &Context, subject: &str) -> Result<Option<String>, BusError> {
    match context.stream_by_subject(subject).await {
        Ok(name) => Ok(Some(name)),
        Err(error) => match error.kind() {
            GetStreamByNameErrorKind::NotFound => Ok(None),
            _ => Err(unavailable("stream of", subject, &error)),
        },
    }
}

pub(super) async fn message(
    context: &Context,
    name: &str,
    sequence: u64,
) -> Result<Option<StoredMessage>, BusError> {
    check_name(name)?;
    if sequence == 0 {
        return Ok(None);
    }
    let stream =
        context.get_stream_no_info(name).await.map_err(|error| unavailable("message", name, &error))?;
    match stream.get_raw_message(sequence).await {
        Ok(message) => {
            let mut headers = Headers::new();
            for (header, values) in message.headers.iter() {
                headers.extend(values.iter().map(|value| (header.to_string(), value.to_string())));
            }
            headers.sort_by(|a, b| a.0.cmp(&b.0));
            let (sequence, subject) = (message.sequence, message.subject.to_string());
            Ok(Some(StoredMessage { sequence, subject, payload: message.payload, headers }))
        }
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(server) => Err(refused("message", name, &server)),
            _ => Err(unavailable("message", name, &error)),
        },
    }
}

pub(super) async fn delete(context: &Context, name: &str) -> Result<(), BusError> {
    let deleted = context.delete_stream(name).await;
    deleted.map(|_| ()).map_err(|error| unavailable("delete stream", name, &error))
}

pub(super) async fn delete_message(context: &Context, name: &str, sequence: u64) -> Result<(), BusError> {
    let deleted = get(context, name).await?.delete_message(sequence).await;
    deleted.map(|_| ()).map_err(|error| match error.kind() {
        DeleteMessageErrorKind::JetStream(server) => refused("delete message", name, &server),
        _ => unavailable("delete message", name, &error),
    })
}

pub(super) async fn ensure(context: &Context, spec: &StreamSpec) -> Result<(), BusError> {
    for _ in 0..2 {
        match get(context, &spec.name).await {
            Ok(stream) => return extend(context, spec, stream.cached_info()).await,
            Err(BusError::StreamNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        match context.create_stream(config(spec)).await {
            Ok(_) => return Ok(()),
            Err(error) => match error.kind() {
                // Another process was faster, with other settings: look at what it made.
                CreateStreamErrorKind::JetStream(server)
                    if server.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                _ => return Err(not_made(spec, &error)),
            },
        }
    }
    Err(unavailable("ensure stream", &spec.name, &"it is an ephemeral one"))
}

fn not_made(spec: &StreamSpec, error: &UpdateStreamError) -> BusError {
    match error.kind() {
        CreateStreamErrorKind::JetStream(server) => refused("make the stream", &spec.name, &server),
        _ => unavailable("make the stream", &spec.name, error),
    }
}

fn config(spec: &StreamSpec) -> Config {
    Config {
        name: spec.name.clone(),
        subjects: spec.subjects.clone(),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: spec.max_age,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: spec.max_message_bytes.map_or(-1, |bytes| i32::try_from(bytes).unwrap_or(i32::MAX)),
        num_replicas: spec.replicas.max(1),
        duplicate_window: spec.dedup_window,
        ..Config::default()
    }
}

/// Adds subjects that the stream lacks; refuses a stream that could lose messages too early.
async fn extend(context: &Context, spec: &StreamSpec, present: &Info) -> Result<(), BusError> {
    let mut config = present.config.clone();
    if let Some(reason) = incompatibility(spec, &config) {
        return Err(BusError::IncompatibleStream { stream: spec.name.clone(), reason });
    }
    if config.num_replicas < spec.replicas {
        tracing::warn!(stream = %spec.name, has = config.num_replicas, wanted = spec.replicas,
            "the stream has fewer replicas than configured");
    }
    if config.duplicate_window < spec.dedup_window {
        tracing::warn!(stream = %spec.name, has_ms = config.duplicate_window.as_millis() as u64,
            wanted_ms = spec.dedup_window.as_millis() as u64, "the stream's dedup window is shorter than needed");
    }
    let lacking = |subject: &&String| !config.subjects.iter().any(|pattern| covers(pattern, subject));
    let added: Vec<String> = spec.subjects.iter().filter(lacking).cloned().collect();
    if added.is_empty() {
        return Ok(());
    }
    config.subjects.extend(added);
    let updated = context.update_stream(&config).await;
    updated.map(|_| ()).map_err(|error| not_made(spec, &error))
}

fn incompatibility(spec: &StreamSpec, config: &Config) -> Option<String> {
    if config.retention != RetentionPolicy::Limits {
        return Some(format!("its retention is {:?}; messages must be kept by limits", config.retention));
    }
    if config.storage != StorageType::File {
        return Some("its storage is memory; it must be file".to_owned());
    }
    if config.mirror.is_some() || config.sources.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Some("it mirrors or sources other streams; it must be written directly".to_owned());
    }
    if config.max_age != Duration::ZERO && (spec.max_age == Duration::ZERO || config.max_age < spec.max_age) {
        let wanted =
            if spec.max_age == Duration::ZERO { "0 (for ever)".to_owned() } else { secs(spec.max_age) };
        return Some(format!("its max_age is {}; raise it to {wanted}", secs(config.max_age)));
    }
    if config.max_messages_per_subject > 0 {
        return Some("max_msgs_per_subject drops messages before their age; set it to -1".to_owned());
    }
    if config.discard == DiscardPolicy::Old && (config.max_messages > 0 || config.max_bytes > 0) {
        return Some("max_msgs or max_bytes drop old messages before their age; use discard: new".to_owned());
    }
    None
}

fn secs(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
