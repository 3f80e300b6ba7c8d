//! Which file is due next, and what it is pinned to.

use super::{ENCODER_VERSION, header};
use crate::names::variant_in_force;
use crate::zone;
use cdr_core::export::{Cut, ExportPins, ExportType, SeriesKey};
use cdr_core::row::SYSTEM_OPERATOR;
use cdr_core::state::Operator;
use cdr_core::time::{Day, HOUR_MS};
use cdr_core::{CdrId, Hour, LedgerState, Millis};
use cdr_storage::{Store, StoreError};
use cdr_tap::{Variant, Variants};
use jiff::civil::Time;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much earlier than a day's local midnight an event of that day can be in the log: receipts up to an hour ahead
/// of the clock are accepted.
const AHEAD_MS: i64 = 2 * HOUR_MS;

/// What a receiver gets.
#[derive(Clone, Debug)]
pub struct SeriesSettings {
    /// Its name.
    pub name: String,
    /// Schema variant; of the first series only until another one is activated.
    pub variant: String,
    /// True for the series whose variant may be exchanged by activation.
    pub follows_activation: bool,
}

/// Which files are made, and when.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// The receivers' series.
    pub series: Vec<SeriesSettings>,
    /// Local time from which the TAP files of the day before are made.
    pub tap_start: Time,
    /// Local time by which they have to be delivered.
    pub tap_deadline: Time,
    /// Local time at which adjustments are cut off.
    pub rap_cut_off: Time,
    /// Exchange rates to the files' currencies, by currency.
    pub exchange_rates: BTreeMap<String, Decimal>,
}

/// A file that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its series.
    pub key: SeriesKey,
    /// Its settlement day.
    pub day: Day,
    /// TAP recording entity of the operator.
    pub recording_entity: String,
    /// How far the series is.
    pub before: Option<Cut>,
}

/// A due file can't be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The schema variant is not there.
    #[error(
        "schema variant {variant} is not among the schemas that are loaded: install its folder, or activate another"
    )]
    NoVariant {
        /// The variant.
        variant: String,
    },
    /// Sequence numbers are used up.
    #[error(
        "recording entity {recording_entity} has used up the file numbers of {variant}: agree on a new recording \
         entity with the receiver"
    )]
    Exhausted {
        /// The recording entity.
        recording_entity: String,
        /// The variant.
        variant: String,
    },
    /// The settlement zone is unknown to this machine, or the day out of its range.
    #[error("local times can't be computed: {0}")]
    Zone(#[from] jiff::Error),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SeriesSettings {
    /// The variant of the next file.
    pub fn variant_now<'a>(&'a self, state: &'a LedgerState) -> &'a str {
        let active = variant_in_force(state).filter(|_| self.follows_activation);
        active.unwrap_or(&self.variant)
    }
}

/// The next due file of every series, TAP before RAP.
///
/// # Errors
/// [`PinError::Zone`].
pub fn due(state: &LedgerState, settings: &ExportSettings, now: Millis) -> Result<Vec<Due>, PinError> {
    let Some(cluster) = &state.cluster else { return Ok(Vec::new()) };
    let zone = cluster.zone.as_str();
    let mut files = Vec::new();
    for export_type in [ExportType::Tap, ExportType::Rap] {
        for series in &settings.series {
            for operator in state.registry.iter().filter(|o| o.operator_id != SYSTEM_OPERATOR) {
                let key = SeriesKey {
                    series: series.name.clone(),
                    export_type,
                    operator_id: operator.operator_id.clone(),
                };
                let before = state.exports.reached(&key).copied();
                let day = before.map_or_else(|| first_day(state, operator, zone), |before| before.day.next());
                if is_due(state, settings, zone, &key, day, now)? {
                    let recording_entity = operator.recording_entity.clone();
                    files.push(Due { key, day, recording_entity, before });
                }
            }
        }
    }
    Ok(files)
}

/// The local day at the end of the hour in which the operator came in.
fn first_day(state: &LedgerState, operator: &Operator, zone: &str) -> Day {
    // An hour that spans midnight belongs to the day that begins in it: what is earlier goes into its file, too.
    let at = Millis(operator.effective_from.max(state.head.first_hour).end().0 - 1);
    Day::local(at, zone::offset_minutes(zone, at))
}

fn is_due(
    state: &LedgerState,
    settings: &ExportSettings,
    zone: &str,
    key: &SeriesKey,
    day: Day,
    now: Millis,
) -> Result<bool, PinError> {
    let day_end = zone::local_time(zone, day.next(), Time::midnight())?;
    if Millis(day_end.0 - 1).hour() >= state.head.open_hour {
        return Ok(false);
    }
    if key.export_type == ExportType::Tap {
        let is_requested = state.exports.requested(key).is_some_and(|requested| day <= requested);
        return Ok(is_requested || now >= zone::local_time(zone, day.next(), settings.tap_start)?);
    }
    // No request makes it earlier: what is adjusted until the cut-off would wait for the file of the next day.
    if !zone::is_cut_off(state, day, settings.rap_cut_off, now)? {
        return Ok(false);
    }
    // An adjustment never goes before its original's file; and which records that could not list is known only once it
    // is encoded.
    let tap = SeriesKey { export_type: ExportType::Tap, ..key.clone() };
    let encoding = state.exports.open().any(|file| file.content.is_none() && file.series_key() == tap);
    Ok(!encoding && state.exports.reached(&tap).is_some_and(|cut| cut.day >= day))
}

/// When a file of `day` has to be delivered.
///
/// # Errors
/// If the zone is unknown.
pub fn deadline(settings: &ExportSettings, zone: &str, day: Day) -> Result<Millis, jiff::Error> {
    zone::local_time(zone, day.next(), settings.tap_deadline)
}

/// What a due file is pinned to, if it is opened at `now`; and its variant.
///
/// # Errors
/// [`PinError`].
pub fn pin(
    store: &Store,
    variants: &Variants,
    settings: &ExportSettings,
    due: &Due,
    now: Millis,
) -> Result<ExportPins, PinError> {
    let state = store.state();
    let zone = state.cluster.as_ref().map_or("UTC", |cluster| cluster.zone.as_str());
    let variant = variant_of(&state, variants, settings, due)?;
    let format = match due.key.export_type {
        ExportType::Tap => &variant.tap,
        ExportType::Rap => &variant.rap,
    };
    let (series, export_type) = (&due.key.series, due.key.export_type);
    let last = state.exports.last_number(series, export_type, &due.recording_entity);
    let number = format.numbering().next(last).ok_or_else(|| PinError::Exhausted {
        recording_entity: due.recording_entity.clone(),
        variant: variant.name.clone(),
    })?;
    let cut_off_at = zone::local_time(zone, due.day.next(), Time::midnight())?;
    let mut pins = ExportPins {
        created_at: now,
        created_offset_minutes: zone::offset_minutes(zone, now),
        cut_off_at,
        cut_off_offset_minutes: zone::offset_minutes(zone, cut_off_at),
        encoder_version: ENCODER_VERSION,
        exchange_rates: settings
            .exchange_rates
            .iter()
            .map(|(currency, rate)| (currency.clone(), rate.to_string()))
            .collect(),
        export_type,
        file_name: String::new(),
        file_sequence_number: number,
        from_bucket: from_bucket(store, &state, zone, due)?,
        operator_id: due.key.operator_id.clone(),
        recipient: format.recipient().to_owned(),
        recording_entity: due.recording_entity.clone(),
        schema_hash: variant.hash,
        schema_variant: variant.name.clone(),
        sender_roaming_partner: format.sender(&due.recording_entity),
        series: series.clone(),
        settlement_day: due.day,
        upto_bucket: Hour(state.head.open_hour.0.saturating_sub(1)),
    };
    pins.file_name = format.file_name(&header(&pins));
    Ok(pins)
}

fn variant_of<'v>(
    state: &LedgerState,
    variants: &'v Variants,
    settings: &ExportSettings,
    due: &Due,
) -> Result<&'v Arc<Variant>, PinError> {
    let series = settings.series.iter().find(|series| series.name == due.key.series);
    let name = series.map_or("", |series| series.variant_now(state));
    variants.get(name).ok_or_else(|| PinError::NoVariant { variant: name.to_owned() })
}

/// First hour that can hold something new to the file.
fn from_bucket(store: &Store, state: &LedgerState, zone: &str, due: &Due) -> Result<Hour, PinError> {
    let Some(before) = due.before else { return Ok(state.head.first_hour) };
    let next = before.upto.next();
    if due.key.export_type == ExportType::Tap {
        // Records of days that were still to come when the file before was cut.
        let day = zone::local_time(zone, before.day.next(), Time::midnight())?;
        return Ok(next.min(Millis(day.0 - AHEAD_MS).hour()).max(state.head.first_hour));
    }
    // Adjustments that waited for a TAP file: of its own records, which it began to look for there.
    let tap = SeriesKey { export_type: ExportType::Tap, ..due.key.clone() };
    let opened: Vec<CdrId> = store
        .series(&tap)?
        .iter()
        .filter(|file| file.cut.ordinal >= before.ordinal)
        .map(|file| file.id)
        .collect();
    let mut from = next;
    for id in opened {
        from = store.export(id)?.map_or(from, |export| from.min(export.pins.from_bucket));
    }
    Ok(from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::export::REGULATOR;
    use crate::test_support::settlement::{TestSettlement, VARIANT, key};
    use cdr_core::export::step::ExportStep;

    fn settings() -> ExportSettings {
        let series = SeriesSettings {
            name: REGULATOR.to_owned(),
            variant: VARIANT.to_owned(),
            follows_activation: true,
        };
        ExportSettings {
            series: vec![series],
            tap_start: Time::constant(1, 30, 0, 0),
            tap_deadline: Time::constant(2, 0, 0, 0),
            rap_cut_off: Time::constant(2, 30, 0, 0),
            exchange_rates: BTreeMap::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_brings_a_tap_file_forward_and_no_rap_file() {
        let settlement = TestSettlement::begin(1).await;
        let proposer = &settlement.node.proposer;
        let due = || {
            let due = due(&proposer.state(), &settings(), proposer.clock().now()).unwrap();
            due.into_iter().map(|due| due.key.export_type).collect::<Vec<_>>()
        };
        for export_type in [ExportType::Tap, ExportType::Rap] {
            let SeriesKey { series, export_type, operator_id } = key(export_type);
            let settlement_day = settlement.pins(export_type).settlement_day;
            settlement
                .append(&ExportStep::Requested { export_type, operator_id, series, settlement_day })
                .await;
        }
        let until = |hour: &str| {
            let hour = Hour::parse(hour).unwrap();
            let settlement = &settlement;
            async move {
                while proposer.state().head.open_hour < hour {
                    settlement.pass_hour().await;
                }
            }
        };
        until("2026-04-20T19:00:00Z").await;
        assert_eq!(due(), [], "the day is not over");
        until("2026-04-20T20:00:00Z").await;
        assert_eq!(due(), [ExportType::Tap], "half an hour after midnight, an hour before it is due");
        settlement.tap_file().await;
        for hour in ["2026-04-20T20:00:00Z", "2026-04-20T21:00:00Z"] {
            until(hour).await;
            assert_eq!(due(), [], "adjustments of the hours until 02:30 belong into the file");
        }
        until("2026-04-20T22:00:00Z").await;
        assert_eq!(due(), [ExportType::Rap]);
    }
}
