//! The bytes of settlement files: `GET /v1/cdr/exports/{exportId}/file` and `/trace`.
//!
//! Any replica serves them: a file that is not on its disk is made again from the ledger, and must be the one that was
//! signed.

use super::exports::{EXPORT_ID, find};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::CDR_APPLIED_INDEX;
use crate::api::http::error::ApiError;
use crate::api::http::ledger::Work;
use crate::auth::{SCOPE_PII, SCOPE_READ};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Response, Uri, header};
use cdr_core::export::fold::export_id;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Bytes that are read from disk at once.
const CHUNK: usize = 64 * 1024;

/// Which of the two is requested.
#[derive(Clone, Copy)]
enum Part {
    File,
    Trace,
}

/// The file as it was signed. It has subscribers' numbers in it: `cdr:pii` is needed.
pub(in crate::api) async fn file(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    caller.require(SCOPE_READ)?;
    caller.require(SCOPE_PII)?;
    give(service, caller, path, uri, Part::File).await
}

/// What leads from every event of the file to its sealed row.
pub(in crate::api) async fn trace(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    give(service, caller, path, uri, Part::Trace).await
}

async fn give(
    service: Service,
    caller: Caller,
    path: PathInput,
    uri: Uri,
    part: Part,
) -> Result<Response<Body>, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let id = path.parsed("exportId", EXPORT_ID, export_id)?;
    let files = service.ledger.files.clone();
    let (path, applied_index) = read
        .on_store(Work::Verification, move |store| {
            let export = find(store, id)?;
            let unavailable = |reason: String| ApiError::Unavailable { dependency: "exports", reason };
            let files =
                files.ok_or_else(|| unavailable("this replica makes no settlement files".to_owned()))?;
            let at_hand = files.ensure(&export).map_err(|error| unavailable(error.to_string()))?;
            Ok(match part {
                Part::File => at_hand.path,
                Part::Trace => at_hand.trace,
            })
        })
        .await?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let opened = File::open(&path).await.map_err(ApiError::internal)?;
    let length = opened.metadata().await.map_err(ApiError::internal)?.len();
    let mut response = Response::new(Body::from_stream(chunks(opened)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let disposition = format!("attachment; filename=\"{name}\"");
    headers
        .insert(header::CONTENT_DISPOSITION, HeaderValue::try_from(disposition).map_err(ApiError::internal)?);
    headers.insert(CDR_APPLIED_INDEX, HeaderValue::from(applied_index));
    Ok(response)
}

fn chunks(file: File) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let n = file.read(&mut chunk).await?;
        chunk.truncate(n);
        Ok((n > 0).then(|| (Bytes::from(chunk), file)))
    })
}
