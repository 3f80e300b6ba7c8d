//! Adjustments as lists show them: the row, its ids, and the RAP file that returns it (US-CDR-008).

use super::query::push_stored;
use crate::api::http::answer::ListWriter;
use crate::api::http::error::ApiError;
use cdr_core::export::EXPORT_PREFIX;
use cdr_storage::{Store, StoredRow};
use serde_json::json;

/// Appends adjustments to a list; `series` is whose RAP files count.
///
/// # Errors
/// If rows, files or quarantine can't be read.
pub(in crate::api) fn push_adjustments(
    store: &Store,
    series: Option<&str>,
    rows: &[StoredRow],
    sees_numbers: bool,
    list: &mut ListWriter,
) -> Result<(), ApiError> {
    let lines = store.lines(rows)?;
    let with_lines: Vec<(&StoredRow, &[StoredRow])> =
        rows.iter().zip(lines.iter().map(Vec::as_slice)).collect();
    let batches = match series {
        Some(series) => store.rap_batches(series, &with_lines)?,
        None => vec![None; rows.len()],
    };
    for ((row, line), batch) in with_lines.into_iter().zip(batches) {
        let original = line.first().unwrap_or(row).row()?.frame.cdr_id.to_string();
        let more = json!({
            "adjustmentId": row.row()?.frame.cdr_id.with_prefix("adj_"),
            "originalCdrId": original,
            "rapBatchedAt": batch.map(|batch| batch.batched_at),
            "rapFileId": batch.map(|batch| batch.file.with_prefix(EXPORT_PREFIX)),
            "tapFileId": batch.map(|batch| batch.tap_file.with_prefix(EXPORT_PREFIX)),
        });
        let more = serde_json::to_vec(&more).map_err(ApiError::internal)?;
        list.item(|out| {
            push_stored(store, row, sees_numbers, out)?;
            // One object of two.
            out.pop();
            out.push(b',');
            out.extend_from_slice(&more[1..]);
            Ok::<_, ApiError>(())
        })?;
    }
    Ok(())
}
