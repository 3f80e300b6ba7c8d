//! Is the stream still the one whose position the ledger holds? (ledger format 2, "Ingest position")
//!
//! A bus can lose acknowledged messages, and an operator can recreate a stream. At every connect the stored
//! creation time and the digest of the message at the position are compared; whatever differs opens a new
//! epoch at the stream's first sequence, in which `messageId` alone decides what is a duplicate. So neither a
//! rewind nor a recreation can swallow a record.

use super::halt::Beyond;
use cdr_bus::{Bus, BusError, StreamInfo, Subscription};
use cdr_core::Millis;
use cdr_core::hash::sha256;
use cdr_core::state::{LedgerState, Stream, StreamRecord, stream_epoch};

/// What to do with a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Read on behind the position of this epoch.
    Resume {
        /// The epoch.
        epoch: String,
        /// Its position.
        position: u64,
        /// First sequence of the stream.
        first_sequence: u64,
        /// Last sequence of the stream.
        last_sequence: u64,
    },
    /// Record this epoch first.
    Open {
        /// The body of the `stream` row.
        record: StreamRecord,
        /// True if the stream was lost or rewound (SEV1).
        is_loss: bool,
    },
}

/// What connecting gave.
pub enum Connection {
    /// The bus has acknowledgements for messages that the ledger does not have (SEV1); nothing was changed.
    Beyond(Beyond),
    /// Record this epoch first, then connect again.
    Open {
        /// The body of the `stream` row.
        record: StreamRecord,
        /// True if the stream was lost or rewound (SEV1).
        is_loss: bool,
    },
    /// The stream is read on.
    Reading {
        /// The epoch.
        epoch: String,
        /// Its position, behind which the consumer was opened.
        position: u64,
        /// Last sequence of the stream, before the consumer was opened.
        last_sequence: u64,
        /// The open consumer.
        subscription: Box<dyn Subscription>,
    },
}

/// Opens the consumer behind the replicated position, if the stream is still the one that the position is of, and if
/// nothing was acknowledged that the ledger does not have but what a person has `accepted`.
///
/// # Errors
/// [`BusError`] if the bus does not answer.
pub async fn connect(
    bus: &dyn Bus,
    stream: &str,
    durable: &str,
    state: &LedgerState,
    accepted: Option<&Beyond>,
) -> Result<Connection, BusError> {
    let (epoch, position, first_sequence, last_sequence) = match plan(bus, stream, state).await? {
        Plan::Open { record, is_loss } => return Ok(Connection::Open { record, is_loss }),
        Plan::Resume { epoch, position, first_sequence, last_sequence } => {
            (epoch, position, first_sequence, last_sequence)
        }
    };
    // Opening removes the consumer, and the floor with it. Where messages were purged, the bus itself moves the floor up
    // to the first one that is left.
    let floor = bus.acknowledged_upto(stream, durable).await?.unwrap_or(0);
    if floor > position && floor >= first_sequence && !is_unread(state.latest_epoch(stream)) {
        let beyond = Beyond { epoch: epoch.clone(), position, acknowledged: floor };
        if accepted != Some(&beyond) {
            return Ok(Connection::Beyond(beyond));
        }
    }
    let subscription = bus.open(stream, durable, position + 1).await?;
    // A stream that was lost before the consumer was there would be read under the name and position of the one
    // before. Whatever happens to it from now on ends the subscription.
    Ok(match plan(bus, stream, state).await? {
        Plan::Open { record, is_loss } => Connection::Open { record, is_loss },
        Plan::Resume { .. } => Connection::Reading { epoch, position, last_sequence, subscription },
    })
}

/// True for a later epoch of which nothing was read yet: an existing consumer is of the epoch before.
fn is_unread(epoch: Option<&Stream>) -> bool {
    epoch.is_some_and(|known| {
        known.digest == [0; 32] && stream_epoch(&known.name).is_some_and(|(_, number)| number > 1)
    })
}

/// Compares the stream with the ledger.
///
/// # Errors
/// [`BusError`] if the bus does not answer.
pub async fn plan(bus: &dyn Bus, stream: &str, state: &LedgerState) -> Result<Plan, BusError> {
    let info = bus.stream_info(stream).await?;
    let Some(known) = state.latest_epoch(stream) else {
        return Ok(open(stream, &info, "first connection".to_owned(), false));
    };
    let loss = if known.created == created(&info) {
        rewind(bus, stream, &info, known).await?
    } else {
        Some(format!(
            "the stream was created again at {}, it was created at {}",
            created(&info),
            known.created
        ))
    };
    Ok(match loss {
        Some(reason) => open(&next_epoch(&known.name), &info, reason, true),
        None => Plan::Resume {
            epoch: known.name.clone(),
            position: known.position,
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
        },
    })
}

/// Why the stream is no longer what was read of it, if that is so.
async fn rewind(
    bus: &dyn Bus,
    stream: &str,
    info: &StreamInfo,
    known: &Stream,
) -> Result<Option<String>, BusError> {
    let position = known.position;
    if info.last_sequence < position {
        let last = info.last_sequence;
        return Ok(Some(format!("the stream ends at {last}, but was read up to {position}")));
    }
    if position == 0 || position < info.first_sequence || known.digest == [0; 32] {
        return Ok(None);
    }
    // A message that was deleted on purpose leaves nothing to compare.
    let Some(message) = bus.message(stream, position).await? else { return Ok(None) };
    let same = sha256(&message.payload) == known.digest;
    Ok((!same).then(|| format!("the message at {position} is not the one that was read")))
}

/// When the stream was created, as the ledger writes it.
pub fn created(info: &StreamInfo) -> String {
    Millis(info.created_ms).to_string()
}

fn next_epoch(name: &str) -> String {
    let (base, epoch) = stream_epoch(name).unwrap_or((name, 1));
    format!("{base}#{}", epoch + 1)
}

fn open(epoch: &str, info: &StreamInfo, reason: String, is_loss: bool) -> Plan {
    let first_sequence = info.first_sequence.max(1);
    let record = StreamRecord { created: created(info), first_sequence, reason, stream: epoch.to_owned() };
    Plan::Open { record, is_loss }
}

#[cfg(test)]
mod tests;
