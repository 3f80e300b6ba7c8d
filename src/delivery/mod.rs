//! Files on their way to the regulator: SFTP first (US-CDR-013), its REST interface as the fallback (US-CDR-014), or a
//! directory of this machine for development.
//!
//! A [`Channel`] makes one attempt to deliver one [`Parcel`] and reports the outcome; it keeps nothing and may be used
//! again at any time, on any replica: a file that exists already, with the same hash, is a finished delivery.
//! [`policy`] says from the attempts so far when the next one is due and by which channel. Who keeps the attempts, and
//! what is published, is not this module's business.

mod current;
mod directory;
mod drop;
mod error;
mod parcel;
pub mod policy;
mod rest;
mod sftp;

pub use current::CurrentChannels;
pub use directory::Directory;
pub use error::{Answer, ChannelKind, DeliveryError, ErrorClass, Reason};
pub use parcel::{BadName, FileSource, Item, Parcel, Source, TEMPORARY};
pub use rest::{IDEMPOTENCY_HEADER, Rest, RestOptions};
pub use sftp::{Sftp, SftpOptions};

use crate::config::{self, DeliveryKind};
use crate::metrics::Metrics;
use cdr_core::Hash;
use error::Place;
use futures::future::BoxFuture;
use policy::{Outcome, Route};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The receiver has the file and all its sidecars, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// How they came there.
    pub channel: ChannelKind,
    /// The receiver's number for it; only the REST interface gives one.
    pub receipt_id: Option<String>,
    /// True if the file was there before this attempt.
    pub already_there: bool,
    /// SHA-256 of the file as the receiver holds it: read back from there, or as the receiver stated it. It is the file's.
    pub sha256: Hash,
}

/// A way to the receiver.
pub trait Channel: Send + Sync {
    /// Which way it is.
    fn kind(&self) -> ChannelKind;

    /// Makes one attempt to deliver a parcel. It ends by itself: every step has a time-out. Dropping it is safe; what
    /// it left behind is overwritten by the next attempt.
    ///
    /// # Errors
    /// [`DeliveryError`]; its class decides what follows.
    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> BoxFuture<'a, Result<Receipt, DeliveryError>>;
}

/// The channels of `[delivery]`, ready to be used.
#[derive(Clone)]
pub struct Channels {
    route: Route,
    by_kind: BTreeMap<ChannelKind, Arc<dyn Channel>>,
    is_retired: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Channels {
    /// Makes the channels that the configuration names; `None` if it names none. Keys and certificates are read once to
    /// see that they can be used, and again at every attempt, so that they can be exchanged without a restart.
    ///
    /// # Errors
    /// [`DeliveryError`] of class [`ErrorClass::Setup`], which names the file and what is wrong with it.
    pub fn open(config: &config::Delivery, metrics: Arc<Metrics>) -> Result<Option<Self>, DeliveryError> {
        let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
        match config.kind {
            DeliveryKind::None => return Ok(None),
            DeliveryKind::Directory => {
                let path = config.directory_path.clone().unwrap_or_default();
                channels.push(Arc::new(Directory::new(&path)));
            }
            DeliveryKind::Regulator => {
                channels.push(Arc::new(Sftp::new(SftpOptions::of(config))?));
                if let Some(options) = RestOptions::of(config) {
                    channels.push(Arc::new(Rest::new(options)?));
                }
            }
        }
        Ok(Self::new(channels, metrics))
    }

    /// Channels in the order of preference; `None` if there are none. More than two are never used.
    pub fn new(channels: Vec<Arc<dyn Channel>>, metrics: Arc<Metrics>) -> Option<Self> {
        let kinds: Vec<ChannelKind> = channels.iter().map(|channel| channel.kind()).collect();
        let route = Route { primary: *kinds.first()?, fallback: kinds.get(1).copied() };
        let outcomes = ErrorClass::ALL.map(Outcome::Failed).into_iter().chain([Outcome::Delivered]);
        for (kind, outcome) in kinds.iter().flat_map(|kind| outcomes.clone().map(move |o| (*kind, o))) {
            metrics.delivery_outcome(kind.as_str(), outcome.as_str());
        }
        let by_kind = kinds.into_iter().zip(channels).collect();
        Some(Self { route, by_kind, is_retired: Arc::default(), metrics })
    }

    /// Which of them is preferred, for [`policy::decide`].
    pub fn route(&self) -> Route {
        self.route
    }

    /// Other channels replace these: their receivers' state is no longer reported, also by attempts that are under way.
    fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.by_kind.keys().for_each(|kind| self.metrics.forget_dependency(dependency(*kind)));
    }

    /// Makes one attempt by a channel of the route, counts it and logs it.
    ///
    /// # Errors
    /// [`DeliveryError`], as [`Channel::deliver`] says.
    pub async fn deliver(&self, kind: ChannelKind, parcel: &Parcel) -> Result<Receipt, DeliveryError> {
        let result = if let Some(channel) = self.by_kind.get(&kind) {
            channel.deliver(parcel).await
        } else {
            let place = Place { channel: kind, name: kind.to_string() };
            Err(place.error(ErrorClass::Setup, "[delivery] has no such channel"))
        };
        self.report(kind, parcel, &result);
        result
    }

    fn report(&self, kind: ChannelKind, parcel: &Parcel, result: &Result<Receipt, DeliveryError>) {
        let file = parcel.file.name();
        let (outcome, receiver) = match result {
            Ok(receipt) => {
                let (there, receipt_id) = (receipt.already_there, receipt.receipt_id.as_deref());
                tracing::info!(file, channel = %kind, receipt_id, already_there = there, "delivered");
                (Outcome::Delivered, Some(Ok(())))
            }
            Err(error) => {
                let answer = error.answer.as_ref().map(Answer::words);
                let (answer, class) = (answer.as_deref(), error.class);
                if class.needs_person() {
                    tracing::error!(file, channel = %kind, %class, answer, "SEV1: not delivered: {error}");
                } else {
                    tracing::warn!(file, channel = %kind, %class, answer, "not delivered: {error}");
                }
                (Outcome::Failed(error.class), receiver(error))
            }
        };
        self.metrics.delivery_attempt(kind.as_str(), outcome.as_str());
        if let Some(receiver) = receiver.filter(|_| !self.is_retired.load(Ordering::Acquire)) {
            self.metrics.dependency(dependency(kind), receiver);
        }
    }
}

/// What a failed attempt says about the receiver, if it says anything.
fn receiver(error: &DeliveryError) -> Option<Result<(), String>> {
    match error.class {
        ErrorClass::Source => None,
        ErrorClass::DuplicateFile | ErrorClass::IntegrityMismatch | ErrorClass::Rejected => Some(Ok(())),
        _ => Some(Err(error.to_string())),
    }
}

/// The receiver's name among the outside parts.
fn dependency(kind: ChannelKind) -> &'static str {
    match kind {
        ChannelKind::Sftp => "delivery_sftp",
        ChannelKind::Api => "delivery_api",
        ChannelKind::Directory => "delivery_directory",
    }
}

/// Longest times of the steps of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Of one step: connecting, one piece of the file, one question to the server.
    pub step: Duration,
    /// From the last byte of a file to the REST interface's answer, in which the receiver checks what it got.
    pub answer: Duration,
}

impl From<&config::Delivery> for Timeouts {
    fn from(config: &config::Delivery) -> Self {
        Self {
            step: Duration::from_millis(config.step_timeout_ms),
            answer: Duration::from_millis(config.answer_timeout_ms),
        }
    }
}
