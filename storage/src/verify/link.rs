//! Seals: each in itself, its signature, and that it continues the one before.

use super::Fault;
use crate::generation::Generation;
use crate::hours::Committed;
use crate::seals::{self, StoredSeal};
use cdr_core::Hour;
use cdr_core::chain::{national_genesis, operator_genesis};
use cdr_core::hash::{sha256, to_hex};
use cdr_core::key::KeyRecord;
use cdr_core::proof::{Violation, verify_seal, verify_succession};
use cdr_core::seal::verify_signature;

/// The hour before the one that is verified.
pub(super) enum Previous {
    /// There is none: the ledger begins here.
    Genesis,
    /// Its seal can't be read.
    Unreadable,
    /// Its seal.
    Seal(Box<StoredSeal>),
}

impl Previous {
    /// What comes before `hour`.
    pub fn before(generation: &Generation, hour: Hour, first_hour: Hour) -> Self {
        if hour <= first_hour {
            return Self::Genesis;
        }
        let seal = seals::read(&generation.db, Hour(hour.0 - 1)).ok().flatten();
        seal.map_or(Self::Unreadable, |seal| Self::Seal(Box::new(seal)))
    }
}

fn fault(hour: Hour, operator: Option<&str>, what: &str, why: String) -> Fault {
    Fault {
        bucket_hour: hour,
        operator: operator.map(str::to_owned),
        cdr_sequence: None,
        cdr_id: None,
        what: what.to_owned(),
        why,
    }
}

/// Checks the seal of `hour` and hands it back if it can be read; it becomes `previous`.
pub(super) fn check_seal(
    generation: &Generation,
    committed: &Committed,
    hour: Hour,
    previous: &mut Previous,
    faults: &mut Vec<Fault>,
) -> Option<StoredSeal> {
    let before = std::mem::replace(previous, Previous::Unreadable);
    let stored = match seals::read(&generation.db, hour) {
        Ok(Some(stored)) => stored,
        Ok(None) => {
            faults.push(fault(hour, None, "seal", "it is missing".to_owned()));
            return None;
        }
        Err(error) => {
            faults.push(fault(hour, None, "seal", error.to_string()));
            return None;
        }
    };
    check_itself(committed, hour, &stored, faults);
    check_signature(committed, hour, &stored, faults);
    match before {
        Previous::Seal(before) => {
            if let Err(violation) = verify_succession(&before.seal, &before.seal_hash, &stored.seal) {
                faults.push(named("chain", hour, violation));
            }
            if before.first_ordinal.checked_add(before.seal.record_count) != Some(stored.first_ordinal) {
                let why = "its first row number does not follow from the hour before".to_owned();
                faults.push(fault(hour, None, "seal", why));
            }
        }
        Previous::Genesis => check_genesis(committed, &stored, faults),
        Previous::Unreadable => {}
    }
    *previous = Previous::Seal(Box::new(stored.clone()));
    Some(stored)
}

/// A violation keeps the name that it gives itself.
fn named(what: &str, hour: Hour, violation: Violation) -> Fault {
    match violation {
        Violation::Mismatch { what: part, why, .. } => match part.as_str() {
            "seal" | "national" => fault(hour, None, what, why),
            _ => fault(hour, Some(&part), what, why),
        },
        other => fault(hour, None, what, other.to_string()),
    }
}

fn check_itself(committed: &Committed, hour: Hour, stored: &StoredSeal, faults: &mut Vec<Fault>) {
    if sha256(&stored.canonical) != stored.seal_hash {
        faults.push(fault(
            hour,
            None,
            "seal",
            "its bytes do not match its hash: the seal was changed".to_owned(),
        ));
    }
    if let Err(violation) = verify_seal(&stored.seal, &stored.seal_hash) {
        faults.push(named("seal", hour, violation));
    }
    if stored.seal.bucket_hour != hour {
        faults.push(fault(hour, None, "seal", format!("it is the seal of {}", stored.seal.bucket_hour)));
    }
    let rows = committed.span(hour).map_or(0, |span| span.rows);
    if rows != stored.seal.record_count {
        let why =
            format!("it counts {} rows, the hours around it leave room for {rows}", stored.seal.record_count);
        faults.push(fault(hour, None, "seal", why));
    }
}

fn check_signature(committed: &Committed, hour: Hour, stored: &StoredSeal, faults: &mut Vec<Fault>) {
    let why = match &stored.signature {
        // No key covered an hour whose seal names none: it is never signed.
        None if hour < committed.state.head.next_unsigned && stored.seal.signer_key_id.is_some() => {
            "it is missing"
        }
        None => return,
        Some(signature) => {
            let named = |key_id: &String| committed.state.key(key_id);
            let key = stored.seal.signer_key_id.as_ref().and_then(named).and_then(KeyRecord::public_key);
            match key {
                Some(key) if verify_signature(&stored.seal_hash, signature, &key) => return,
                Some(_) => "it is not by the key that the seal names",
                None => "the seal names no registered key",
            }
        }
    };
    faults.push(fault(hour, None, "signature", why.to_owned()));
}

/// The first hour continues the genesis values that follow from the cluster's name.
fn check_genesis(committed: &Committed, stored: &StoredSeal, faults: &mut Vec<Fault>) {
    let Some(cluster) = &committed.state.cluster else { return };
    let (seal, hour) = (&stored.seal, stored.seal.bucket_hour);
    let genesis = national_genesis(&cluster.cluster_id);
    if cluster.generation == 1 && (seal.prev_seal_hash != genesis || seal.prev_chain_hash != genesis) {
        faults.push(fault(
            hour,
            None,
            "chain",
            "the first hour does not begin at the cluster's genesis".to_owned(),
        ));
    }
    for operator in seal.operators.iter().filter(|_| cluster.generation == 1) {
        let genesis = operator_genesis(&cluster.cluster_id, &operator.operator_id);
        if operator.prev_bucket_root != genesis || operator.prev_chain_hash != genesis {
            let why = "its first hour does not begin at its genesis".to_owned();
            faults.push(fault(hour, Some(&operator.operator_id), "chain", why));
        }
    }
}

/// Checks that what follows the last hour names it: the next seal, or the state if that hour is open.
pub(super) fn check_successor(
    generation: &Generation,
    committed: &Committed,
    last: Hour,
    previous: &Previous,
    faults: &mut Vec<Fault>,
) {
    let Previous::Seal(stored) = previous else { return };
    let head = &committed.state.head;
    let named = if last.next() == head.open_hour {
        Some((head.prev_seal_hash, head.national_chain))
    } else {
        let next = seals::read(&generation.db, last.next()).ok().flatten();
        next.map(|next| (next.seal.prev_seal_hash, next.seal.prev_chain_hash))
    };
    let Some((seal_hash, chain_hash)) = named else { return };
    if seal_hash != stored.seal_hash || chain_hash != stored.seal.chain_hash {
        let why = format!(
            "the hour after it continues seal {}, this one has hash {}",
            to_hex(&seal_hash),
            to_hex(&stored.seal_hash)
        );
        faults.push(fault(last, None, "chain", why));
    }
}
