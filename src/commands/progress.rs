//! Progress of work that takes more than two seconds: a bar where standard error is a terminal, else plain lines.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Pause between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// How far some work is.
pub(super) struct Progress(Shown);

enum Shown {
    Bar(ProgressBar),
    Lines(Lines),
}

impl Progress {
    /// Work called `what`, of `total` steps if that is known.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        Self(if std::io::stderr().is_terminal() {
            Shown::Bar(bar(what, total))
        } else {
            Shown::Lines(Lines::new(what, total, Instant::now()))
        })
    }

    /// `position` steps are done.
    pub(super) fn at(&mut self, position: u64) {
        match &mut self.0 {
            Shown::Bar(bar) => bar.set_position(position),
            Shown::Lines(lines) => {
                if let Some(line) = lines.at(position, Instant::now()) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} {bar:40} {pos}/{len} ({per_sec}, {eta} left)"),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {pos} ({per_sec})"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what)
}

/// Plain lines, at most one in [`LINE_EVERY`].
struct Lines {
    what: &'static str,
    total: Option<u64>,
    started: Instant,
    last: Instant,
}

impl Lines {
    fn new(what: &'static str, total: Option<u64>, now: Instant) -> Self {
        Self { what, total, started: now, last: now }
    }

    fn at(&mut self, position: u64, now: Instant) -> Option<String> {
        if now.duration_since(self.last) < LINE_EVERY {
            return None;
        }
        self.last = now;
        let rate = position as f64 / now.duration_since(self.started).as_secs_f64();
        let done = match self.total {
            Some(total) => format!("{position} of {total} ({} %)", position * 100 / total.max(1)),
            None => position.to_string(),
        };
        Some(format!("{}: {done}, {rate:.0}/s", self.what))
    }
}

/// Lines of a file that are not empty.
///
/// # Errors
/// What the system says.
pub(super) fn count_lines(file: &Path) -> std::io::Result<u64> {
    use std::io::BufRead;
    let reader = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    let mut lines = 0;
    for line in reader.split(b'\n') {
        lines += u64::from(!line?.is_empty());
    }
    Ok(lines)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_come_at_most_every_two_seconds() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut lines = Lines::new("publishing", Some(4_000), start);
        let said: Vec<String> =
            (0u64..=50).filter_map(|step| lines.at(step * 10, after(step * 100))).collect();
        assert_eq!(said, ["publishing: 200 of 4000 (5 %), 100/s", "publishing: 400 of 4000 (10 %), 100/s"]);
        let mut open = Lines::new("publishing", None, start);
        assert_eq!(open.at(30, after(1_999)), None);
        assert_eq!(open.at(30, after(3_000)).unwrap(), "publishing: 30, 10/s");
    }

    #[test]
    fn empty_lines_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines");
        std::fs::write(&file, "a\n\nb\nlast").unwrap();
        assert_eq!(count_lines(&file).unwrap(), 3);
        assert!(count_lines(&dir.path().join("none")).is_err());
    }
}
