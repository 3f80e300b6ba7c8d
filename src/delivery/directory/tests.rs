#![allow(clippy::unwrap_used)]

use super::*;
use crate::delivery::{BadName, FileSource};
use bytes::Bytes;
use cdr_core::hash::sha256;
use std::sync::Arc;
use tempfile::TempDir;

const NAME: &str = "TAP_4120101_ATRA_00000001.20260420.tap";

fn parcel(bytes: &[u8]) -> Result<Parcel, BadName> {
    let file = Item::bytes(NAME, Bytes::copy_from_slice(bytes))?;
    let sidecar = Item::bytes(&format!("{NAME}.sig"), Bytes::from_static(b"Signature: x"))?;
    Ok(Parcel { file, sidecars: vec![sidecar] })
}

/// Names in the directory, and what they hold.
fn names(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir.path().join("drop"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn drop_in(dir: &TempDir) -> Directory {
    Directory::new(&dir.path().join("drop"))
}

fn put(dir: &TempDir, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(dir.path().join("drop")).unwrap();
    std::fs::write(dir.path().join("drop").join(name), bytes).unwrap();
}

#[tokio::test]
async fn a_file_arrives_whole_with_its_sidecar_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = dir.path().join("made");
    std::fs::write(&path, &large).unwrap();
    let source = Arc::new(FileSource::new(path).await.unwrap());
    let mut parcel = parcel(b"").unwrap();
    parcel.file = Item::new(NAME, source, sha256(&large)).unwrap();

    let receipt = drop_in(&dir).deliver(&parcel).await.unwrap();
    assert_eq!((receipt.channel, receipt.already_there), (ChannelKind::Directory, false));
    assert_eq!((receipt.sha256, receipt.receipt_id), (sha256(&large), None));
    assert_eq!(names(&dir), [NAME.to_owned(), format!("{NAME}.sig")]);
    assert_eq!(std::fs::read(dir.path().join("drop").join(NAME)).unwrap(), large);

    assert!(drop_in(&dir).deliver(&parcel).await.unwrap().already_there);
    std::fs::remove_file(dir.path().join("drop").join(format!("{NAME}.sig"))).unwrap();
    assert!(drop_in(&dir).deliver(&parcel).await.unwrap().already_there);
    assert_eq!(names(&dir), [NAME.to_owned(), format!("{NAME}.sig")], "a missing sidecar is delivered");
}

#[tokio::test]
async fn what_an_earlier_attempt_left_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, &format!("{NAME}.tmp"), b"longer than what comes now");
    assert!(!drop_in(&dir).deliver(&parcel(b"whole").unwrap()).await.unwrap().already_there);
    assert_eq!(std::fs::read(dir.path().join("drop").join(NAME)).unwrap(), b"whole");
    put(&dir, &format!("{NAME}.tmp"), b"whole");
    assert!(drop_in(&dir).deliver(&parcel(b"whole").unwrap()).await.unwrap().already_there);
    assert_eq!(names(&dir), [NAME.to_owned(), format!("{NAME}.sig")]);
}

#[tokio::test]
async fn another_file_of_that_name_is_never_touched() {
    for other in [&b"other"[..], b"of another length"] {
        let dir = tempfile::tempdir().unwrap();
        put(&dir, NAME, other);
        let error = drop_in(&dir).deliver(&parcel(b"whole").unwrap()).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::DuplicateFile);
        assert!(error.what.starts_with(&format!("DUPLICATE_FILE: there is another {NAME} with ")), "{error}");
        assert_eq!(std::fs::read(dir.path().join("drop").join(NAME)).unwrap(), other);
        assert_eq!(names(&dir), [NAME], "no sidecar beside a file that is not ours");
    }
}

#[tokio::test]
async fn a_file_that_is_not_the_signed_one_never_gets_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut damaged = parcel(b"").unwrap();
    damaged.file = Item::new(NAME, Arc::new(Bytes::from_static(b"whose")), sha256(b"whole")).unwrap();
    let error = drop_in(&dir).deliver(&damaged).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::IntegrityMismatch);
    assert_eq!(names(&dir), Vec::<String>::new());

    let path = dir.path().join("made");
    std::fs::write(&path, b"whole").unwrap();
    damaged.file =
        Item::new(NAME, Arc::new(FileSource::new(path.clone()).await.unwrap()), sha256(b"whole")).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(drop_in(&dir).deliver(&damaged).await.unwrap_err().class, ErrorClass::Source);
    assert_eq!(names(&dir), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_never_replaces_a_file() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "from", b"new");
    put(&dir, "to", b"old");
    assert_eq!(drop_in(&dir).rename("from", "to").await.unwrap(), Renamed::Exists);
    assert_eq!(std::fs::read(dir.path().join("drop/to")).unwrap(), b"old");
    assert_eq!(drop_in(&dir).rename("from", "free").await.unwrap(), Renamed::Done);
    assert_eq!(names(&dir), ["free", "to"]);
}
