//! From election to deposition: compare clocks, fence, begin the ledger if there is none, run the workers.

use super::consume::{Consumer, ConsumerSettings, consumers};
use super::retry::repeat;
use super::{
    Deliveries, EndsTerm, Exports, Integrity, RETRY_PAUSE, RegulatorSettings, Relay, clock_watch, deliver,
    export, priceless, reconcile, registry, relay, reprice, rerate, rules, seal, settings, sign, tariffs,
};
use crate::acts::Desk;
use crate::agreement::Terms;
use crate::clock::Clock;
use crate::ingest::{Ingest, IngestError};
use crate::metrics::Metrics;
use crate::pricing::{EntitySource, Pricing};
use crate::proposer::{ProposalError, Proposer};
use crate::signer::{Signing, Voucher};
use cdr_core::LedgerState;
use cdr_core::command::{Command, Initialize, Rejection, Reply};
use cdr_core::rules::Rules;
use cdr_raft::{Leadership as RaftLeadership, Node};
use cdr_storage::Store;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// With what a ledger begins.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Name of the cluster.
    pub cluster_id: String,
    /// IANA name of the settlement zone.
    pub zone: String,
    /// How long `messageId` decides what is a duplicate, in hours.
    pub dedup_horizon_hours: u32,
    /// Operators and their TAP recording entities.
    pub operators: Vec<(String, String)>,
}

/// Everything that leading needs.
pub struct Leadership {
    /// The Raft node.
    pub node: Node,
    /// The replicated store.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// The inbound stream.
    pub ingest: Ingest,
    /// Where requests are accepted.
    pub desk: Desk,
    /// Where prices come from.
    pub pricing: Arc<dyn Pricing>,
    /// How often records without a price are compared with the price lists.
    pub reprice_every: Duration,
    /// Where recording entities come from.
    pub entities: Arc<dyn EntitySource>,
    /// The other services' messages.
    pub consumers: ConsumerSettings,
    /// Signs seals, and the files of exports.
    pub signing: Signing,
    /// Where the record comes from with which the signing key enters the ledger.
    pub voucher: Arc<Voucher>,
    /// With what a ledger begins.
    pub ledger: LedgerSettings,
    /// What of the configuration must agree with a ledger that has begun.
    pub terms: Terms,
    /// The most that this node's clock may be off while it leads, milliseconds.
    pub max_clock_offset_ms: i64,
    /// Publishes events; none if they are not published.
    pub relay: Option<Relay>,
    /// Makes settlement files; none where none are made.
    pub exports: Option<Exports>,
    /// What the regulator gets and when, as the ledger records it.
    pub regulator: RegulatorSettings,
    /// Rules that are brought into force once every replica knows them.
    pub rules_upto: Rules,
    /// How long a record may wait for a price before it goes into quarantine, hours.
    pub unpriced_wait_hours: u32,
    /// Delivers them; without it they wait.
    pub deliveries: Option<Deliveries>,
    /// Verifies the last days at night.
    pub integrity: Integrity,
    /// What counts.
    pub metrics: Arc<Metrics>,
}

impl Leadership {
    async fn lead(&self, term: u64) {
        let (node, store, clock) = (self.node.clone(), self.store.clone(), self.clock.clone());
        let proposer = Proposer::new(node, store, clock, term, self.max_clock_offset_ms);
        if !self.open_term(&proposer).await {
            return;
        }
        tracing::info!(term, "this node leads");
        let _open = self.desk.open(proposer.clone());
        let _on_duty = self.signing.on_duty();
        tokio::select! {
            () = self.work(&proposer) => tracing::info!(term, "this node no longer leads"),
            () = clock_watch::until_wrong(&proposer, &self.metrics) => self.give_up().await,
        }
    }

    async fn work(&self, proposer: &Proposer) {
        let positions = || -> u64 { proposer.state().streams.iter().map(|stream| stream.position).sum() };
        tokio::select! {
            () = repeat("ingest", &self.metrics, positions, || self.take_in(proposer)) => (),
            () = self.again("seal", || seal::run(proposer)) => (),
            () = self.again("sign", || sign::run(proposer, &self.signing)) => (),
            () = self.again("key", || registry::keep_key(proposer, &self.signing, &self.voucher)) => (),
            () = self.again("tariffs", || tariffs::run(proposer, &self.pricing)) => (),
            () = self.again("rerate", || rerate::run(proposer, &self.pricing)) => (),
            () = self.again("relay", || relay::run(self.relay.as_ref(), proposer)) => (),
            () = self.again("reprice", || reprice::run(proposer, &self.pricing, self.reprice_every)) => (),
            () = self.again("reconcile", || reconcile::run(proposer, self.consumers.billing_kept_hours())) => (),
            () = self.again("rules", || rules::run(self.rules_upto, proposer, &self.metrics)) => (),
            () = self.again("integrity", || self.integrity.run(proposer)) => (),
            () = self.consume(proposer) => (),
            () = self.settle(proposer) => (),
        }
    }

    /// Runs a worker repeatedly until the term is over.
    async fn again<E: EndsTerm, F: Future<Output = Result<(), E>>>(
        &self,
        name: &str,
        run: impl FnMut() -> F,
    ) {
        repeat(name, &self.metrics, || 0, run).await;
    }

    /// Makes and delivers settlement files; returns when the term is over, or never where none are made.
    async fn settle(&self, proposer: &Proposer) {
        let Some(exports) = &self.exports else { return std::future::pending().await };
        let (plan, wait_hours) = (&exports.settings, self.unpriced_wait_hours);
        tokio::select! {
            () = self.again("export", || export::make(exports, proposer)) => (),
            () = self.again("export signatures", || export::sign(exports, proposer)) => (),
            () = self.again("quarantine", || priceless::run(plan, wait_hours, proposer)) => (),
            () = self.again("settings", || settings::run(&self.regulator, proposer)) => (),
            () = self.again("deliver", || deliver::run(self.deliveries.as_ref(), proposer)) => (),
        }
    }

    /// Runs every consumer; returns when the term is over.
    async fn consume(&self, proposer: &Proposer) {
        let all = consumers(&self.consumers, &self.ingest.bus, &self.pricing, &self.entities, &self.metrics);
        let run = |consumer: Consumer| async move {
            self.again(consumer.name(), || consumer.run(proposer)).await;
        };
        let ((), _, _) = futures::future::select_all(all.into_iter().map(|one| Box::pin(run(one)))).await;
    }

    /// Runs the ingest, and reports the state of the bus.
    async fn take_in(&self, proposer: &Proposer) -> Result<(), IngestError> {
        let outcome = self.ingest.run(proposer).await;
        if let Err(IngestError::Bus(error)) = &outcome {
            self.metrics.dependency("bus", Err(error.to_string()));
        }
        outcome
    }

    /// Checks the clock, fences earlier terms off and begins the ledger; false if this node can't lead.
    async fn open_term(&self, proposer: &Proposer) -> bool {
        loop {
            match clock_watch::is_right(proposer, &self.metrics).await {
                Ok(true) => break,
                Ok(false) => {
                    self.give_up().await;
                    return false;
                }
                Err(error) => tracing::warn!(error, "clocks can't be compared: not leading yet"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        loop {
            match self.fence_and_begin(proposer).await {
                Ok(()) => return self.agrees(proposer).await,
                Err(error @ ProposalError::Deposed { .. }) => {
                    tracing::info!(%error, "not leading");
                    return false;
                }
                Err(error) => tracing::warn!(%error, "the term can't begin yet"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Sees whether this node may lead on the ledger as it is, and puts its price lists into it; false if it may not.
    async fn agrees(&self, proposer: &Proposer) -> bool {
        if let Err(contradiction) = self.terms.check(&proposer.state()) {
            tracing::error!(severity = "SEV1", %contradiction, "this node's configuration contradicts the ledger: it does not lead");
            self.give_up().await;
            return false;
        }
        if let Err(error) = tariffs::record_all(proposer, &self.pricing).await {
            tracing::warn!(%error, "price lists are not in the ledger yet");
        }
        true
    }

    async fn fence_and_begin(&self, proposer: &Proposer) -> Result<(), ProposalError> {
        proposer.propose(Command::Fence).await?;
        let state = proposer.state();
        if state.cluster.is_none() {
            return self.begin(proposer).await;
        }
        // A replay clock did not advance while nobody led.
        self.clock.observe(state.head.last_recorded_at);
        registry::join(proposer, &self.ledger.operators).await
    }

    async fn begin(&self, proposer: &Proposer) -> Result<(), ProposalError> {
        let ledger = &self.ledger;
        let mut rows =
            registry::operator_rows(&ledger.operators, &LedgerState::default(), self.clock.now().hour());
        rows.extend(registry::first_key_rows(&self.signing, &self.voucher, &ledger.cluster_id).await?);
        let drafts = proposer.system_drafts("initialize", rows)?;
        let mut hash_key = [0u8; 16];
        getrandom::fill(&mut hash_key).map_err(|e| ProposalError::Rows { why: e.to_string() })?;
        let initialize = Initialize {
            cluster_id: &self.ledger.cluster_id,
            zone: &self.ledger.zone,
            clock: self.clock.kind(),
            dedup_horizon_hours: self.ledger.dedup_horizon_hours,
            hash_key,
            rows: drafts.drafts(),
        };
        match proposer.propose(Command::Initialize(initialize)).await? {
            Reply::Rejected(rejection @ Rejection::AlreadyInitialized { .. }) => tracing::info!(%rejection),
            Reply::Rejected(rejection) => return Err(ProposalError::Refused(rejection)),
            reply => tracing::info!(cluster = self.ledger.cluster_id, ?reply, "the ledger begins"),
        }
        Ok(())
    }

    async fn give_up(&self) {
        if let Err(error) = self.node.step_down().await {
            tracing::warn!(%error, "leadership can't be given up yet");
        }
        // Time for another node to be elected before this one is a candidate again.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Watches elections for the life of the node; workers run exactly while this node leads.
pub async fn lead_when_elected(leadership: Leadership) {
    let mut elections = leadership.node.leadership();
    loop {
        let current = elections.borrow_and_update().clone();
        match current {
            RaftLeadership::Leader { term } => tokio::select! {
                changed = elections.changed() => if changed.is_err() { return },
                () = leadership.lead(term) => tokio::time::sleep(RETRY_PAUSE).await,
            },
            RaftLeadership::Stopped { reason } => {
                tracing::error!(severity = "SEV1", %reason, "this node has stopped serving");
                return;
            }
            RaftLeadership::Follower { .. } => {
                if elections.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

impl EndsTerm for ProposalError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Deposed { .. })
    }
}

impl EndsTerm for IngestError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}

impl EndsTerm for rerate::ReRateError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}

impl EndsTerm for sign::SigningError {
    fn ends_term(&self) -> bool {
        matches!(self, Self::Proposal(error) if error.ends_term())
    }
}
