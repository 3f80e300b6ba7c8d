//! What system rows mean to the state.

use super::{LedgerState, Operator, Stream, StreamRecord, stream_epoch};
use crate::canonical::MAX_INTEGER;
use crate::command::{Rejection, Source};
use crate::export::books::Books;
use crate::export::fold::RowPlace;
use crate::job::{JobStep, Place};
use crate::key::{Algorithm, KeyRecord};
use crate::row::{Frame, SYSTEM_OPERATOR, System, SystemKind};
use crate::rules::{RULES_SETTING, Rules};
use crate::setting::SettingChange;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;

impl LedgerState {
    pub(super) fn fold_system(
        &mut self,
        frame: &Frame<'_>,
        system: &System<'_>,
        books: &mut Books,
    ) -> Result<(), Rejection> {
        let place =
            RowPlace { id: frame.cdr_id, ordinal: self.head.row_count, recorded_at: frame.recorded_at };
        // Both texts enter hashes as they are.
        let content = system.check().map_err(|why| Rejection::Illegal { why })?;
        match system.kind {
            SystemKind::Operator => self.fold_operator(read(content)?),
            SystemKind::Key => self.fold_key(read(content)?),
            SystemKind::Stream => self.fold_stream(read(content)?),
            // A content without a key or a step means nothing to the state.
            SystemKind::Config if content.contains_key("configKey") => self.fold_setting(read(content)?),
            SystemKind::Job if content.contains_key("step") => self.fold_job(frame, read(content)?),
            SystemKind::Export if content.contains_key("step") => {
                books.export(&mut self.exports, place, read(content)?)
            }
            SystemKind::Delivery if content.contains_key("step") => {
                books.delivery(&mut self.exports, place, read(content)?)
            }
            SystemKind::Quarantine if content.contains_key("step") => books.quarantine(place, read(content)?),
            SystemKind::Audit => crate::audit::request_of(system)
                .map(|_| ())
                .map_err(|why| Rejection::Illegal { why: format!("audit row: {why}") }),
            _ => Ok(()),
        }
    }

    fn fold_setting(&mut self, change: SettingChange) -> Result<(), Rejection> {
        let raised =
            if change.config_key == RULES_SETTING { Some(self.raised(&change.new_value)?) } else { None };
        self.settings.fold(change)?;
        self.head.rules = raised.unwrap_or(self.head.rules);
        Ok(())
    }

    /// Rules that a change of the setting brings into force: they never go back.
    fn raised(&self, value: &str) -> Result<Rules, Rejection> {
        let rules = value.parse().map(Rules).ok().filter(|rules| rules.to_string() == value);
        rules.filter(|rules| *rules > self.head.rules).ok_or_else(|| Rejection::Illegal {
            why: format!("rules version {value} can't come into force after {}", self.head.rules),
        })
    }

    fn fold_operator(&mut self, operator: Operator) -> Result<(), Rejection> {
        // The first hour's registry is part of its beginning; everyone else joins with an hour of notice.
        let beginning = self.head.open_hour == self.head.first_hour && !self.has_traffic();
        let from = operator.effective_from;
        let legal = crate::id::is_name(&operator.operator_id)
            && !operator.operator_id.starts_with('_')
            && self.registry.len() < usize::from(u16::MAX)
            && (from == self.head.open_hour.next() || beginning && from == self.head.open_hour)
            && self.registry.iter().all(|known| known.operator_id != operator.operator_id);
        if !legal {
            let why = format!(
                "operator {} can't join from {from}: it needs a new name of [A-Za-z0-9_-]{{1,16}} and the next hour",
                operator.operator_id
            );
            return Err(Rejection::Illegal { why });
        }
        self.register(operator);
        Ok(())
    }

    /// True once a row of any operator but the system's own is in the ledger.
    fn has_traffic(&self) -> bool {
        self.partitions.iter().any(|p| p.operator_id != SYSTEM_OPERATOR && p.frontier.count() > 0)
    }

    fn fold_key(&mut self, key: KeyRecord) -> Result<(), Rejection> {
        let cluster = self.cluster.as_ref().map_or("", |c| c.cluster_id.as_str());
        let known = self.key(&key.key_id).is_some();
        // The key of a sealed hour never changes: its seal names it.
        let covers_sealed =
            key.from_hour < self.head.open_hour && self.head.open_hour != self.head.first_hour;
        if known || covers_sealed || key.cluster_id != cluster || key.public_key().is_none() {
            let why = format!(
                "key {} is known already, covers sealed hours, is of another cluster, or not a key of {}",
                key.key_id,
                Algorithm::ALL.map(Algorithm::as_str).join(" or ")
            );
            return Err(Rejection::Illegal { why });
        }
        Arc::make_mut(&mut self.keys).push(key);
        Ok(())
    }

    fn fold_job(&mut self, frame: &Frame<'_>, step: JobStep) -> Result<(), Rejection> {
        let at = Place { bucket_hour: frame.bucket_hour, cdr_sequence: frame.sequence };
        self.jobs.fold(frame.cdr_id, at, frame.recorded_at, step)
    }

    fn fold_stream(&mut self, record: StreamRecord) -> Result<(), Rejection> {
        let illegal = |why: &str| Rejection::Illegal { why: format!("stream {}: {why}", record.stream) };
        let (base, epoch) =
            stream_epoch(&record.stream).ok_or_else(|| illegal("it is not the name of an epoch"))?;
        if [Source::Api, Source::Internal].iter().any(|own| own.as_str() == base) || record.created.is_empty()
        {
            return Err(illegal("the name is the system's own, or the creation time is missing"));
        }
        let latest = self.latest_epoch(base).and_then(|s| stream_epoch(&s.name)).map_or(0, |(_, n)| n);
        let at = match self.streams.binary_search_by(|s| s.name.cmp(&record.stream)) {
            Err(at) if epoch == latest + 1 && (1..=MAX_INTEGER).contains(&record.first_sequence) => at,
            _ => return Err(illegal("its epoch is not the next one, or its first sequence not in 1..2^53")),
        };
        self.streams.insert(at, Stream::new(record.stream, record.created, record.first_sequence - 1));
        Ok(())
    }
}

fn read<T: DeserializeOwned>(content: Map<String, Value>) -> Result<T, Rejection> {
    serde_json::from_value(Value::Object(content))
        .map_err(|e| Rejection::Illegal { why: format!("body: {e}") })
}
