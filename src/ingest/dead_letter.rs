//! Where messages go that can't become records: unchanged, with the reason, never dropped silently.

use crate::bus::{Delivery, Outgoing};

/// Subject and stream of the dead letters of an inbound subject and stream.
pub fn dead_letter_names(subject: &str, stream: &str) -> (String, String) {
    (format!("{subject}.deadletter"), format!("{stream}_DEADLETTER"))
}

/// The dead letter of a delivery. Its id names the message's place, so that a repetition is stored once.
pub fn dead_letter(delivery: &Delivery, epoch: &str, reason: &str) -> Outgoing {
    Outgoing {
        subject: format!("{}.deadletter", delivery.subject),
        headers: vec![
            ("Cdr-Reason".to_owned(), reason.to_owned()),
            ("Cdr-Stream".to_owned(), epoch.to_owned()),
            ("Cdr-Sequence".to_owned(), delivery.sequence.to_string()),
        ],
        payload: delivery.payload.clone(),
        message_id: Some(format!("{epoch}:{}", delivery.sequence)),
        behind_id: None,
    }
}
