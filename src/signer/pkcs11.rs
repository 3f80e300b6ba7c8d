//! Keys in an HSM, reached over PKCS#11.
//!
//! The library of the device is driven by one thread, which owns the session: PKCS#11 sessions can't be shared.
//! The token is found by its label, since slot numbers may change; a key pair by its label, or else
//! its `CKA_ID`, which is the key's name. Private keys stay where they are: nothing here reads one.
//!
//! A token that was unavailable is reached again only by finalizing and initializing the library, so that is what follows
//! every failure on a session that stood. A PIN that was refused is not tried again until another one is given: devices
//! lock themselves after a few.

mod error;
mod keys;
mod token;

use super::{SignError, Signer};
use cdr_core::key::{Algorithm, PublicKey};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use token::Token;

/// Environment variable with the token's PIN, where no file holds it.
pub const PIN_VARIABLE: &str = "CDR_SIGNER_PIN";

/// Requests that may wait for the device.
const MOST_WAITING: usize = 64;
/// How long a request waits for its answer; the device may still be at it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How the HSM is reached, and which keys it signs with.
#[derive(Clone, Debug)]
pub struct Pkcs11Settings {
    /// The device's PKCS#11 library.
    pub module: PathBuf,
    /// Label of the token.
    pub token_label: String,
    /// Where the PIN comes from.
    pub pin: PinSource,
    /// Name of the key that is to sign.
    pub key_id: String,
    /// How that key must sign.
    pub algorithm: Algorithm,
    /// Names of the keys that it replaced, of either algorithm.
    pub previous_key_ids: Vec<String>,
}

/// Where the PIN comes from; it is read for each login and kept nowhere.
#[derive(Clone, Debug)]
pub enum PinSource {
    /// A file; a line end behind the PIN does not count.
    File(PathBuf),
    /// [`PIN_VARIABLE`].
    Environment,
}

/// How long the device may take to close the session.
const LETS_GO_WITHIN: Duration = Duration::from_secs(5);

/// Signs with keys in an HSM.
pub struct Pkcs11Signer {
    key_id: String,
    token: String,
    /// None only while it is dropped.
    jobs: Option<SyncSender<Job>>,
    /// Disconnected once the thread has ended.
    ended: Mutex<Receiver<()>>,
}

type Job = Box<dyn FnOnce(&mut Token) + Send>;

impl Pkcs11Signer {
    /// Starts the thread that owns the session. The device is reached at the first request.
    ///
    /// # Errors
    /// [`SignError::Unavailable`] if there can be no thread.
    pub fn start(settings: Pkcs11Settings) -> Result<Self, SignError> {
        let (jobs, waiting) = sync_channel::<Job>(MOST_WAITING);
        let (key_id, mut token) = (settings.key_id.clone(), Token::new(settings));
        let name = token.name().to_owned();
        let (runs, ended) = sync_channel(0);
        let drive = move || {
            for job in &waiting {
                job(&mut token);
            }
            drop(token);
            drop(runs);
        };
        std::thread::Builder::new()
            .name("pkcs11".to_owned())
            .spawn(drive)
            .map_err(|e| SignError::Unavailable { what: name.clone(), why: format!("no thread: {e}") })?;
        Ok(Self { key_id, token: name, jobs: Some(jobs), ended: Mutex::new(ended) })
    }

    /// Has the owner of the session do `work`, and waits for what comes of it.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Token) -> Result<T, SignError> + Send + 'static,
    ) -> Result<T, SignError> {
        let away = |why: &str| SignError::Unavailable { what: self.token.clone(), why: why.to_owned() };
        let (answer, answered) = sync_channel(1);
        let job: Job = Box::new(move |token| {
            // The caller may have stopped waiting.
            let _ = answer.send(work(token));
        });
        let jobs = self.jobs.as_ref().ok_or_else(|| away("it was released"))?;
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => away("too many requests wait for it"),
            TrySendError::Disconnected(_) => away("the thread that owns it has ended: restart this node"),
        })?;
        answered.recv_timeout(ANSWER_WITHIN).unwrap_or_else(|silence| {
            Err(match silence {
                RecvTimeoutError::Timeout => away("it does not answer in time"),
                RecvTimeoutError::Disconnected => away("the request was abandoned"),
            })
        })
    }
}

impl Drop for Pkcs11Signer {
    /// Waits until the session is over: a process that ends while a library is being left may crash.
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(LETS_GO_WITHIN) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(token = self.token, "the HSM session was not closed in time");
        }
    }
}

impl Signer for Pkcs11Signer {
    fn active_key_id(&self) -> &str {
        &self.key_id
    }

    fn public_key(&self, key_id: &str) -> Result<PublicKey, SignError> {
        let key_id = key_id.to_owned();
        self.ask(move |token| token.public_key(&key_id))
    }

    fn sign(&self, key_id: &str, message: &[u8]) -> Result<[u8; 64], SignError> {
        let (key_id, message) = (key_id.to_owned(), message.to_vec());
        self.ask(move |token| token.sign(&key_id, &message))
    }
}
