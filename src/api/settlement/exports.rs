//! `GET /v1/cdr/exports` and `/v1/cdr/exports/{exportId}` (US-CDR-010, US-CDR-015).

use super::export_view::{item, whole};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::cursor::{self, List};
use crate::api::http::error::ApiError;
use crate::api::http::input::Input;
use crate::api::http::page::{Walk, close};
use crate::auth::SCOPE_READ;
use crate::zone;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::export::fold::export_id;
use cdr_core::export::{Export, ExportType};
use cdr_core::time::Day;
use cdr_core::{CdrId, LedgerState, Millis};
use cdr_storage::Store;
use serde_json::json;
use std::time::Duration;

/// What the list can be narrowed and paged by.
pub(in crate::api) const PARAMETERS: &[&str] = &[
    "from",
    "to",
    "operatorId",
    "recordingEntity",
    "exportType",
    "schemaVariant",
    "deliveryStatus",
    "filename",
    "cursor",
    "limit",
];

/// What an export's id looks like.
pub(in crate::api) const EXPORT_ID: &str = "an export id, `exp_` and 26 characters";
const STATUSES: &[&str] = &["PENDING", "FAILED", "DELIVERED_SFTP", "DELIVERED_API", "DELIVERED_DIRECTORY"];

/// Lists settlement files in the order in which they were opened; those of one recording entity in the order of their
/// numbers, and says where one is missing.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_READ, &uri, PARAMETERS)?;
    let (filter, limit) = (Filter::parse(&input)?, input.limit()?);
    let of = if filter.recording_entity.is_some() { List::ExportsOfEntity } else { List::Exports };
    let budget = service.ledger.scan_budget;
    read.raw(move |store| {
        let state = store.state();
        input.operator("operatorId", &state)?;
        let filter = filter.with_days(&input, &state)?;
        let after = cursor::after_id(store, of, &input)?;
        if filter.recording_entity.is_some() {
            of_entity(store, &filter, after, limit)
        } else {
            page(store, &filter, after, limit, budget)
        }
    })
    .await
}

/// One file, with signature, cut and totals.
pub(in crate::api) async fn one(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let id = path.parsed("exportId", EXPORT_ID, export_id)?;
    read.value(move |store| find(store, id).map(|export| whole(&export))).await
}

/// The file with this id.
///
/// # Errors
/// 404 if there is none.
pub(in crate::api) fn find(store: &Store, id: CdrId) -> Result<Export, ApiError> {
    let what = || format!("export {}", id.with_prefix(cdr_core::export::EXPORT_PREFIX));
    store.export(id)?.ok_or_else(|| ApiError::ExportNotFound { what: what() })
}

/// Which files are requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    from: Option<Day>,
    to: Option<Day>,
    operator_id: Option<String>,
    recording_entity: Option<String>,
    export_type: Option<ExportType>,
    schema_variant: Option<String>,
    delivery_status: Option<String>,
    file_name: Option<String>,
}

impl Filter {
    fn parse(input: &Input) -> Result<Self, ApiError> {
        let owned = |name| input.text(name).map(str::to_owned);
        let status = |text: &str| STATUSES.contains(&text).then(|| text.to_owned());
        Ok(Self {
            from: None,
            to: None,
            operator_id: owned("operatorId"),
            recording_entity: owned("recordingEntity"),
            export_type: input.parsed("exportType", "TAP_3_12 or RAP_1_5", export_type)?,
            schema_variant: owned("schemaVariant"),
            delivery_status: input.parsed("deliveryStatus", &STATUSES.join(", "), status)?,
            file_name: owned("filename"),
        })
    }

    /// With the settlement days from and to which files are requested; an instant stands for its day.
    fn with_days(self, input: &Input, state: &LedgerState) -> Result<Self, ApiError> {
        let expected = "a day such as 2026-04-20, or an instant of RFC 3339";
        let day = |text: &str| {
            Day::parse(text).or_else(|| Millis::parse_any_case(text).map(|at| local_day(state, at)))
        };
        let (from, to) = (input.parsed("from", expected, day)?, input.parsed("to", expected, day)?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(ApiError::invalid("to", "it is before from"));
        }
        Ok(Self { from, to, ..self })
    }

    fn fits(&self, export: &Export) -> bool {
        let pins = &export.pins;
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        self.from.is_none_or(|from| from <= pins.settlement_day)
            && self.to.is_none_or(|to| pins.settlement_day <= to)
            && same(&self.operator_id, &pins.operator_id)
            && same(&self.recording_entity, &pins.recording_entity)
            && self.export_type.is_none_or(|wanted| wanted == pins.export_type)
            && same(&self.schema_variant, &pins.schema_variant)
            && same(&self.file_name, &pins.file_name)
            && same(&self.delivery_status, &export.delivery_status())
    }
}

/// A kind of file, by its text.
pub(in crate::api) fn export_type(text: &str) -> Option<ExportType> {
    [ExportType::Tap, ExportType::Rap].into_iter().find(|known| known.as_str() == text)
}

/// The day that an instant lies in, in the settlement zone.
pub(in crate::api) fn local_day(state: &LedgerState, at: Millis) -> Day {
    let zone = state.cluster.as_ref().map_or("UTC", |cluster| cluster.zone.as_str());
    Day::local(at, zone::offset_minutes(zone, at))
}

/// A page in the order in which files were opened: full, unless nothing is left or `budget` is used up.
fn page(
    store: &Store,
    filter: &Filter,
    after: Option<CdrId>,
    limit: usize,
    budget: Duration,
) -> Result<Vec<u8>, ApiError> {
    // No file is opened before its day has begun anywhere.
    let first = filter.from.map(|day| CdrId::from_parts(day.start_utc().0, [0; 10]));
    let mut walk = Walk::new(limit, budget);
    store.exports(after.max(first), |export| walk.offer(export.id, export, |export| filter.fits(export)))?;
    let (found, next) = walk.end();
    let mut list = ListWriter::new();
    for export in &found {
        list.item(|out| serde_json::to_writer(out, &item(export)).map_err(ApiError::internal))?;
    }
    let next = cursor::next_id(store, List::Exports, next)?;
    Ok(close(list, after.is_none(), next.as_deref()))
}

/// A file's place in its numbering.
struct Numbered {
    export_type: ExportType,
    series: String,
    id: CdrId,
    number: u32,
    fits: bool,
}

/// A page of one recording entity's files: by kind and series, then in the order of their numbers. A few thousand a
/// year at most: their places are held in memory.
fn of_entity(
    store: &Store,
    filter: &Filter,
    after: Option<CdrId>,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let mut files = Vec::new();
    store.exports(None, |export| {
        let fits = filter.fits(&export);
        if filter.recording_entity.as_ref() == Some(&export.pins.recording_entity) {
            let (export_type, number) = (export.pins.export_type, export.pins.file_sequence_number);
            files.push(Numbered { export_type, series: export.pins.series, id: export.id, number, fits });
        }
        true
    })?;
    files.sort_by(|a, b| (a.export_type, &a.series, a.id).cmp(&(b.export_type, &b.series, b.id)));
    let start = match after {
        None => 0,
        Some(after) => {
            let at = files.iter().position(|file| file.id == after);
            at.ok_or_else(|| ApiError::invalid("cursor", "its file is not one of this list"))? + 1
        }
    };
    let (mut list, mut last, mut next) = (ListWriter::new(), None, None);
    for at in start..files.len() {
        let file = &files[at];
        if !file.fits {
            continue;
        }
        if list.len() == limit {
            next = cursor::next_id(store, List::ExportsOfEntity, last)?;
            break;
        }
        let mut shown = item(&find(store, file.id)?);
        shown.insert("gapBefore".to_owned(), json!(gap_before(&files, at)));
        list.item(|out| serde_json::to_writer(out, &shown).map_err(ApiError::internal))?;
        last = Some(file.id);
    }
    Ok(close(list, after.is_none(), next.as_deref()))
}

/// True if numbers are missing between a file and the one before it in the same numbering. A numbering that begins
/// again with 0 or 1 has come to its end before (tap-3-12-standard).
fn gap_before(files: &[Numbered], at: usize) -> bool {
    let file = &files[at];
    let same = |before: &&Numbered| before.export_type == file.export_type && before.series == file.series;
    let before = at.checked_sub(1).map(|before| &files[before]).filter(same);
    before.is_some_and(|before| {
        before.number.checked_add(1) != Some(file.number)
            && !(file.number <= 1 && before.number > file.number)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn files(numbers: &[(ExportType, u32)]) -> Vec<Numbered> {
        let place = |(id, (export_type, number)): (u8, &(ExportType, u32))| Numbered {
            export_type: *export_type,
            series: "regulator".to_owned(),
            id: CdrId([id; 16]),
            number: *number,
            fits: true,
        };
        (0..).zip(numbers).map(place).collect()
    }

    #[test]
    fn a_missing_number_is_a_gap_and_a_new_round_is_none() {
        use ExportType::{Rap, Tap};
        let files = files(&[(Tap, 4), (Tap, 5), (Tap, 7), (Tap, 1), (Tap, 2), (Tap, 2), (Rap, 9), (Rap, 8)]);
        let gaps: Vec<bool> = (0..files.len()).map(|at| gap_before(&files, at)).collect();
        assert_eq!(gaps, [false, false, true, false, false, true, false, true]);
    }

    #[test]
    fn days_are_days_or_instants_in_the_settlement_zone() {
        let days = |query: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            let input = Input::of_query(&uri, PARAMETERS).unwrap();
            let mut state = LedgerState::default();
            state.cluster = Some(cdr_core::state::Cluster {
                cluster_id: "t".to_owned(),
                generation: 1,
                zone: "Asia/Kabul".to_owned(),
                clock: cdr_core::command::ClockKind::System,
                dedup_horizon_hours: 1,
                hash_key: [0; 16],
            });
            Filter::parse(&input).unwrap().with_days(&input, &state).map(|filter| (filter.from, filter.to))
        };
        let day = |text: &str| Day::parse(text);
        assert_eq!(days("from=2026-04-20&to=2026-04-20"), Ok((day("2026-04-20"), day("2026-04-20"))));
        assert_eq!(days("from=2026-04-20T19:30:00Z"), Ok((day("2026-04-21"), None)));
        assert_eq!(days("to=2026-04-20T19:29:59Z"), Ok((None, day("2026-04-20"))));
        for (query, bad) in [("from=yesterday", "from"), ("from=2026-04-21&to=2026-04-20", "to")] {
            let refused = days(query).unwrap_err();
            assert!(matches!(refused, ApiError::Validation { field, .. } if field == bad), "{query}");
        }
    }
}
