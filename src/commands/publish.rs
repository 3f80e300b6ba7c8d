//! `publish`: sends receipts to the bus.

use super::progress::{Progress, count_lines};
use anyhow::Context;
use cdr_bus::{JetStream, NatsOptions, PublishOptions, PublishReport, publish_file};
use std::path::Path;
use tokio::io::{AsyncBufRead, BufReader};

/// Publishes a file (`-` reads standard input) and reports count and rate, in words or in JSON.
///
/// # Errors
/// If the file can't be read, the bus can't be reached, or lines were left unpublished.
pub async fn run(server: &str, file: &Path, json: bool) -> anyhow::Result<()> {
    let unreadable = || format!("{} can't be read", file.display());
    let (reader, total): (Box<dyn AsyncBufRead + Unpin + Send>, _) = if file == Path::new("-") {
        (Box::new(BufReader::new(tokio::io::stdin())), None)
    } else {
        let opened = tokio::fs::File::open(file).await.with_context(unreadable)?;
        // A pipe can be read once only.
        let is_file = opened.metadata().await.with_context(unreadable)?.is_file();
        let total = is_file.then(|| count_lines(file)).transpose().with_context(unreadable)?;
        (Box::new(BufReader::with_capacity(1 << 20, opened)), total)
    };
    let bus = JetStream::connect(NatsOptions::new(server)).await?;
    let mut progress = Progress::new("publishing", total);
    let publishing = publish_file(&bus, reader, &PublishOptions::default(), |stored| progress.at(stored));
    let report = publishing.await?;
    drop(progress);
    println!("{}", if json { in_json(&report) } else { in_words(&report) });
    Ok(())
}

fn in_words(report: &PublishReport) -> String {
    format!("{} receipts published, {:.0}/s", report.published, report.rate())
}

fn in_json(report: &PublishReport) -> String {
    serde_json::json!({
        "published": report.published,
        "bytes": report.bytes,
        "elapsedMs": report.elapsed.as_millis() as u64,
        "perSecond": report.rate().round() as u64,
    })
    .to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    #[test]
    fn the_report_in_words_and_in_json() {
        let report =
            PublishReport { published: 3_000, bytes: 900_000, elapsed: Duration::from_millis(1_500) };
        assert_eq!(in_words(&report), "3000 receipts published, 2000/s");
        let value: Value = serde_json::from_str(&in_json(&report)).unwrap();
        assert_eq!(value, json!({"published": 3000, "bytes": 900_000, "elapsedMs": 1500, "perSecond": 2000}));
    }
}
