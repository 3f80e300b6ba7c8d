//! The `cdr-mediation` binary: reads the command line and starts what it asks for.

use anyhow::Context;
use cdr_mediation::commands;
use cdr_mediation::commands::reload::SetLogFilter;
use cdr_mediation::commands::signer::RecordOptions;
use cdr_mediation::config::{self, Config, LogFormat};
use cdr_mediation::export;
use cdr_mediation::generate::GenerateOptions;
use cdr_verify::export::ExportArguments;
use cdr_verify::record::RecordArguments;
use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, reload};

/// Memory for everything but RocksDB. The system's allocator would give each thread an arena of its own, and keep in each
/// what that thread ever needed; for RocksDB, `MALLOC_ARENA_MAX` bounds that (`deploy/systemd`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Name of the program, in front of what it says to standard error.
const PROGRAM: &str = "cdr-mediation";

/// System of record for call detail records: replicated, hash-chained, provable.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one replica.
    #[command(after_help = "Example: cdr-mediation node --config /etc/cdr-mediation/node-1.toml")]
    Node {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Runs three real replicas in one process, with embedded defaults for every outside part.
    #[command(after_help = "Example: cdr-mediation dev --data run/dev --replay day.ndjson")]
    Dev {
        /// Directory of everything.
        #[arg(long, default_value = "run/dev")]
        data: PathBuf,
        /// Receipts to feed, one JSON a line, on a clock that follows them.
        #[arg(long)]
        replay: Option<PathBuf>,
        /// Stop after the replay.
        #[arg(long, requires = "replay")]
        exit_when_done: bool,
        /// API of the first replica; the others have the next two ports.
        #[arg(long, hide = true, default_value_t = commands::dev::API_PORT)]
        api_port: u16,
        /// Raft port of the first replica; the others have the next two ports.
        #[arg(long, hide = true, default_value_t = commands::dev::RAFT_PORT)]
        raft_port: u16,
    },
    /// Writes a realistic day of receipts to standard output.
    #[command(after_help = "Example: cdr-mediation generate --day 2026-04-20 --records 100000 > day.ndjson")]
    Generate {
        /// Settlement day, YYYY-MM-DD.
        #[arg(long)]
        day: String,
        /// How many lines.
        #[arg(long)]
        records: u64,
        /// Same seed, same bytes.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Sends receipts to the bus and reports the rate.
    #[command(after_help = "Example: cdr-mediation publish --nats nats://127.0.0.1:4222 day.ndjson")]
    Publish {
        /// Server.
        #[arg(long)]
        nats: String,
        /// Report in JSON.
        #[arg(long)]
        json: bool,
        /// Receipts, one JSON a line; `-` reads standard input.
        file: PathBuf,
    },
    #[command(
        after_help = "Example: cdr-mediation verify-record --cluster dev --trust run/dev/root.pub proof.json"
    )]
    VerifyRecord(RecordArguments),
    #[command(
        after_help = "Example: cdr-mediation verify-export --cluster dev --trust run/dev/root.pub --against http://127.0.0.1:3018 --token-file run/dev/dev-token run/dev/drop/FILE.tap"
    )]
    VerifyExport(ExportArguments),
    /// Looks at the key that signs.
    #[command(
        subcommand,
        after_help = "Example: cdr-mediation signer record --config node.toml --from 2026-05-01T00:00:00Z"
    )]
    Signer(SignerCommand),
    /// Looks at configurations.
    #[command(subcommand, after_help = "Example: cdr-mediation config check /etc/cdr-mediation/node-1.toml")]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum SignerCommand {
    /// Prints the record of the key that the configuration names, for the root key to sign, or as the root key signed it.
    #[command(
        after_help = "Example: cdr-mediation signer record --config node.toml --from 2026-05-01T00:00:00Z --message to-sign.bin"
    )]
    Record {
        /// Configuration file.
        #[arg(long)]
        config: PathBuf,
        /// First hour that the key may seal, such as 2026-05-01T00:00:00Z.
        #[arg(long)]
        from: String,
        /// First hour that it may no longer seal; open if absent.
        #[arg(long)]
        to: Option<String>,
        /// Where to write the bytes that the root key is to sign.
        #[arg(long)]
        message: Option<PathBuf>,
        /// File with the root key's Ed25519 signature over those bytes, 64 bytes.
        #[arg(long, requires = "trust")]
        root_signature: Option<PathBuf>,
        /// File with the root public key, 64 hexadecimal digits.
        #[arg(long, requires = "root_signature")]
        trust: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Says what is wrong with a configuration, by key, or prints the effective one without secrets.
    ///
    /// The schema variants that it names are read, too, as the node would.
    #[command(after_help = "Example: cdr-mediation config check /etc/cdr-mediation/node-1.toml")]
    Check {
        /// Configuration file.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{PROGRAM}: {}", cdr_verify::told_once(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let outcome: anyhow::Result<()> = match command {
        Command::Node { config: file } => {
            let config = config::load(&file)?;
            let set = log_to_stderr(&config.observability.log_level, config.observability.log_format)?;
            runtime()?.block_on(commands::node::run(&file, config, &set))
        }
        Command::Dev { data, replay, exit_when_done, api_port, raft_port } => {
            // Elections of three replicas that start at once need not be logged.
            let _ = log_to_stderr("warn,openraft=error", LogFormat::Text)?;
            runtime()?.block_on(commands::dev::run(commands::dev::DevOptions {
                data,
                replay,
                exit_when_done,
                api_port,
                raft_port,
            }))
        }
        Command::Generate { day, records, seed } => {
            commands::generate::run(&generate_options(&day, records, seed)?)
        }
        Command::Publish { nats, json, file } => {
            let _ = log_to_stderr("warn", LogFormat::Text)?;
            runtime()?.block_on(commands::publish::run(&nats, &file, json))
        }
        Command::VerifyRecord(arguments) => {
            return Ok(ExitCode::from(cdr_verify::record::run(PROGRAM, &arguments)));
        }
        Command::VerifyExport(arguments) => {
            return Ok(ExitCode::from(cdr_verify::export::run(PROGRAM, &arguments)));
        }
        Command::Signer(SignerCommand::Record { config, from, to, message, root_signature, trust }) => {
            let config = config::load(&config)?;
            let _ = log_to_stderr("warn", LogFormat::Text)?;
            let root = root_signature.zip(trust);
            commands::signer::record(&config, &RecordOptions { from, to, message, root })
        }
        Command::Config(ConfigCommand::Check { file }) => {
            let config: Config = config::load(&file)?;
            export::opening::check(&config)?;
            print!("{}", config.effective_toml()?);
            Ok(())
        }
    };
    outcome.map(|()| ExitCode::SUCCESS)
}

fn generate_options(day: &str, records: u64, seed: u64) -> anyhow::Result<GenerateOptions> {
    GenerateOptions::new(day, records, seed)
        .with_context(|| format!("--day {day} is not a date: write YYYY-MM-DD"))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime can't be started")
}

/// Logs go to standard error; `RUST_LOG` overrides the level. Gives what sets another level later.
fn log_to_stderr(level: &str, format: LogFormat) -> anyhow::Result<SetLogFilter> {
    let from_environment = EnvFilter::try_from_default_env().ok();
    let overridden = from_environment.is_some();
    let filter = from_environment
        .map_or_else(|| EnvFilter::try_new(level), Ok)
        .with_context(|| format!("observability.log_level {level} is not a log filter"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let subscriber = tracing_subscriber::registry().with(filter);
    let is_read_by_eye = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_ansi(is_read_by_eye).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with(lines).init(),
        LogFormat::Json => subscriber.with(lines.json()).init(),
    }
    if overridden {
        return Ok(Box::new(|_| Err("the environment variable RUST_LOG decides".to_owned())));
    }
    Ok(Box::new(move |level| {
        let filter = EnvFilter::try_new(level).map_err(|e| e.to_string())?;
        handle.reload(filter).map_err(|e| e.to_string())
    }))
}
