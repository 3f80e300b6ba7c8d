//! Sends receipts, one JSON per line, to the inbound subject: in order, pipelined, none lost.
//!
//! Lines are sent in windows. Every line has an id of its own, and each names the id before it as the one that it must
//! directly follow. If a line is lost on the way, the stream therefore refuses those behind it, and the window is sent
//! again from that line on; a line that was stored, though its acknowledgement was lost, is recognised by its id.
//! Other publishers on the same stream cost a repetition whenever they come in between; windows shrink while they do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::{Bus, BusError, Outgoing};

/// How to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishOptions {
    /// Subject to publish to.
    pub subject: String,
    /// Lines that may be unacknowledged.
    pub in_flight: usize,
    /// How long to try without any progress before giving up.
    pub patience: Duration,
    /// Longest line, in bytes. One line more than this ends the publishing: it is not a DLR.
    pub max_line_bytes: usize,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            subject: "sms.dlr.inbound".to_owned(),
            in_flight: 4_096,
            patience: Duration::from_secs(60),
            max_line_bytes: 1 << 20,
        }
    }
}

/// What was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishReport {
    /// Lines that the stream holds.
    pub published: u64,
    /// Payload bytes of those lines.
    pub bytes: u64,
    /// From first to last.
    pub elapsed: Duration,
}

impl PublishReport {
    /// Lines per second.
    pub fn rate(&self) -> f64 {
        self.published as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Why publishing ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The input can't be read.
    #[error("cannot read line {line}: {source}")]
    Input {
        /// Number of the line, from 1.
        line: u64,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is longer than any receipt.
    #[error("line {line} is longer than {max_bytes} bytes; nothing from it on was published")]
    LongLine {
        /// Number of the line, from 1.
        line: u64,
        /// The limit.
        max_bytes: usize,
    },
    /// The bus refused a line, or was away for longer than [`PublishOptions::patience`].
    #[error("line {line} was not published: {source}; published {published}, {unpublished} lines remaining")]
    Bus {
        /// Number of the line, from 1.
        line: u64,
        /// Lines that the stream holds.
        published: u64,
        /// Lines of the input that it does not hold.
        unpublished: u64,
        /// The bus's failure.
        source: BusError,
    },
}

/// A line that is not known to be stored.
struct Line {
    number: u64,
    payload: Bytes,
}

/// Publishes every line that is not empty. `progress` is called with the number of lines stored so far, after each
/// window.
pub fn publish_file<'a, R, P>(
    bus: &'a dyn Bus,
    reader: R,
    options: &PublishOptions,
    progress: P,
) -> impl Future<Output = Result<PublishReport, PublishError>> + Send + use<'a, R, P>
where
    R: AsyncBufRead + Unpin + Send,
    P: FnMut(u64) + Send,
{
    let publisher = Publisher {
        bus,
        options: options.clone(),
        run: run_id(),
        input: Input { reader, lines: 0, max_line_bytes: options.max_line_bytes },
        window: VecDeque::new(),
        width: options.in_flight.max(1),
        published: 0,
        bytes: 0,
    };
    publisher.run(progress)
}

/// Distinguishes the ids of one run from those of another.
fn run_id() -> String {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (since.as_nanos() as u64).to_le_bytes();
    }
    format!("{:016x}", u64::from_le_bytes(bytes))
}

struct Input<R> {
    reader: R,
    lines: u64,
    max_line_bytes: usize,
}

impl<R: AsyncBufRead + Unpin + Send> Input<R> {
    /// The next line that is not empty.
    async fn next(&mut self) -> Result<Option<Line>, PublishError> {
        loop {
            let number = self.lines + 1;
            let mut line = Vec::new();
            let limit = self.max_line_bytes as u64 + 2;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut line).await;
            if read.map_err(|source| PublishError::Input { line: number, source })? == 0 {
                return Ok(None);
            }
            self.lines = number;
            while line.last().is_some_and(|end| matches!(end, b'\n' | b'\r')) {
                line.pop();
            }
            if line.len() > self.max_line_bytes {
                return Err(PublishError::LongLine { line: number, max_bytes: self.max_line_bytes });
            }
            if !line.is_empty() {
                return Ok(Some(Line { number, payload: Bytes::from(line) }));
            }
        }
    }

    /// How many lines that are not empty are left.
    async fn count_rest(&mut self) -> u64 {
        let mut rest = 0;
        loop {
            match self.next().await {
                Ok(Some(_)) | Err(PublishError::LongLine { .. }) => rest += 1,
                Ok(None) | Err(_) => return rest,
            }
        }
    }
}

struct Publisher<'a, R> {
    bus: &'a dyn Bus,
    options: PublishOptions,
    run: String,
    input: Input<R>,
    /// Lines sent but not known to be stored, in order.
    window: VecDeque<Line>,
    /// How many lines are sent at once.
    width: usize,
    published: u64,
    bytes: u64,
}

impl<R: AsyncBufRead + Unpin + Send> Publisher<'_, R> {
    async fn run(mut self, mut progress: impl FnMut(u64) + Send) -> Result<PublishReport, PublishError> {
        let started = Instant::now();
        let mut last_progress = started;
        let mut pause = Duration::ZERO;
        let mut input_ended = Ok(());
        loop {
            if input_ended.is_ok() {
                input_ended = self.fill().await;
            }
            if self.window.is_empty() {
                break;
            }
            let before = self.published;
            let failure = self.send_window().await;
            progress(self.published);
            if self.published > before {
                last_progress = Instant::now();
                pause = Duration::ZERO;
            }
            let Some(error) = failure else {
                self.width = (self.width * 2).min(self.options.in_flight.max(1));
                continue;
            };
            if !error.is_transient() || last_progress.elapsed() >= self.options.patience {
                return Err(self.give_up(error).await);
            }
            if matches!(error, BusError::WrongLastId { .. }) {
                // Nothing was lost: another publisher came in between.
                self.width = (self.width / 2).max(1);
            } else {
                tracing::warn!(%error, published = self.published, "publishing again from the first unconfirmed line");
                pause = (pause * 2).clamp(Duration::from_millis(50), Duration::from_secs(2));
                tokio::time::sleep(pause).await;
            }
        }
        input_ended?;
        Ok(PublishReport { published: self.published, bytes: self.bytes, elapsed: started.elapsed() })
    }

    /// Reads lines until the window is full.
    async fn fill(&mut self) -> Result<(), PublishError> {
        while self.window.len() < self.width {
            match self.input.next().await? {
                Some(line) => self.window.push_back(line),
                None => break,
            }
        }
        Ok(())
    }

    /// Sends the window and drops from it what is stored: everything before the first failure.
    async fn send_window(&mut self) -> Option<BusError> {
        let id = |number: u64| format!("{}-{number}", self.run);
        let mut before = None;
        let messages = self.window.iter().take(self.width).map(|line| {
            let message_id = id(line.number);
            let behind_id = before.replace(message_id.clone());
            Outgoing {
                subject: self.options.subject.clone(),
                headers: Vec::new(),
                payload: line.payload.clone(),
                message_id: Some(message_id),
                behind_id,
            }
        });
        let mut results = self.bus.publish_many(futures::stream::iter(messages).boxed(), self.width);
        let (mut stored, mut failure) = (0, None);
        while let Some(result) = results.next().await {
            match result {
                Ok(_) if failure.is_none() => stored += 1,
                // Behind a failure nothing counts, but everything must have come to rest before it is sent again.
                Ok(_) => {}
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        drop(results);
        for line in self.window.drain(..stored) {
            self.published += 1;
            self.bytes += line.payload.len() as u64;
        }
        failure
    }

    async fn give_up(mut self, source: BusError) -> PublishError {
        let line = self.window.front().map_or(0, |line| line.number);
        let unpublished = self.window.len() as u64 + self.input.count_rest().await;
        PublishError::Bus { line, published: self.published, unpublished, source }
    }
}

#[cfg(test)]
mod tests;
