//! Whether the names of settlement files distinguish the series: two files of one name would collide at the receiver, which
//! keeps the first and refuses the second for good.

use cdr_core::export::{Export, ExportType};
use cdr_core::{LedgerState, Millis};
use cdr_storage::{Store, StoreError};
use cdr_tap::{FileHeader, FileKind, Format, LocalTime, Variant};
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers with which names are tried: one short, one as long as they come.
const TRIED_NUMBERS: [u32; 2] = [1, 12_345];
/// Day with which names are tried.
const TRIED_DAY: Date = Date::constant(2026, 4, 20);

/// Files that would have the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{one} and {other} would both be named {name}: the receiver keeps one of them. Give each variant names of its own \
     (naming.live in its tap.toml and rap.toml), or make files by one of them alone"
)]
pub struct SameName {
    one: String,
    other: String,
    name: String,
}

/// The names are not distinct, or that can't be decided.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// They are not.
    #[error(transparent)]
    Same(#[from] SameName),
    /// The ledger's files can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A series and the variant that makes its files.
pub type MadeBy<'a> = (&'a str, &'a Arc<Variant>);

/// Whose numbers are counted together: one behind the other, they never give a name twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    series: String,
    export_type: ExportType,
    recording_entity: String,
}

impl Counted {
    fn of(export: &Export) -> Self {
        let pins = &export.pins;
        Self {
            series: pins.series.clone(),
            export_type: pins.export_type,
            recording_entity: pins.recording_entity.clone(),
        }
    }

    fn shown(&self, variant: &str) -> String {
        let Self { series, export_type, recording_entity } = self;
        format!("{} files of {recording_entity} in series {series} (by {variant})", export_type.as_str())
    }
}

/// Refuses series of which two could give files of the same name, for operators with these recording entities.
///
/// # Errors
/// [`SameName`].
pub fn tell_apart(series: &[MadeBy<'_>], recording_entities: &[&str]) -> Result<(), SameName> {
    for number in TRIED_NUMBERS {
        let mut seen = BTreeMap::<String, (Counted, &str)>::new();
        for (counted, format, variant) in streams(series, recording_entities) {
            let name = name(format, &counted.recording_entity, number, TRIED_DAY);
            if let Some((other, by)) = seen.get(&name).filter(|(other, _)| *other != counted) {
                return Err(SameName { one: other.shown(by), other: counted.shown(variant), name });
            }
            seen.insert(name, (counted, variant));
        }
    }
    Ok(())
}

/// The same, and that no file to come has the name of one that the ledger has: of a series that is gone, for example.
/// Blocks.
///
/// # Errors
/// [`NamesError`].
pub fn tell_apart_in(
    store: &Store,
    series: &[MadeBy<'_>],
    recording_entities: &[&str],
) -> Result<(), NamesError> {
    tell_apart(series, recording_entities)?;
    let state = store.state();
    let streams = streams(series, recording_entities);
    let mut same = None;
    store.exports(None, |export| {
        same = to_come(&state, &streams, &export);
        same.is_none()
    })?;
    same.map_or(Ok(()), |same| Err(same.into()))
}

/// Recording entities of the operators that are configured and of those that the ledger knows.
pub fn recording_entities<'a>(
    configured: impl Iterator<Item = &'a str>,
    state: &'a LedgerState,
) -> Vec<&'a str> {
    let known = state.registry.iter().map(|operator| operator.recording_entity.as_str());
    let mut all: Vec<&str> = configured.chain(known).filter(|entity| !entity.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn streams<'a>(series: &[MadeBy<'a>], recording_entities: &[&str]) -> Vec<(Counted, &'a Format, &'a str)> {
    let mut streams = Vec::new();
    for (series, variant) in series {
        for (export_type, kind) in [(ExportType::Tap, FileKind::Tap), (ExportType::Rap, FileKind::Rap)] {
            for entity in recording_entities {
                let (series, recording_entity) = ((*series).to_owned(), (*entity).to_owned());
                let counted = Counted { series, export_type, recording_entity };
                streams.push((counted, variant.format(kind), variant.name.as_str()));
            }
        }
    }
    streams
}

/// The file to come that would have the name of the existing `export`.
fn to_come(state: &LedgerState, streams: &[(Counted, &Format, &str)], export: &Export) -> Option<SameName> {
    let (pins, own) = (&export.pins, Counted::of(export));
    let number = pins.file_sequence_number;
    let others = streams.iter().filter(|(counted, _, _)| *counted != own);
    let mut coming = others.filter(|(counted, _, _)| {
        let last = state.exports.last_number(&counted.series, counted.export_type, &counted.recording_entity);
        last.is_none_or(|last| last < number)
    });
    let day = crate::zone::date(pins.settlement_day);
    let (counted, _, variant) = coming.find(|(counted, format, _)| {
        name(format, &counted.recording_entity, number, day) == pins.file_name
    })?;
    let one = format!("export {}", export.name());
    Some(SameName { one, other: counted.shown(variant), name: pins.file_name.clone() })
}

fn name(format: &Format, recording_entity: &str, number: u32, day: Date) -> String {
    let at = LocalTime::new(Millis(0), 0);
    format.file_name(&FileHeader {
        recording_entity: recording_entity.to_owned(),
        sender: format.sender(recording_entity),
        recipient: format.recipient().to_owned(),
        sequence: number,
        settlement_day: day,
        created: at,
        cut_off: at,
        available: at,
        test: false,
        exchange_rates: BTreeMap::new(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::export::REGULATOR;
    use crate::test_support::settlement::TestSettlement;
    use cdr_tap::Variants;
    use std::path::Path;

    fn variants() -> Variants {
        Variants::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas")).unwrap()
    }

    fn told_apart(series: &[(&str, &str)], entities: &[&str]) -> Result<(), String> {
        let variants = variants();
        let series: Vec<MadeBy<'_>> =
            series.iter().map(|(series, variant)| (*series, variants.get(variant).unwrap())).collect();
        tell_apart(&series, entities).map_err(|error| error.to_string())
    }

    #[test]
    fn series_whose_files_would_have_one_name_are_refused() {
        let entities = ["4120101", "4122001"];
        let regulator = ("regulator", "atra-tap-v2");
        told_apart(&[regulator], &entities).unwrap();
        told_apart(&[regulator, ("tap-3-12-standard", "tap-3-12-standard")], &entities).unwrap();
        let why = told_apart(&[regulator, ("atra-tap-v1", "atra-tap-v1")], &entities).unwrap_err();
        assert!(
            why.contains("series regulator (by atra-tap-v2)") && why.contains("(by atra-tap-v1)"),
            "{why}"
        );
        assert!(why.contains("TAP_4120101_41201_00000001.20260420.tap"), "{why}");
        // The standard names a file by the first five characters of the recording entity, numbered for each entity.
        let standard = [("regulator", "tap-3-12-standard")];
        told_apart(&standard, &entities).unwrap();
        let why = told_apart(&standard, &["4120101", "4120102"]).unwrap_err();
        assert!(why.contains("4120101") && why.contains("4120102"), "{why}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_name_that_the_ledger_has_is_not_given_again() {
        let settlement = TestSettlement::begin(1).await;
        settlement.pass_hour().await;
        let file = settlement.tap_file().await;
        let (store, variants) = (settlement.node.proposer.store(), settlement.files.variants());
        let series = |series, variant| [(series, variants.get(variant).unwrap())];
        tell_apart_in(store, &series(REGULATOR, "atra-tap-v2"), &["4120101"]).unwrap();
        // The series goes on with its numbers, by whichever variant.
        tell_apart_in(store, &series(REGULATOR, "atra-tap-v1"), &["4120101"]).unwrap();
        // Another one begins with the first number.
        let again = tell_apart_in(store, &series("atra-tap-v1", "atra-tap-v1"), &["4120101"]);
        let why = again.unwrap_err().to_string();
        assert!(why.contains(&file.name()) && why.contains(&file.pins.file_name), "{why}");
        let standard = series("tap-3-12-standard", "tap-3-12-standard");
        tell_apart_in(store, &standard, &["4120101"]).unwrap();
    }
}
