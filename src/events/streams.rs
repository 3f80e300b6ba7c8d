//! Which stream carries which subject, and what the streams must be like (event schemas, section 1).

use super::subject;
use cdr_bus::StreamSpec;
use std::time::Duration;

/// Hot retention: 13 months, at their longest.
pub const HOT_RETENTION: Duration = Duration::from_secs(397 * 86_400);
/// How long a stream recognises an event that it has stored.
pub const DEDUP_WINDOW: Duration = Duration::from_secs(300);
/// What the name of a stream's companion for dead letters adds to the stream's.
pub const DEAD_LETTER_STREAM_SUFFIX: &str = "_DEADLETTER";
/// What the subject of a dead letter adds to the event's.
pub const DEAD_LETTER_SUBJECT_SUFFIX: &str = ".deadletter";

/// Every stream with its subjects.
pub const STREAMS: [(&str, &[&str]); 4] = [
    (
        "CDR_EVENTS",
        &[subject::RECORD_APPENDED, subject::RECORD_REPRICED, subject::BUCKET_SEALED, subject::GENERATED],
    ),
    ("CDR_EXPORTS", &[subject::EXPORTED, subject::EXPORT_ACKED, subject::EXPORT_REJECTED]),
    ("CDR_ADJUSTMENTS", &[subject::ADJUSTMENT_CREATED, subject::ADJUSTMENT_BATCH]),
    (
        "CDR_AUDIT",
        &[
            subject::AUDIT,
            subject::ARCHIVE_COMPLETED,
            subject::CONFIG_CHANGED,
            subject::QUARANTINE_RESUBMITTED,
            subject::RESTRICTION,
        ],
    ),
];

/// The stream that carries `subject`.
pub fn stream_of(subject: &str) -> Option<&'static str> {
    STREAMS.iter().find(|(_, subjects)| subjects.contains(&subject)).map(|(name, _)| *name)
}

/// Every stream, each followed by its companion for dead letters, with `replicas` copies (3 in production).
pub fn stream_specs(replicas: usize) -> Vec<StreamSpec> {
    let spec = |name: String, subjects: Vec<String>| StreamSpec {
        name,
        subjects,
        max_age: HOT_RETENTION,
        replicas,
        dedup_window: DEDUP_WINDOW,
        max_message_bytes: None,
    };
    let pair = |(name, subjects): &(&str, &[&str])| {
        let all = |suffix: &str| subjects.iter().map(|subject| format!("{subject}{suffix}")).collect();
        [
            spec((*name).to_owned(), all("")),
            spec(format!("{name}{DEAD_LETTER_STREAM_SUFFIX}"), all(DEAD_LETTER_SUBJECT_SUFFIX)),
        ]
    };
    STREAMS.iter().flat_map(pair).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn four_streams_with_a_companion_each_and_no_subject_twice() {
        let specs = stream_specs(3);
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "CDR_EVENTS",
                "CDR_EVENTS_DEADLETTER",
                "CDR_EXPORTS",
                "CDR_EXPORTS_DEADLETTER",
                "CDR_ADJUSTMENTS",
                "CDR_ADJUSTMENTS_DEADLETTER",
                "CDR_AUDIT",
                "CDR_AUDIT_DEADLETTER",
            ]
        );
        let subjects: Vec<&String> = specs.iter().flat_map(|spec| &spec.subjects).collect();
        assert_eq!((subjects.len(), subjects.iter().collect::<HashSet<_>>().len()), (28, 28));
        assert!(specs.iter().all(|spec| spec.replicas == 3
            && spec.dedup_window == Duration::from_secs(300)
            && spec.max_age >= Duration::from_secs(13 * 30 * 86_400)));
        for spec in specs.iter().filter(|spec| !spec.name.ends_with(DEAD_LETTER_STREAM_SUFFIX)) {
            assert!(spec.subjects.iter().all(|subject| stream_of(subject) == Some(&spec.name)));
        }
        assert_eq!(stream_of("cdr.restriction.v1"), Some("CDR_AUDIT"));
        assert_eq!(stream_of("cdr.unknown.v1"), None);
    }
}
