//! How a file gets into a place where others may look at any moment (US-CDR-013): written under `<name>.tmp`, compared in
//! size and SHA-256, and only then renamed, never over another file. SFTP and directories share this one path.

use super::error::{DeliveryError, ErrorClass, Place};
use super::parcel::{Item, Parcel, ReadError, Reading};
use cdr_core::Hash;
use cdr_core::hash::to_hex;

/// What came of a renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renamed {
    /// The file has its final name.
    Done,
    /// There is a file of that name already; nothing was changed.
    Exists,
}

/// A place that holds files by name. Its errors are those of the channel, ready to be reported.
pub(super) trait Store: Sync {
    /// Who it is, for errors.
    fn place(&self) -> &Place;

    /// Size of the file, `None` if there is none of that name.
    fn size(&self, name: &str) -> impl Future<Output = Result<Option<u64>, DeliveryError>> + Send;

    /// SHA-256 of the file's bytes, read back.
    fn sha256(&self, name: &str) -> impl Future<Output = Result<Hash, DeliveryError>> + Send;

    /// Writes a file, over whatever has that name, and returns when it is on the receiver's disk as far as the
    /// receiver can confirm that.
    fn write(
        &self,
        name: &str,
        item: &Item,
        reading: Reading,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Renames a file, but never over an existing one.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<Renamed, DeliveryError>> + Send;

    /// Removes a file, if it exists.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// Delivers the file and then its sidecars; says whether all were there already.
pub(super) async fn deliver(store: &impl Store, parcel: &Parcel) -> Result<bool, DeliveryError> {
    let already_there = put(store, &parcel.file).await?;
    for sidecar in &parcel.sidecars {
        put(store, sidecar).await?;
    }
    Ok(already_there)
}

/// Delivers one file; says whether it was there already.
async fn put(store: &impl Store, item: &Item) -> Result<bool, DeliveryError> {
    let temporary = item.temporary_name();
    if is_there(store, item).await? {
        // Left behind by an attempt that ended between the two steps of a renaming.
        tidy(store, &temporary).await;
        return Ok(true);
    }
    if let Err(error) = write(store, item, &temporary).await {
        // What can't be finished must not fill the receiver's disk.
        tidy(store, &temporary).await;
        return Err(error);
    }
    match store.rename(&temporary, item.name()).await? {
        Renamed::Done => still_whole(store, item).await.map(|()| false),
        Renamed::Exists => {
            // Another writer was faster: it is the same file, or there is trouble.
            let same = is_there(store, item).await;
            tidy(store, &temporary).await;
            let what = || format!("{} was there and has disappeared", item.name());
            if same? { Ok(true) } else { Err(store.place().error(ErrorClass::Unreachable, what())) }
        }
    }
}

/// Removes a temporary file if that can be done; the next attempt would overwrite it.
async fn tidy(store: &impl Store, temporary: &str) {
    if let Err(error) = store.remove(temporary).await {
        tracing::debug!(%error, "the temporary file stays");
    }
}

/// A deposed leader that still writes could have started the temporary file again just before the rename. That the file
/// is gone already is not a fault: it may have been fetched.
async fn still_whole(store: &impl Store, item: &Item) -> Result<(), DeliveryError> {
    match store.size(item.name()).await? {
        None => Ok(()),
        found => check_size(store.place(), item, item.name(), found),
    }
}

/// True if the receiver holds the file; an error if it holds another one of that name.
async fn is_there(store: &impl Store, item: &Item) -> Result<bool, DeliveryError> {
    let Some(size) = store.size(item.name()).await? else { return Ok(false) };
    let differs = if size == item.len() {
        let found = store.sha256(item.name()).await?;
        (found != *item.sha256()).then(|| format!("SHA-256 {}", to_hex(&found)))
    } else {
        Some(format!("{size} bytes"))
    };
    let Some(found) = differs else { return Ok(true) };
    let what = format!(
        "DUPLICATE_FILE: there is another {} with {found}; ours has {} bytes, SHA-256 {}",
        item.name(),
        item.len(),
        to_hex(item.sha256())
    );
    Err(store.place().error(ErrorClass::DuplicateFile, what))
}

async fn write(store: &impl Store, item: &Item, temporary: &str) -> Result<(), DeliveryError> {
    let reading = item.read().await.map_err(|e| unread(store.place(), item, &e))?;
    store.write(temporary, item, reading).await?;
    check_size(store.place(), item, temporary, store.size(temporary).await?)?;
    let found = store.sha256(temporary).await?;
    if found == *item.sha256() {
        return Ok(());
    }
    let what = format!(
        "INTEGRITY_MISMATCH: {temporary} arrived with SHA-256 {} in place of {}; it was not renamed",
        to_hex(&found),
        to_hex(item.sha256())
    );
    Err(store.place().error(ErrorClass::IntegrityMismatch, what))
}

fn check_size(place: &Place, item: &Item, name: &str, found: Option<u64>) -> Result<(), DeliveryError> {
    if found == Some(item.len()) {
        return Ok(());
    }
    let found = found.map_or("is not there".to_owned(), |size| format!("has {size} bytes"));
    let what = format!("INTEGRITY_MISMATCH: {name} {found} in place of {} bytes", item.len());
    Err(place.error(ErrorClass::IntegrityMismatch, what))
}

/// The error of a file that could not be read on this side.
pub(super) fn unread(place: &Place, item: &Item, error: &ReadError) -> DeliveryError {
    match error {
        ReadError::Io(_) => {
            place.error(ErrorClass::Source, format!("{} can't be read on this replica: {error}", item.name()))
        }
        ReadError::Damaged(_) => place.error(
            ErrorClass::IntegrityMismatch,
            format!(
                "INTEGRITY_MISMATCH: {} of this replica is not the file that was signed: {error}",
                item.name()
            ),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::delivery::Directory;
    use bytes::Bytes;
    use std::path::{Path, PathBuf};

    /// What happens to a file at the receiver.
    #[derive(Clone, Copy)]
    enum Fault {
        /// A byte changes between writing and reading back.
        Changed,
        /// The end is lost.
        Cut,
        /// Another writer starts the temporary file again just before it is renamed.
        BegunAnew,
        /// It is fetched as soon as it has its name.
        Fetched,
    }

    /// A directory with a fault.
    struct Faulty(Directory, PathBuf, Fault);

    impl Store for Faulty {
        fn place(&self) -> &Place {
            self.0.place()
        }

        async fn size(&self, name: &str) -> Result<Option<u64>, DeliveryError> {
            self.0.size(name).await
        }

        async fn sha256(&self, name: &str) -> Result<Hash, DeliveryError> {
            self.0.sha256(name).await
        }

        async fn write(&self, name: &str, item: &Item, reading: Reading) -> Result<(), DeliveryError> {
            self.0.write(name, item, reading).await?;
            let mut bytes = std::fs::read(self.1.join(name)).unwrap();
            match self.2 {
                Fault::Changed => bytes[3] ^= 1,
                Fault::Cut => bytes.truncate(3),
                Fault::BegunAnew | Fault::Fetched => {}
            }
            std::fs::write(self.1.join(name), bytes).unwrap();
            Ok(())
        }

        async fn rename(&self, from: &str, to: &str) -> Result<Renamed, DeliveryError> {
            if matches!(self.2, Fault::BegunAnew) {
                std::fs::write(self.1.join(from), b"").unwrap();
            }
            let renamed = self.0.rename(from, to).await;
            if matches!(self.2, Fault::Fetched) {
                std::fs::remove_file(self.1.join(to)).unwrap();
            }
            renamed
        }

        async fn remove(&self, name: &str) -> Result<(), DeliveryError> {
            self.0.remove(name).await
        }
    }

    async fn deliver_with(dir: &Path, fault: Fault) -> Result<bool, DeliveryError> {
        let file = Item::bytes("A.tap", Bytes::from_static(b"what was signed")).unwrap();
        let store = Faulty(Directory::new(dir), dir.to_owned(), fault);
        deliver(&store, &Parcel { file, sidecars: Vec::new() }).await
    }

    #[tokio::test]
    async fn what_arrives_otherwise_never_gets_its_name() {
        for (fault, word) in [(Fault::Changed, "SHA-256"), (Fault::Cut, "has 3 bytes")] {
            let dir = tempfile::tempdir().unwrap();
            let error = deliver_with(dir.path(), fault).await.unwrap_err();
            assert_eq!(error.class, ErrorClass::IntegrityMismatch);
            assert!(error.what.contains(word), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        }
    }

    #[tokio::test]
    async fn a_file_that_shrank_while_it_was_renamed_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let error = deliver_with(dir.path(), Fault::BegunAnew).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::IntegrityMismatch);
        assert!(error.what.contains("A.tap has 0 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_receiver_may_fetch_a_file_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!deliver_with(dir.path(), Fault::Fetched).await.unwrap());
    }
}
