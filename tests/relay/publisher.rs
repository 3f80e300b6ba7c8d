//! One real replica on the local bus and a replay clock, with a history that has something of everything to tell.

use cdr_bus::{Bus, LocalBackend, LocalOptions, PublishOptions, StoredMessage, publish_file};
use cdr_core::command::{Append, Command, DraftsBuffer, Reply, Source};
use cdr_core::job::{JobCounts, JobRequest, JobStep, Place};
use cdr_core::row::{Adjustment, AdjustmentType, Draft, Drawn, Record, SystemKind};
use cdr_core::{CdrId, Hour, Millis, Money};
use cdr_mediation::acts::{Act, Desk, Origin, PATIENCE, Wish};
use cdr_mediation::auth::Authenticator;
use cdr_mediation::auth::dev::{AUDIENCE, DevIssuer, ISSUER};
use cdr_mediation::clock::Clock;
use cdr_mediation::config::{Api, Auth, Config, Operator, Pricing, Tariff, TariffTable, TimeOfDay};
use cdr_mediation::events::signing_key::SigningKey;
use cdr_mediation::events::streams::STREAMS;
use cdr_mediation::generate::{GenerateOptions, generate};
use cdr_mediation::proposer::Proposer;
use cdr_mediation::replica::{Replica, ReplicaParts};
use cdr_mediation::signer::{DevKey, DevRoot, Voucher};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::free_ports;

pub const CLUSTER: &str = "events";
const OPERATORS: [&str; 7] = ["AWCC", "ROSHAN", "MTN_AF", "ETS", "SALAAM", "INTL_IN", "INTL_OUT"];
/// A number that people write into reasons and details.
pub const TOLD: &str = "+93701987654";

pub struct Publisher {
    pub replica: Replica,
    pub bus: Arc<dyn Bus>,
    pub key: Arc<SigningKey>,
    pub issuer: DevIssuer,
    pub clock: Clock,
    pub api_port: u16,
    root: DevRoot,
    dir: TempDir,
}

impl Publisher {
    /// A replica that leads; all but `ETS` have prices.
    pub async fn start() -> Self {
        let clock = Clock::replay(Millis::parse("2026-04-20T00:00:00Z").unwrap());
        Self::open(tempfile::tempdir().unwrap(), clock).await
    }

    /// The same replica after it was stopped on the spot, whatever was on its way.
    pub async fn restart(self) -> Self {
        let Self { replica, bus, dir, clock, .. } = self;
        replica.stop().await;
        drop(bus);
        Self::open(dir, clock).await
    }

    async fn open(dir: TempDir, clock: Clock) -> Self {
        let ports = free_ports(2);
        let peers = BTreeMap::from([(1, format!("127.0.0.1:{}", ports[0]))]);
        let mut config =
            Config::development(CLUSTER, 1, peers, dir.path(), &format!("127.0.0.1:{}", ports[1]));
        config.storage.dedup_filter_mb = 8;
        config.storage.write_buffer_mb = 16;
        config.events.batch = 32;
        config.api.max_live_feeds = 2;
        config.auth.issuer = Some(ISSUER.to_owned());
        config.auth.audience = Some(AUDIENCE.to_owned());
        let list = OPERATORS.map(|id| Operator { id: id.to_owned(), recording_entity: "4120101".to_owned() });
        config.operators.list = list.into();
        config.pricing = prices();
        // Long after the hours of these tests: no files of their own come between those that they tell of.
        (config.settlement.tap_start, config.settlement.tap_deadline) =
            (TimeOfDay::at(4, 0), TimeOfDay::at(5, 0));
        config.settlement.rap_cut_off = TimeOfDay::at(5, 0);
        let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
        let signer = DevKey::load_or_create(&dir.path().join("signer.key"), "seal").unwrap();
        let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let own_root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let key = Arc::new(SigningKey::load_or_create(&dir.path().join("event-signing.pem")).unwrap());
        let bus: Arc<dyn Bus> =
            Arc::new(LocalBackend::open(&dir.path().join("bus"), LocalOptions::default()).unwrap());
        let replica = Replica::start(ReplicaParts {
            config,
            clock: clock.clone(),
            bus: bus.clone(),
            signer: Arc::new(signer),
            voucher: Arc::new(Voucher::DevRoot(own_root)),
            event_key: Some(key.clone()),
            allow_replay: true,
        })
        .await
        .unwrap();
        let publisher = Self { replica, bus, key, issuer, clock, api_port: ports[1], root, dir };
        let store = publisher.replica.store().clone();
        // What the leader records by itself is there before anything else is told.
        until("the inbound stream", || store.state().latest_epoch("SMS_DLR_INBOUND").is_some()).await;
        until("the settings in force", || store.state().settings.get("settlement.tap_start").is_some()).await;
        publisher
    }

    /// Proposes beside the replica's own workers.
    pub fn proposer(&self) -> Proposer {
        let node = self.replica.node();
        Proposer::new(node.clone(), self.replica.store().clone(), self.clock.clone(), node.term(), 1_000)
    }

    /// Takes a part of a generated day in.
    pub async fn ingest(&self, records: u64, seed: u64) {
        let mut text = Vec::new();
        generate(&GenerateOptions::new("2026-04-20", records, seed).unwrap(), &mut text).unwrap();
        publish_file(&*self.bus, &text[..], &PublishOptions::default(), |_| ()).await.unwrap();
        let last = self.bus.stream_info("SMS_DLR_INBOUND").await.unwrap().last_sequence;
        let store = self.replica.store();
        until("everything taken in", || {
            store.state().latest_epoch("SMS_DLR_INBOUND").is_some_and(|stream| stream.position >= last)
        })
        .await;
    }

    /// Ids of CDRs of the operators that are `wanted`, by place.
    pub fn cdrs(&self, wanted: impl Fn(&str) -> bool) -> Vec<CdrId> {
        let store = self.replica.store();
        let rows = store.rows(0..store.state().head.row_count).unwrap();
        let rows = rows.iter().map(|stored| stored.row().unwrap());
        rows.filter(|row| row.sms().is_some() && wanted(row.frame.operator_id))
            .map(|row| row.frame.cdr_id)
            .collect()
    }

    /// Acts that people ask for, with a subscriber's number wherever they can write.
    pub async fn act(&self) {
        let priced = self.cdrs(|operator| operator == "AWCC");
        let auth = Auth { jwks_file: self.issuer.jwks_path().to_owned(), ..Auth::default() };
        let auth = Arc::new(Authenticator::from_config(&auth, &Api::default()).unwrap());
        let desk = Desk::new(self.replica.node().clone(), self.replica.store().clone(), auth);
        let open = desk.open(self.proposer());
        let fields = json!({ "calledPartyAddress": TOLD, "chargeAmount": "1.000000" });
        let note = json!({ "asked": format!("by {TOLD}"), "depth": "rows" });
        let object = |value: Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
        let note_of = |entry_type: &str| Wish::Note {
            entry_type: entry_type.to_owned(),
            bucket_hour: Some(Hour(493_500)),
            operator_id: Some("AWCC".to_owned()),
            details: object(note.clone()),
        };
        let wishes = [
            Wish::Correct { cdr_id: priced[0], fields: object(fields) },
            Wish::Correct { cdr_id: priced[0], fields: object(json!({ "segmentCount": 2 })) },
            Wish::Void { cdr_id: priced[1], void_reason: "DUPLICATE_DLR".to_owned() },
            note_of("CHAIN_VERIFY_OK"),
            note_of("OF_NO_KIND_THAT_THE_SCHEMA_KNOWS"),
        ];
        for (number, wish) in wishes.into_iter().enumerate() {
            let act = Act {
                wish,
                actor: "user-1".to_owned(),
                approver: Some("user-2".to_owned()),
                reason: Some(format!("for {TOLD}")),
                ticket_id: Some("T-1".to_owned()),
                trace_id: "trace-act".to_owned(),
                key: [number as u8; 32],
                body: [9; 32],
                origin: Origin::Replica,
            };
            desk.perform(&act, PATIENCE).await.unwrap();
        }
        drop(open);
    }

    /// What workers append: a late price, a bulk job, a new key, a changed setting.
    pub async fn work(&self) {
        let proposer = self.proposer();
        self.price(&proposer, self.cdrs(|operator| operator == "ETS")[0]).await;
        let request = JobRequest {
            approver_user_id: "user-2".to_owned(),
            issued_by_user_id: "user-1".to_owned(),
            new_pricing_table_id: "p-2".to_owned(),
            reason: format!("for {TOLD}"),
            ticket_id: "T-2".to_owned(),
            trace_id: "trace-job".to_owned(),
            ..JobRequest::default()
        };
        let mut rows = self.rows();
        let job_id = rows.job(request);
        let counts = JobCounts { adjusted: 3, unchanged: 1, ..JobCounts::default() };
        for (behind, upto) in [(None, 1), (Some(1), 2)] {
            let place = |cdr_sequence| Place { bucket_hour: Hour(493_000), cdr_sequence };
            let (behind, upto) = (behind.map(place), place(upto));
            let (job_id, sum_delta) = (job_id.clone(), "-0.000007".to_owned());
            rows.step(&JobStep::Progress { job_id, behind, upto, counts, sum_delta });
        }
        rows.step(&JobStep::Finished { job_id });
        rows.append().await;
        let next = DevKey::load_or_create(&self.dir.path().join("next.key"), "next").unwrap();
        let from = self.replica.store().state().head.open_hour.next();
        let record = self.root.vouch(&next, CLUSTER, from).unwrap();
        let change = json!({
            "configKey": "export.variant", "previousValue": null, "newValue": "TAP_3_12_AF",
            "actorUserId": "user-1", "approverUserId": "user-2", "reason": format!("for {TOLD}"), "ticketId": "T-3",
        });
        let mut rows = self.rows();
        rows.push(SystemKind::Key, &json!(record));
        rows.push(SystemKind::Config, &change);
        rows.append().await;
    }

    /// The replica takes no commands for a moment, for a reason that a person wrote.
    pub async fn restrict(&self) {
        let (node, store) = (self.replica.node(), self.replica.store());
        node.restrict(&format!("for {TOLD}"));
        // What was on its way before is committed by the time that nothing has come for a while.
        let mut seen = (0, Instant::now());
        until("that nothing is committed any more", || {
            let rows = store.state().head.row_count;
            if rows != seen.0 {
                seen = (rows, Instant::now());
            }
            seen.1.elapsed() >= Duration::from_millis(500)
        })
        .await;
        let rows = seen.0;
        // It leads alone: nobody can be told before it is over.
        node.unrestrict();
        until("both changes in the ledger", || store.state().head.row_count >= rows + 2).await;
    }

    /// The price that an unpriced CDR gets when billing knows it.
    async fn price(&self, proposer: &Proposer, id: CdrId) {
        let stored = self.replica.store().row_by_id(id).unwrap().unwrap();
        let row = stored.row().unwrap();
        let mut sms = row.sms().unwrap().clone();
        assert_eq!(sms.charge_amount, None);
        sms.charge_amount = Money::parse("0.25");
        (sms.charge_currency, sms.tap_tariff_class) = (Some("AFN"), Some("A001"));
        sms.tariff_version = Some("snapshot-1");
        sms.adjustment = Some(Adjustment {
            of: id,
            kind: AdjustmentType::Correction,
            reason: Some("priced late"),
            void_reason: None,
            ticket_id: Some("PRICING"),
            issued_by: Some(cdr_mediation::names::PRICE_ISSUER),
            approver: None,
        });
        let mut drafts = DraftsBuffer::default();
        let (Drawn { version, cdr_id, salt }, operator_id) =
            (proposer.draw().unwrap(), row.frame.operator_id);
        let draft =
            Draft { version, cdr_id, operator_id, trace_id: "trace-price", salt, record: Record::Sms(sms) };
        drafts.push(0, &draft).unwrap();
        let append = Append { source: Source::Internal, drafts: drafts.drafts() };
        let reply = proposer.propose(Command::Append(append)).await.unwrap();
        assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
    }

    /// Ends the open hour, and waits until it is sealed and everything published.
    pub async fn close_hour(&self) {
        let store = self.replica.store();
        let end = store.state().head.open_hour.end();
        self.clock.observe(end);
        self.clock.release();
        until("the hour's seal", || store.state().head.open_hour >= end.hour()).await;
        self.all_published().await;
    }

    /// Every message of the event streams, by stream, once there are as many events of each subject as `expected`.
    pub async fn messages_once(
        &self,
        expected: &BTreeMap<&str, usize>,
    ) -> BTreeMap<&'static str, Vec<StoredMessage>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let all = self.messages().await;
            let mut counts = BTreeMap::new();
            for message in all.values().flatten() {
                *counts.entry(message.subject.as_str()).or_insert(0) += 1;
            }
            let more = counts.iter().any(|(subject, count)| expected.get(subject) < Some(count));
            if counts == *expected || more || Instant::now() >= deadline {
                assert_eq!(counts, *expected);
                return all;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the cursor is behind everything.
    pub async fn all_published(&self) {
        let store = self.replica.store();
        until("everything published", || store.oldest_unpublished().unwrap().is_none()).await;
    }

    /// Every message of the event streams, by stream.
    pub async fn messages(&self) -> BTreeMap<&'static str, Vec<StoredMessage>> {
        let mut all = BTreeMap::new();
        for (stream, _) in STREAMS {
            let last = self.bus.stream_info(stream).await.unwrap().last_sequence;
            let mut messages = Vec::new();
            for sequence in 1..=last {
                messages.push(self.bus.message(stream, sequence).await.unwrap().unwrap());
            }
            all.insert(stream, messages);
        }
        all
    }

    /// Every subscriber's number and identity in the ledger, without `+`, and those that people wrote.
    pub fn secrets(&self) -> BTreeSet<String> {
        let store = self.replica.store();
        let mut secrets = BTreeSet::from([TOLD[1..].to_owned()]);
        for stored in store.rows(0..store.state().head.row_count).unwrap() {
            let row = stored.row().unwrap();
            let Some(sms) = row.sms() else { continue };
            let sender = Some(sms.calling_party).filter(|number| number.starts_with('+'));
            let numbers = [sender, Some(sms.called_party), sms.original_served_subscriber, sms.imsi];
            secrets.extend(numbers.into_iter().flatten().map(|n| n.trim_start_matches('+').to_owned()));
        }
        secrets
    }
}

fn prices() -> Pricing {
    let tariff = |operator: &str| Tariff {
        operator_id: Some(operator.to_owned()),
        tenant_id: None,
        charge_type: None,
        direction: None,
        per_segment: Money::parse("0.42").unwrap(),
        currency: "AFN".to_owned(),
        tap_tariff_class: "A040".to_owned(),
        billing_indicator: cdr_core::row::BillingIndicator::Chargeable,
    };
    let tariffs = OPERATORS.iter().filter(|id| **id != "ETS").map(|id| tariff(id)).collect();
    let table = TariffTable { version: "p-1".to_owned(), valid_from: Millis(0), valid_to: None, tariffs };
    Pricing { tables: vec![table], ..Pricing::default() }
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
