//! Checks a settlement file as a regulator does: signature, encoding, totals; against a node's API also
//! that every event is the record that the ledger has, as its trace says.
//!
//! Nobody signs the trace, which is beside the file: only the ledger confirms it. Without a node's API the file is
//! checked alone, if that is requested.

mod records;

use crate::remote::Remote;
use crate::{COULD_NOT_RUN, HOLDS, TrustArguments, VIOLATED, read_text, told_once};
use anyhow::{Context, bail};
use cdr_core::export_signature::{ExportSignature, SIDECAR_SUFFIX};
use cdr_core::hash::{sha256, to_hex};
use cdr_core::json::{self, MAX_FILE_BYTES};
use cdr_core::key::KeyRecord;
use cdr_core::{CdrId, Hash};
use cdr_tap::{DecodedCall, FileKind, TraceEvent, TraceReader, Variant, Variants, decode, trace_name};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the regulator's series of files, in the ledger and in the API.
pub const REGULATOR: &str = "regulator";

/// Checks a settlement file: signature, encoding, totals, and by a node's API its trace and every record.
///
/// FILE.sig and FILE.trace.json.zst are beside it. Exit code 0: what was checked holds; 1: something does not, and it
/// is named; 2: the check could not run, or what it needs is missing, and is named: keys, or a node's API.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArguments {
    /// Directory of the schema variants.
    #[arg(long, default_value = "tap-schemas")]
    schemas: PathBuf,
    #[command(flatten)]
    trust: TrustArguments,
    /// Published key list in a file; from the API otherwise.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// URL of a node's API.
    #[arg(long)]
    against: Option<String>,
    /// File with a bearer token for it; with cdr:pii the bytes of every event are compared.
    #[arg(long, requires = "against")]
    token_file: Option<PathBuf>,
    /// Without a node's API: check the file by its signature alone, and nothing of its trace and records.
    #[arg(long, requires = "keys", conflicts_with = "against")]
    file_only: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// The file.
    file: PathBuf,
}

/// What was checked, in the order of the checks; or what does not hold.
#[derive(Debug, Default)]
struct Findings {
    checked: Vec<String>,
    /// Parts of the check that nothing was given for.
    unchecked: Vec<String>,
    /// Without these the file may be anybody's: what they are, and what to give.
    missing: Vec<String>,
}

/// Something does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Violated(String);

/// Verifies a file, prints what holds or what does not, and returns the exit code.
pub fn run(program: &str, arguments: &ExportArguments) -> u8 {
    let mut findings = Findings::default();
    let outcome = verify(arguments, &mut findings);
    let violation = outcome.as_ref().err().and_then(|error| error.downcast_ref::<Violated>());
    let code = match (&outcome, violation) {
        (Ok(()), _) if findings.missing.is_empty() => HOLDS,
        (Err(_), Some(_)) => VIOLATED,
        (Ok(()) | Err(_), _) => COULD_NOT_RUN,
    };
    let failed = outcome.as_ref().err().filter(|_| violation.is_none()).map(told_once);
    if arguments.json {
        let unchecked: Vec<&String> = findings.missing.iter().chain(&findings.unchecked).collect();
        let answer = json!({
            "verified": code == HOLDS && unchecked.is_empty(), "checked": findings.checked, "notChecked": unchecked,
            "violation": violation.map(ToString::to_string), "error": failed,
        });
        println!("{answer}");
        return code;
    }
    for line in &findings.checked {
        println!("holds: {line}");
    }
    for line in findings.missing.iter().chain(&findings.unchecked) {
        println!("not checked: {line}");
    }
    match (violation, failed) {
        (Some(violation), _) => eprintln!("{program}: NOT VERIFIED: {violation}"),
        (None, Some(error)) => eprintln!("{program}: the file could not be checked: {error}"),
        (None, None) if !findings.missing.is_empty() => {
            let missing = findings.missing.join("; ");
            eprintln!("{program}: the check is not complete, for lack of {missing}");
        }
        (None, None) if findings.unchecked.is_empty() => println!("verified: {}", arguments.file.display()),
        (None, None) => println!("holds as far as it was checked: {}", arguments.file.display()),
    }
    code
}

fn verify(arguments: &ExportArguments, findings: &mut Findings) -> anyhow::Result<()> {
    let remote = match &arguments.against {
        Some(url) => Some(Remote::new(url, arguments.token_file.as_deref())?),
        None => None,
    };
    let file = &arguments.file;
    let hash = cdr_tap::sha256_of(file).with_context(|| format!("{} can't be read", file.display()))?;
    signature(arguments, &hash, remote.as_ref(), findings)?;
    let contents = contents(arguments, &hash, remote.is_some(), findings)?;
    match remote {
        None => {
            let what = "the records and the trace that names them, which nobody signs";
            if arguments.file_only {
                findings.unchecked.push(format!("{what}: give --against, a node's API"));
            } else {
                let give = "give --against, a node's API, or --file-only to check nothing of them";
                findings.missing.push(format!("{what}: {give}"));
            }
            Ok(())
        }
        Some(remote) => records::hold(&remote, arguments, contents, findings),
    }
}

fn violated<T>(why: impl Into<String>) -> anyhow::Result<T> {
    Err(Violated(why.into()).into())
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{name}{suffix}"))
}

/// The `.sig` file, its key, and the key's right to sign.
fn signature(
    arguments: &ExportArguments,
    hash: &Hash,
    remote: Option<&Remote>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let path = beside(&arguments.file, SIDECAR_SUFFIX);
    let text = read_text(&path)?;
    let signature = match ExportSignature::parse(&text) {
        Ok(signature) => signature,
        Err(error) => return violated(format!("{}: {error}", path.display())),
    };
    if signature.file_sha256 != *hash {
        return violated(format!(
            "the file's SHA-256 is {}, its signature is of {}",
            to_hex(hash),
            to_hex(&signature.file_sha256)
        ));
    }
    let list = match (&arguments.keys, remote) {
        (Some(path), _) => {
            let text = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
            json::value(&text, MAX_FILE_BYTES)
                .with_context(|| format!("{} is not a key list", path.display()))?
        }
        (None, Some(remote)) => remote.get("/v1/cdr/keys")?,
        (None, None) => {
            let give = "give --against, a node's API, or --keys, its answer to GET /v1/cdr/keys";
            findings.missing.push(format!("the signature, for lack of keys: {give}"));
            return Ok(());
        }
    };
    let Some(record) = key_record(&list, &signature.key_id) else {
        return violated(format!("key {} is not among the published keys", signature.key_id));
    };
    let trust = arguments.trust.read()?;
    match &trust {
        Some(trust) if !record.is_trusted(&trust.cluster_id, &trust.root_public_key) => {
            return violated(format!("the root key does not vouch for key {}", record.key_id));
        }
        Some(_) => findings.checked.push(format!("the root key vouches for key {}", record.key_id)),
        None => {
            let what = "the key's right to sign, for lack of --cluster and --trust".to_owned();
            // A node is responsible for the keys that it publishes; nobody is for a list in a file.
            let of = if arguments.keys.is_some() { &mut findings.missing } else { &mut findings.unchecked };
            of.push(what);
        }
    }
    let Some(public_key) = record.public_key() else {
        return violated(format!("the published key {} can't be read", record.key_id));
    };
    if let Err(error) = signature.verify(hash, &public_key) {
        return violated(error.to_string());
    }
    findings.checked.push(format!("signature by key {}", record.key_id));
    Ok(())
}

fn key_record(list: &Value, key_id: &str) -> Option<KeyRecord> {
    let items = list.get("items").unwrap_or(list).as_array()?;
    let item = items.iter().find(|item| item.get("keyId").and_then(Value::as_str) == Some(key_id))?;
    // The list says more of a key than its record does.
    let fields = ["algorithm", "clusterId", "fromHour", "keyId", "publicKey", "rootSignature", "toHour"];
    let record: Map<String, Value> =
        fields.iter().filter_map(|name| Some(((*name).to_owned(), item.get(name)?.clone()))).collect();
    serde_json::from_value(Value::Object(record)).ok()
}

/// What the trace and the file hold of one event.
struct Event {
    record: CdrId,
    row_hash: Hash,
    adjustment: Option<CdrId>,
    /// SHA-256 of its bytes.
    bytes: Hash,
}

/// Events by the record that they list, or by the adjustment that they return.
type Events = HashMap<CdrId, Event>;

/// A file that was decoded beside its trace.
struct Contents {
    variants: Variants,
    variant: Arc<Variant>,
    kind: FileKind,
    events: Events,
}

/// Decodes the file beside its trace. Events are kept only if they are to be compared with records.
fn contents(
    arguments: &ExportArguments,
    hash: &Hash,
    keep: bool,
    findings: &mut Findings,
) -> anyhow::Result<Contents> {
    let path = beside(&arguments.file, "")
        .with_file_name(trace_name(&arguments.file.file_name().unwrap_or_default().to_string_lossy()));
    let open = |path: &Path| File::open(path).with_context(|| format!("{} can't be read", path.display()));
    let mut trace =
        TraceReader::new(open(&path)?).map_err(|error| Violated(format!("{}: {error}", path.display())))?;
    let head = trace.head().clone();
    if head.file_sha256 != to_hex(hash) {
        return violated(format!(
            "{} is the trace of another file, of SHA-256 {}",
            path.display(),
            head.file_sha256
        ));
    }
    let variants = Variants::load(&arguments.schemas)?;
    let variant =
        variants.get(&head.schema_variant).filter(|variant| to_hex(&variant.hash) == head.schema_hash);
    let Some(variant) = variant else {
        bail!(
            "{} does not hold schema variant {} of hash {}: get it from the sender",
            arguments.schemas.display(),
            head.schema_variant,
            head.schema_hash
        );
    };
    let mut events = Events::new();
    let mut broken = None;
    let Some(kind) = head.kind() else {
        return violated(format!("{:?} is not a kind of file", head.export_type));
    };
    let input = BufReader::new(open(&arguments.file)?);
    let decoded = decode(variant, kind, input, &mut |call| {
        if broken.is_none() {
            broken = step(&mut trace, kind, &call, keep.then_some(&mut events)).err();
        }
        Ok(())
    });
    let decoded = decoded.map_err(|error| Violated(format!("the file does not decode: {error}")))?;
    if let Some(why) = broken {
        return violated(why);
    }
    if let Some(line) = trace.next() {
        return violated(format!("the trace has more events than the file: {line:?}"));
    }
    if decoded.calls != head.calls || decoded.total_charge.to_string() != head.total_charge {
        return violated("the totals of file and trace differ".to_owned());
    }
    findings.checked.push(format!(
        "the file decodes as {} by {} from {}, number {}: {} events, total {}",
        head.export_type,
        head.schema_variant,
        decoded.sender.as_deref().unwrap_or("a sender that it does not name"),
        decoded.sequence.map_or_else(|| "that it does not name".to_owned(), |number| number.to_string()),
        decoded.calls,
        decoded.total_charge
    ));
    let variant = variant.clone();
    Ok(Contents { variants, variant, kind, events })
}

/// Compares an event with the next line of the trace.
fn step(
    trace: &mut TraceReader<impl std::io::Read>,
    kind: FileKind,
    call: &DecodedCall<'_>,
    events: Option<&mut Events>,
) -> Result<(), String> {
    let index = call.index;
    let line: TraceEvent = match trace.next() {
        Some(Ok(line)) => line,
        Some(Err(error)) => return Err(format!("the trace can't be read: {error}")),
        None => return Err(format!("event {index} is not in the trace")),
    };
    if line.index != index || line.charge != call.charge {
        return Err(format!(
            "event {index} has the charge {}; the trace says event {}, charge {}",
            call.charge, line.index, line.charge
        ));
    }
    if let Some(events) = events {
        let (record, adjustment) = (line.cdr_id, line.adjustment_id);
        let event = Event { record, row_hash: line.row_hash, adjustment, bytes: sha256(call.bytes) };
        // A record is listed once; it is returned once for each of its adjustments.
        let what = match (kind, adjustment) {
            (FileKind::Rap, None) => return Err(format!("event {index} returns no adjustment")),
            (FileKind::Rap, Some(adjustment)) => adjustment,
            (FileKind::Tap, _) => record,
        };
        if events.insert(what, event).is_some() {
            return Err(format!("{what} is in the file twice"));
        }
    }
    Ok(())
}
