//! Every event of a file against the rows that the ledger has: their hashes, recomputed, and its bytes, encoded again.

use super::{Contents, Event, Events, ExportArguments, Findings, REGULATOR, violated};
use crate::remote::Remote;
use anyhow::{Context, bail};
use cdr_core::adjust::is_unpriced;
use cdr_core::hash::{sha256, to_hex};
use cdr_core::reading::cdr_row;
use cdr_core::row::Row;
use cdr_core::{CdrId, Hash, Millis};
use cdr_tap::{CallEncoder, FileHeader, FileKind, LocalTime, ReturnEncoder, Returned, Variant, Variants};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Records that are requested at once.
const PAGE: usize = 500;

type Object = Map<String, Value>;

/// Compares a file with the ledger.
pub(super) fn hold(
    remote: &Remote,
    arguments: &ExportArguments,
    contents: Contents,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let name = arguments.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(export) = export_named(remote, &name)? else {
        return violated(format!("the ledger knows no export {name}"));
    };
    let series = export.get("series").and_then(Value::as_str).unwrap_or_default();
    if contents.kind == FileKind::Rap && series != REGULATOR {
        let why = format!(
            "the adjustments: the API shows the RAP files of series {REGULATOR} only, this is one of {series}"
        );
        findings.unchecked.push(why);
        return Ok(());
    }
    let count = contents.events.len();
    let (what, encoded) = match contents.kind {
        FileKind::Rap => ("adjustments", returns(remote, &export, contents)?),
        FileKind::Tap => ("records", listed(remote, &export, &contents.variant, contents.events)?),
    };
    findings.checked.push(format!("{count} events are {what} of the ledger, with the hashes of the trace"));
    if encoded == count as u64 {
        findings
            .checked
            .push(format!("{count} events, encoded again from these {what}, have the same bytes"));
    } else {
        findings.unchecked.push("the bytes of every event, for lack of a token with cdr:pii".to_owned());
    }
    Ok(())
}

/// Compares the call events of a TAP file with records; how many could be encoded again.
fn listed(remote: &Remote, export: &Value, variant: &Variant, mut events: Events) -> anyhow::Result<u64> {
    let header = header_of(export).context("the node's answer about the export can't be read")?;
    let mut encoder = CallEncoder::new(&variant.tap, &header)?;
    let mut encoded = 0;
    let field = |name: &str| export.pointer(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let hours = format!(
        "operatorId={}&bucketHourFrom={}&bucketHourTo={}",
        field("/operatorId"),
        field("/fromBucket"),
        field("/uptoBucket")
    );
    let mut cursor = None;
    loop {
        let behind = cursor.map(|cursor: String| format!("&cursor={cursor}")).unwrap_or_default();
        let page = remote.get(&format!("/v1/cdr/records?{hours}&limit={PAGE}{behind}"))?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            let Value::Object(item) = item else { continue };
            let id = item.get("cdrId").and_then(Value::as_str).and_then(CdrId::parse);
            if let Some((id, event)) = id.and_then(|id| events.remove_entry(&id)) {
                encoded += u64::from(one(remote, id, item, &event, &mut encoder)?);
            }
        }
        cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    // Records from before those hours: they waited for a price, or in quarantine.
    for (id, event) in events {
        let item = remote.get(&format!("/v1/cdr/records/{id}"))?;
        let Value::Object(item) = item else { bail!("the node's answer about {id} can't be read") };
        encoded += u64::from(one(remote, id, &item, &event, &mut encoder)?);
    }
    Ok(encoded)
}

/// One call event; true if its bytes could be compared.
fn one(
    remote: &Remote,
    id: CdrId,
    item: &Object,
    event: &Event,
    encoder: &mut CallEncoder<'_>,
) -> anyhow::Result<bool> {
    let adjustment = match event.adjustment {
        None => None,
        Some(adjustment) => match remote.get(&format!("/v1/cdr/records/{adjustment}"))? {
            Value::Object(row) => Some(row),
            _ => bail!("the node's answer about {adjustment} can't be read"),
        },
    };
    let carried = adjustment.as_ref().unwrap_or(item);
    check_stored_hash(id, carried, &event.row_hash)?;
    if carried.contains_key("masked") || item.contains_key("masked") {
        return Ok(false);
    }
    let (row, of) = (cdr_row(item)?, cdr_row(carried)?);
    check_hash(id, &of, &event.row_hash)?;
    let Some(sms) = of.sms() else { bail!("record {id} is not a CDR") };
    match encoder.encode(&row, sms) {
        Ok(call) if sha256(call.bytes) == event.bytes => Ok(true),
        Ok(_) => violated(format!("record {id}, encoded again, has other bytes than its event in the file")),
        Err(error) => violated(format!("record {id} is in the file, but can't be encoded: {error}")),
    }
}

/// Compares the returns of a RAP file with adjustments, and the call events in them with what the TAP file listed; how
/// many could be encoded again.
fn returns(remote: &Remote, export: &Value, contents: Contents) -> anyhow::Result<u64> {
    let Contents { variants, variant, events, .. } = contents;
    let header = header_of(export).context("the node's answer about the export can't be read")?;
    let export_id = export.get("exportId").and_then(Value::as_str).unwrap_or_default();
    let mut encoder = ReturnEncoder::new(variant, &header)?;
    let mut tap_files = HashMap::new();
    let mut encoded = 0;
    for (adjustment, event) in &events {
        let line = Line::read(remote, event.record)?;
        let Some(own) = line.adjustments.iter().find(|own| id_of(&own.row) == Some(*adjustment)) else {
            return violated(format!(
                "the ledger knows no adjustment {adjustment} of record {}",
                event.record
            ));
        };
        check_stored_hash(*adjustment, &own.row, &event.row_hash)?;
        if own.text("rapFileId") != Some(export_id) {
            return violated(format!("by the ledger, adjustment {adjustment} is not returned by this file"));
        }
        if own.row.contains_key("masked") {
            continue;
        }
        let of = own.text("tapFileId").context("tapFileId is missing")?;
        if !tap_files.contains_key(of) {
            tap_files.insert(of.to_owned(), TapFile::read(remote, &variants, of)?);
        }
        line.encode(own, *adjustment, event, &tap_files[of], &mut encoder)?;
        encoded += 1;
    }
    Ok(encoded)
}

/// A TAP file from which call events are returned.
struct TapFile {
    variant: Arc<Variant>,
    header: FileHeader,
}

impl TapFile {
    fn read(remote: &Remote, variants: &Variants, id: &str) -> anyhow::Result<Self> {
        let export = remote.get(&format!("/v1/cdr/exports/{id}"))?;
        let text = |name: &str| export.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, hash) = (text("schemaVariant"), text("schemaHash"));
        let variant = variants.get(name).filter(|variant| to_hex(&variant.hash) == hash);
        let Some(variant) = variant else {
            bail!(
                "schema variant {name} of hash {hash}, by which {id} was made, is not there: get it from the sender"
            );
        };
        let header = header_of(&export).context("the node's answer about the TAP file can't be read")?;
        Ok(Self { variant: variant.clone(), header })
    }
}

/// A record and its adjustments, oldest first.
struct Line {
    original: Object,
    adjustments: Vec<Adjustment>,
}

/// What the API shows of an adjustment beside its row.
const BESIDE: [&str; 5] = ["adjustmentId", "originalCdrId", "rapBatchedAt", "rapFileId", "tapFileId"];

/// An adjustment as the API shows it.
struct Adjustment {
    row: Object,
    beside: Object,
}

impl Adjustment {
    fn of(mut row: Object) -> Self {
        let beside = BESIDE.into_iter().filter_map(|name| row.remove_entry(name)).collect();
        Self { row, beside }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.beside.get(name).and_then(Value::as_str)
    }
}

impl Line {
    fn read(remote: &Remote, record: CdrId) -> anyhow::Result<Self> {
        let unreadable = || format!("the node's answer about {record} can't be read");
        let Value::Object(original) = remote.get(&format!("/v1/cdr/records/{record}"))? else {
            bail!(unreadable())
        };
        let Value::Array(items) = remote.get(&format!("/v1/cdr/{record}/adjustments"))?["items"].take()
        else {
            bail!(unreadable())
        };
        let adjustments: Option<Vec<Adjustment>> = items
            .into_iter()
            .map(|item| match item {
                Value::Object(row) => Some(Adjustment::of(row)),
                _ => None,
            })
            .collect();
        Ok(Self { original, adjustments: adjustments.with_context(unreadable)? })
    }

    /// Encodes the return of an adjustment again.
    fn encode(
        &self,
        own: &Adjustment,
        id: CdrId,
        event: &Event,
        tap_file: &TapFile,
        encoder: &mut ReturnEncoder,
    ) -> anyhow::Result<()> {
        let (original, adjustment) = (cdr_row(&self.original)?, cdr_row(&own.row)?);
        check_hash(id, &adjustment, &event.row_hash)?;
        let rows: Result<Vec<Row<'_>>, _> = self.adjustments.iter().map(|each| cdr_row(&each.row)).collect();
        let rows = rows?;
        // The TAP file lists the first row that has a price, or a record that never had one.
        let is_priced = |row: &&Row<'_>| row.sms().is_some_and(|sms| !is_unpriced(sms));
        let carried = [&original].into_iter().chain(&rows).find(is_priced).unwrap_or(&original);
        let listed = carried.sms().with_context(|| format!("record {} is not a CDR", event.record))?;
        let encoded = encoder.encode(&Returned {
            adjustment: &adjustment,
            original: &original,
            listed,
            tap_variant: &tap_file.variant,
            tap_header: &tap_file.header,
        });
        match encoded {
            Ok(call) if sha256(call.bytes) == event.bytes => Ok(()),
            Ok(_) => violated(format!(
                "adjustment {id}, encoded again, has other bytes than its event in the file"
            )),
            Err(error) => violated(format!("adjustment {id} is in the file, but can't be encoded: {error}")),
        }
    }
}

fn id_of(row: &Object) -> Option<CdrId> {
    row.get("cdrId").and_then(Value::as_str).and_then(CdrId::parse)
}

/// The hash that the ledger stores beside a row must be the trace's.
fn check_stored_hash(id: CdrId, row: &Object, expected: &Hash) -> anyhow::Result<()> {
    if row.get("rowHash").and_then(Value::as_str) == Some(to_hex(expected).as_str()) {
        return Ok(());
    }
    violated(format!("record {id} has another hash in the ledger than in the trace"))
}

/// The row's content must have that hash.
fn check_hash(id: CdrId, row: &Row<'_>, expected: &Hash) -> anyhow::Result<()> {
    if cdr_core::canonical::row_hash(row, &mut Vec::new()) == *expected {
        return Ok(());
    }
    violated(format!("record {id} does not have the hash that the ledger gives it"))
}

/// What the node knows of the file with this name.
fn export_named(remote: &Remote, name: &str) -> anyhow::Result<Option<Value>> {
    let mut cursor = String::new();
    loop {
        let page = remote.get(&format!("/v1/cdr/exports?limit={PAGE}{cursor}"))?;
        let items = page.get("items").and_then(Value::as_array).into_iter().flatten();
        let mut named = items.filter(|item| item.get("filename").and_then(Value::as_str) == Some(name));
        if let Some(id) = named.next().and_then(|item| item.get("exportId")).and_then(Value::as_str) {
            return remote.get(&format!("/v1/cdr/exports/{id}")).map(Some);
        }
        match page.get("nextCursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(None),
        }
    }
}

/// What the bytes of events depend on.
fn header_of(export: &Value) -> anyhow::Result<FileHeader> {
    let text =
        |name: &str| export.get(name).and_then(Value::as_str).with_context(|| format!("{name} is missing"));
    let at = Millis::parse(text("createdAt")?).context("createdAt is not an instant")?;
    let created = LocalTime::new(at, 0);
    let rates = match export.get("exchangeRates") {
        Some(Value::Object(rates)) => rates.clone(),
        _ => Object::new(),
    };
    let rate = |(currency, rate): (String, Value)| Some((currency, rate.as_str()?.parse().ok()?));
    Ok(FileHeader {
        recording_entity: text("recordingEntity")?.to_owned(),
        sender: text("senderRoamingPartner")?.to_owned(),
        recipient: text("recipient")?.to_owned(),
        sequence: export.get("fileSequenceNumber").and_then(Value::as_u64).unwrap_or(0) as u32,
        settlement_day: text("settlementDay")?.parse()?,
        created,
        cut_off: created,
        available: created,
        test: false,
        exchange_rates: rates.into_iter().filter_map(rate).collect(),
    })
}
