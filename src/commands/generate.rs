//! `generate`: a day of receipts on standard output.

use crate::generate::{GenerateOptions, generate};
use std::io::{BufWriter, Write};

/// Writes the receipts; same options, same bytes.
///
/// # Errors
/// If standard output can't be written.
pub fn run(options: &GenerateOptions) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let summary = generate(options, &mut out)?;
    out.flush()?;
    tracing::info!(?summary, "receipts written");
    Ok(())
}
