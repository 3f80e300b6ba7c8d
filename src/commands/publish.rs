//! `publish`: sends receipts to the bus.

use crate::bus::{JetStream, NatsOptions};
use crate::publish::{PublishOptions, publish_file};
use anyhow::Context;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufRead, BufReader};

/// Pause between two lines of progress.
const PROGRESS_PERIOD: Duration = Duration::from_secs(2);

/// Publishes a file (`-` reads standard input) and reports count and rate.
///
/// # Errors
/// If the bus can't be reached, or lines were left unpublished.
pub async fn run(server: &str, file: &Path) -> anyhow::Result<()> {
    let bus = JetStream::connect(NatsOptions::new(server)).await?;
    let reader: Box<dyn AsyncBufRead + Unpin + Send> = if file == Path::new("-") {
        Box::new(BufReader::new(tokio::io::stdin()))
    } else {
        let opened = tokio::fs::File::open(file).await;
        Box::new(BufReader::with_capacity(
            1 << 20,
            opened.with_context(|| format!("{} can't be read", file.display()))?,
        ))
    };
    let mut last = Instant::now();
    let progress = |stored: u64| {
        if last.elapsed() >= PROGRESS_PERIOD {
            last = Instant::now();
            eprintln!("{stored} published");
        }
    };
    let report = publish_file(&bus, reader, &PublishOptions::default(), progress).await?;
    println!("{} receipts published, {:.0}/s", report.published, report.rate());
    Ok(())
}
