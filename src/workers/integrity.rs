//! Every night, the leader verifies the sealed hours of the last seven days as it has them, every row (US-CDR-005).
//!
//! The range is cut into days. Each is recorded in the audit log when it is verified, under a key of the night and the day:
//! a leader that takes over goes on behind what is recorded, and a step that is done twice is recorded once. A day that does
//! not hold is reported at once, as SEV1 and `CHAIN_BREAK_DETECTED`; the night ends with `CHAIN_VERIFY_OK` or
//! `CHAIN_BREAK_DETECTED` for the whole range. Rows are read no faster than configured, on one thread, past the cache.

use super::EndsTerm;
use crate::acts::{
    Act, ActError, Desk, FAULTS_NOTED, Origin, PATIENCE, Wish, depth_text, fault, verification,
};
use crate::metrics::{Metrics, Verified};
use crate::proposer::Proposer;
use crate::zone;
use cdr_core::audit::AuditRecord;
use cdr_core::hash::{Hash, sha256, to_hex};
use cdr_core::row::Record;
use cdr_core::time::Day;
use cdr_core::{Hour, LedgerState, Millis};
use cdr_storage::{Depth, Pace, Store, StoreError};
use jiff::civil::Time;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Who verifies.
const ACTOR: &str = "system:integrity";
/// Kind of the audit entry of a day that holds; the night is still to end.
const STEP_OK: &str = "CHAIN_VERIFY_STEP";
/// Hours of a night's range: seven days.
const HOURS: u32 = 7 * STEP_HOURS;
/// Hours of a step.
const STEP_HOURS: u32 = 24;
/// How often to check whether a night has come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When and how the last days are verified.
#[derive(Clone)]
pub struct Integrity {
    /// Local time from which a night's range is verified.
    pub at: Time,
    /// Rows read a second, at most.
    pub rows_per_second: u64,
    /// Where what was found is recorded.
    pub desk: Desk,
    /// What counts.
    pub metrics: Arc<Metrics>,
}

/// Why a night's range is not verified yet; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum IntegrityError {
    /// What is stored can't be read.
    #[error("the last days can't be verified: {0}")]
    Store(#[from] StoreError),
    /// What was found can't be recorded.
    #[error("what the nightly verification found is not in the audit log yet: {0}")]
    Note(#[from] ActError),
    /// The settlement zone's time can't be computed.
    #[error("the settlement zone's time can't be computed: {0}")]
    Zone(#[from] jiff::Error),
    /// A step that is recorded can't be read.
    #[error("the audit log's entry of a verified day can't be read: {0}")]
    Noted(String),
    /// The leader's work ended meanwhile.
    #[error("the verification was interrupted")]
    Interrupted,
}

impl EndsTerm for IntegrityError {
    fn ends_term(&self) -> bool {
        false
    }
}

impl Integrity {
    /// Verifies each night's range once.
    ///
    /// # Errors
    /// [`IntegrityError`]; a restart goes on behind the days that are recorded.
    pub async fn run(&self, proposer: &Proposer) -> Result<(), IntegrityError> {
        let mut done = None;
        loop {
            let night = Night::latest(&proposer.state(), self.at, proposer.clock().now())?;
            if let Some(night) = night.filter(|night| done != Some(night.day)) {
                self.verify(proposer, night).await?;
                done = Some(night.day);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn verify(&self, proposer: &Proposer, night: Night) -> Result<(), IntegrityError> {
        let store = proposer.store();
        let ended = night.key("end");
        if let Some(note) = noted(store, &ended)? {
            self.metrics.integrity_checked(note.at);
            return Ok(());
        }
        self.metrics.integrity_due(night.to.end());
        tracing::info!(night = %night.day, from = %night.from, to = %night.to, "verifying the last days");
        let mut found = Found::default();
        for (from, to) in night.steps() {
            let key = night.key(&from.to_string());
            let step = if let Some(note) = noted(store, &key)? {
                Found::of(&note.details)
            } else {
                let step = self.step(store, from, to).await?;
                self.note(proposer, night, &key, (from, to), &step, true).await?;
                step
            };
            found.add(step);
        }
        self.note(proposer, night, &ended, (night.from, night.to), &found, false).await?;
        self.metrics.integrity_checked(proposer.clock().now());
        tracing::info!(
            night = %night.day, records = found.records, faults = found.faults, "the last days are verified"
        );
        Ok(())
    }

    /// Verifies the hours of a step.
    async fn step(&self, store: &Store, from: Hour, to: Hour) -> Result<Found, IntegrityError> {
        let pace = StopOnDrop(Arc::new(Pace::new(self.rows_per_second)));
        let (slowly, store) = (pace.0.clone(), store.clone());
        let verifying = tokio::task::spawn_blocking(move || {
            let mut found = Found::default();
            for hour in (from.0..=to.0).map(Hour) {
                let report = store.verify_hour_slowly(hour, &slowly)?;
                let report = report.ok_or(IntegrityError::Interrupted)?;
                found.hours += 1;
                found.records += report.rows_checked;
                found.chain =
                    report.sealed.map(|sealed| (sealed.chain_hash, sealed.seal_hash)).or(found.chain);
                if let Some(first) = report.faults.first() {
                    tracing::error!(
                        severity = "SEV1",
                        %hour,
                        faults = report.faults.len(),
                        first = %fault(first),
                        "the chain does not verify on this replica: verify the hour on the others, and stop the one \
                         that differs"
                    );
                }
                found.faults += report.faults.len() as u64;
                found.first.extend(report.faults.iter().map(fault));
                found.first.truncate(FAULTS_NOTED);
            }
            Ok::<_, IntegrityError>(found)
        });
        let found = verifying.await.map_err(|_| IntegrityError::Interrupted)??;
        if found.faults > 0 {
            self.metrics.mismatch(Verified::Nightly);
        }
        Ok(found)
    }

    /// Puts what was found into the audit log, once for each key.
    async fn note(
        &self,
        proposer: &Proposer,
        night: Night,
        key: &Hash,
        (from, to): (Hour, Hour),
        found: &Found,
        is_step: bool,
    ) -> Result<(), IntegrityError> {
        let mut answer = json!({
            "night": night.day, "from": from, "to": to, "hours": found.hours, "records": found.records,
            "depth": depth_text(Depth::Rows), "verified": found.faults == 0, "faultCount": found.faults,
            "faults": found.first, "nodeId": proposer.node().node_id(),
        });
        if let Some((chain_hash, seal_hash)) = &found.chain {
            answer["chainHash"] = to_hex(chain_hash).into();
            answer["sealHash"] = to_hex(seal_hash).into();
        }
        let mut wish = verification(&answer);
        if let Wish::Note { entry_type, .. } = &mut wish
            && is_step
            && found.faults == 0
        {
            STEP_OK.clone_into(entry_type);
        }
        let act = Act {
            wish,
            actor: ACTOR.to_owned(),
            approver: None,
            reason: None,
            ticket_id: None,
            trace_id: format!("integrity-{}", night.day),
            key: *key,
            // A step that is repeated means the same one, whatever this replica finds.
            body: sha256(key),
            origin: Origin::Replica,
        };
        self.desk.perform(&act, PATIENCE).await?;
        Ok(())
    }
}

/// One night's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Night {
    /// The local day that it begins.
    day: Day,
    from: Hour,
    to: Hour,
}

impl Night {
    /// The latest night that has come by `now`, once all its hours are sealed; none before the ledger has any.
    fn latest(state: &LedgerState, at: Time, now: Millis) -> Result<Option<Self>, jiff::Error> {
        let Some(cluster) = &state.cluster else { return Ok(None) };
        let (day, began) = zone::latest_local(&cluster.zone, at, now)?;
        let Some(to) = began.hour().0.checked_sub(1).map(Hour) else { return Ok(None) };
        let from = Hour((to.0 + 1).saturating_sub(HOURS)).max(state.head.first_hour);
        Ok((from <= to && to < state.head.open_hour).then_some(Self { day, from, to }))
    }

    fn steps(self) -> impl Iterator<Item = (Hour, Hour)> {
        let starts = (self.from.0..=self.to.0).step_by(STEP_HOURS as usize);
        starts.map(move |from| (Hour(from), Hour((from + STEP_HOURS - 1).min(self.to.0))))
    }

    /// The key under which a part of the night's work is recorded.
    fn key(self, part: &str) -> Hash {
        Act::key_of(ACTOR, &format!("night {}: {part}", self.day))
    }
}

/// What was found in some hours.
#[derive(Clone, Debug, Default, PartialEq)]
struct Found {
    hours: u64,
    records: u64,
    faults: u64,
    /// The first of the faults.
    first: Vec<Value>,
    /// National chain and seal of the last hour.
    chain: Option<(Hash, Hash)>,
}

impl Found {
    /// What the audit log has of it.
    fn of(details: &serde_json::Map<String, Value>) -> Self {
        let number = |name: &str| details.get(name).and_then(Value::as_u64).unwrap_or(0);
        let hash = |name: &str| details.get(name).and_then(Value::as_str).and_then(cdr_core::hash::from_hex);
        Self {
            hours: number("hours"),
            records: number("records"),
            faults: number("faultCount"),
            first: details.get("faults").and_then(Value::as_array).cloned().unwrap_or_default(),
            chain: hash("chainHash").zip(hash("sealHash")),
        }
    }

    fn add(&mut self, later: Self) {
        self.hours += later.hours;
        self.records += later.records;
        self.faults += later.faults;
        self.first.extend(later.first);
        self.first.truncate(FAULTS_NOTED);
        self.chain = later.chain.or(self.chain);
    }
}

/// An entry of the audit log.
struct Noted {
    at: Millis,
    details: serde_json::Map<String, Value>,
}

/// The entry that was made under a key.
fn noted(store: &Store, key: &Hash) -> Result<Option<Noted>, IntegrityError> {
    let Some(request) = store.request(key)? else { return Ok(None) };
    let unreadable = |why: String| IntegrityError::Noted(format!("{}: {why}", request.answer));
    let stored = store.row_by_id(request.answer)?.ok_or_else(|| unreadable("it is missing".to_owned()))?;
    let row = stored.row()?;
    let Record::System(system) = &row.record else {
        return Err(unreadable("it is not a system row".to_owned()));
    };
    let record: AuditRecord = system.read().map_err(unreadable)?;
    Ok(Some(Noted { at: row.frame.recorded_at, details: record.details }))
}

/// A verification that ends with its owner.
struct StopOnDrop(Arc<Pace>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::node::ledger_begun_at;

    fn state(first: &str, open: &str) -> LedgerState {
        let mut state = ledger_begun_at(Millis::parse(first).unwrap());
        state.head.open_hour = Hour::parse(open).unwrap();
        state
    }

    fn latest(state: &LedgerState, now: &str) -> Option<(String, String, String)> {
        let now = Millis::parse(now).unwrap();
        let night = Night::latest(state, Time::constant(3, 30, 0, 0), now).unwrap();
        night.map(|night| (night.day.to_string(), night.from.to_string(), night.to.to_string()))
    }

    #[test]
    fn a_night_covers_the_seven_days_before_it_once_they_are_sealed() {
        let state = state("2026-04-01T10:00:00Z", "2026-04-20T23:00:00Z");
        let night = |day: &str, from: &str, to: &str| Some((day.to_owned(), from.to_owned(), to.to_owned()));
        let of_the_20th = night("2026-04-20", "2026-04-12T23:00:00Z", "2026-04-19T22:00:00Z");
        let of_the_21st = night("2026-04-21", "2026-04-13T23:00:00Z", "2026-04-20T22:00:00Z");
        assert_eq!(latest(&state, "2026-04-20T22:59:59.999Z"), of_the_20th);
        assert_eq!(latest(&state, "2026-04-20T23:00:00Z"), of_the_21st);
        assert_eq!(latest(&state, "2026-04-21T22:00:00Z"), of_the_21st);
        assert_eq!(latest(&state, "2026-04-21T23:00:00Z"), None, "not sealed yet");
    }

    #[test]
    fn a_young_ledger_is_verified_from_its_first_hour_on() {
        let state = state("2026-04-20T21:30:00Z", "2026-04-21T12:00:00Z");
        assert_eq!(latest(&state, "2026-04-20T22:30:00Z"), None);
        let first =
            ("2026-04-21".to_owned(), "2026-04-20T21:00:00Z".to_owned(), "2026-04-20T22:00:00Z".to_owned());
        assert_eq!(latest(&state, "2026-04-21T12:00:00Z"), Some(first));
        let night = Night { day: Day(0), from: Hour(10), to: Hour(10 + HOURS - 2) };
        let steps: Vec<(Hour, Hour)> = night.steps().collect();
        assert_eq!((steps.len(), steps[0], steps[6]), (7, (Hour(10), Hour(33)), (Hour(154), Hour(176))));
    }

    #[test]
    fn what_is_noted_of_a_step_is_what_was_found() {
        let mut found = Found {
            hours: 24,
            records: 7,
            faults: 12,
            first: vec![json!({"bucketHour": "2026-04-20T13:00:00Z"}); FAULTS_NOTED],
            chain: Some(([1; 32], [2; 32])),
        };
        let answer = json!({
            "hours": 24, "records": 7, "faultCount": 12, "faults": found.first, "verified": false,
            "chainHash": to_hex(&[1; 32]), "sealHash": to_hex(&[2; 32]),
        });
        let Wish::Note { details, .. } = verification(&answer) else { panic!("a note is expected") };
        assert_eq!(Found::of(&details), found);
        found.add(found.clone());
        assert_eq!((found.hours, found.records, found.faults, found.first.len()), (48, 14, 24, FAULTS_NOTED));
    }
}
