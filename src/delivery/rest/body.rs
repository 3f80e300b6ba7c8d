//! The body of an upload: read from its source as the connection takes it, and watched while it goes.

use crate::delivery::Timeouts;
use crate::delivery::drop::unread;
use crate::delivery::error::{DeliveryError, ErrorClass, Place};
use crate::delivery::parcel::{Item, Parcel, ReadError, Reading};
use bytes::Bytes;
use futures::Stream;
use futures::stream;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// What is known of a body that is under way.
pub(super) struct Upload {
    place: Place,
    timeouts: Timeouts,
    total: u64,
    sent: watch::Receiver<u64>,
    unread: Arc<Mutex<Option<DeliveryError>>>,
}

/// Feeds the parts of one body.
struct Feed {
    place: Place,
    sent: Arc<watch::Sender<u64>>,
    unread: Arc<Mutex<Option<DeliveryError>>>,
}

impl Upload {
    /// The body of `parcel`, and a view of how far it is.
    pub(super) fn begin(place: &Place, parcel: &Parcel, timeouts: Timeouts) -> (Form, Self) {
        let (sender, sent) = watch::channel(0);
        let sender = Arc::new(sender);
        let unread = Arc::new(Mutex::new(None));
        let part = |item: &Item| {
            let feed = Feed { place: place.clone(), sent: sender.clone(), unread: unread.clone() };
            let body = Body::wrap_stream(feed.pieces(item.clone()));
            Part::stream_with_length(body, item.len()).file_name(item.name().to_owned())
        };
        let mut form = Form::new().part("file", part(&parcel.file));
        for sidecar in &parcel.sidecars {
            let field =
                if sidecar.name().rsplit('.').next() == Some("sig") { "signature" } else { "sidecar" };
            form = form.part(field, part(sidecar));
        }
        let total = parcel.file.len() + parcel.sidecars.iter().map(Item::len).sum::<u64>();
        (form, Self { place: place.clone(), timeouts, total, sent, unread })
    }

    /// Returns once nothing has gone out for too long, or no answer has come for too long after everything had.
    pub(super) async fn stalled(&self) -> DeliveryError {
        let mut sent = self.sent.clone();
        loop {
            let so_far = *sent.borrow_and_update();
            let limit = self.limit(so_far);
            match tokio::time::timeout(limit, sent.changed()).await {
                Ok(Ok(())) => {}
                // Nothing reads the body any more: what remains is to wait for the response.
                Ok(Err(_)) => {
                    tokio::time::sleep(limit).await;
                    return self.late(so_far, limit);
                }
                Err(_) => return self.late(so_far, limit),
            }
        }
    }

    fn limit(&self, sent: u64) -> Duration {
        match sent {
            // Connecting and agreeing on encryption come first, with a limit of their own.
            0 => self.timeouts.step.saturating_mul(2),
            sent if sent < self.total => self.timeouts.step,
            _ => self.timeouts.answer,
        }
    }

    fn late(&self, sent: u64, limit: Duration) -> DeliveryError {
        let what = format!("{sent} of {} bytes were sent, then nothing happened for {limit:?}", self.total);
        self.place.error(ErrorClass::Unreachable, what)
    }

    /// The reason, if the body broke off because this side could not read the file.
    pub(super) fn unread(&self) -> Option<DeliveryError> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Feed {
    fn pieces(self, item: Item) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + 'static {
        stream::try_unfold((self, item, None), |(feed, item, reading)| async move {
            match next(&item, reading).await {
                Ok((reading, Some(piece))) => {
                    feed.sent.send_modify(|sent| *sent += piece.len() as u64);
                    Ok(Some((piece, (feed, item, Some(reading)))))
                }
                Ok((_, None)) => Ok(None),
                Err(error) => {
                    let why = unread(&feed.place, &item, &error);
                    *feed.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    Err(error)
                }
            }
        })
    }
}

/// The next piece; a file is opened when its turn has come.
async fn next(item: &Item, reading: Option<Reading>) -> Result<(Reading, Option<Bytes>), ReadError> {
    let mut reading = match reading {
        Some(reading) => reading,
        None => item.read().await?,
    };
    let piece = reading.next(PIECE).await?;
    Ok((reading, piece))
}
