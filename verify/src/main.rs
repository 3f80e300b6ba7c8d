//! The `cdr-verify` binary: an auditor's checks, without anything else of the service.

use cdr_verify::export::ExportArguments;
use cdr_verify::record::RecordArguments;
use cdr_verify::{export, record};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Name of the program, in front of what it says to standard error.
const PROGRAM: &str = "cdr-verify";

/// Checks proofs and settlement files of a CDR log.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(after_help = "Example: cdr-verify record --cluster dev --trust root.pub proof.json")]
    Record(RecordArguments),
    #[command(
        after_help = "Example: cdr-verify export --cluster dev --trust root.pub --against http://127.0.0.1:3018 --token-file dev-token FILE.tap"
    )]
    Export(ExportArguments),
}

fn main() -> ExitCode {
    ExitCode::from(match Arguments::parse().command {
        Command::Record(arguments) => record::run(PROGRAM, &arguments),
        Command::Export(arguments) => export::run(PROGRAM, &arguments),
    })
}
