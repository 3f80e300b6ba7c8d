//! Where requests are accepted: performed here while this replica leads, forwarded to the leader otherwise.

use super::adjust::{draft, line};
use super::appended::{Appended, object};
use super::files::{SignerState, appended};
use super::origin::believed;
use super::{Act, ActError, Wish, unconfirmed};
use crate::auth::Authenticator;
use crate::proposer::{ProposalError, Proposer};
use cdr_core::CdrId;
use cdr_core::audit::{AuditRecord, RequestRecord};
use cdr_core::command::{Append, Command, DraftsBuffer, Rejection, Reply, Source};
use cdr_core::job::{JOB_PREFIX, JobStep};
use cdr_core::personal::SystemContent;
use cdr_core::row::{Draft, Record, SystemKind};
use cdr_raft::{Asker, Node, ProposeError};
use cdr_storage::Store;
use futures::FutureExt;
use serde_json::json;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// How long to look for a leader, and how long it may take, for a request that somebody waits for.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Pause before the leader is called again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often an adjustment is built again because another one came in between.
const ATTEMPTS: usize = 16;

/// Accepts requests. Clones share it.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    node: Node,
    store: Store,
    auth: Arc<Authenticator>,
    /// The term in which this replica performs acts.
    leading: RwLock<Option<Proposer>>,
    /// How the signer is.
    signer: OnceLock<AskSigner>,
}

/// Reports the state of the signer.
type AskSigner = Box<dyn Fn() -> SignerState + Send + Sync>;

/// As long as this exists, requests are performed here.
pub struct OpenDesk(Desk);

impl Drop for OpenDesk {
    fn drop(&mut self) {
        *self.0.0.leading.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Desk {
    /// A desk that also serves the other replicas' desks; callers prove their identity to `auth`.
    pub fn new(node: Node, store: Store, auth: Arc<Authenticator>) -> Self {
        let leading = RwLock::default();
        let desk = Self(Arc::new(Inner { node, store, auth, leading, signer: OnceLock::new() }));
        let answering = Arc::downgrade(&desk.0);
        desk.0.node.answer_with(Arc::new(move |asker, question| {
            let desk = Weak::upgrade(&answering).map(Self);
            async move {
                let answer = match desk {
                    Some(desk) => desk.answer(asker, &question).await,
                    None => Err(ActError::NotLeader { reason: "this replica is stopping".to_owned() }),
                };
                serde_json::to_vec(&answer).unwrap_or_default()
            }
            .boxed()
        }));
        desk
    }

    /// Requests that need a signature are refused while `ask` reports the signer unavailable. Only the first one set is used.
    #[must_use]
    pub fn asking_signer(self, ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        let _ = self.0.signer.set(Box::new(ask));
        self
    }

    /// Acts are performed here, in the name of `proposer`'s term, until what this returns is dropped.
    #[must_use]
    pub fn open(&self, proposer: Proposer) -> OpenDesk {
        *self.0.leading.write().unwrap_or_else(PoisonError::into_inner) = Some(proposer);
        OpenDesk(self.clone())
    }

    /// Performs a request, here or at the leader; the id of the row that answers it. A request that was accepted
    /// before under its key gets that request's answer. What is only temporarily in the way, such as an election, is
    /// waited for as long as `patience` lasts; usually [`PATIENCE`].
    ///
    /// # Errors
    /// [`ActError`]
    pub async fn perform(&self, act: &Act, patience: Duration) -> Result<CdrId, ActError> {
        let question = serde_json::to_vec(act).map_err(unconfirmed)?;
        let deadline = Instant::now() + patience;
        let mut obstacle = unconfirmed("it took too long");
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let answer = tokio::time::timeout(left, async {
                match self.leading() {
                    Some(proposer) => self.perform_here(&proposer, act, self.own()).await,
                    None => self.ask(question.clone(), left).await,
                }
            });
            match answer.await {
                Ok(Err(error)) if error.may_pass() => obstacle = error,
                Ok(answer) => return answer,
                Err(_) => break,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Err(obstacle)
    }

    /// As [`Desk::perform`], by a replica that may not learn who leads: the leader performs the request, once it has reached
    /// them in some way.
    ///
    /// # Errors
    /// [`ActError`]
    pub async fn perform_anywhere(&self, act: &Act, patience: Duration) -> Result<CdrId, ActError> {
        let obstacle = match self.perform(act, patience / 4).await {
            Err(error) if error.may_pass() => error,
            answer => return answer,
        };
        let question = serde_json::to_vec(act).map_err(unconfirmed)?;
        let answers = self.0.node.ask_others(&question, patience).await;
        let taken = answers.iter().find_map(|answer| {
            let answer: Result<String, ActError> = serde_json::from_slice(answer).ok()?;
            CdrId::parse(&answer.ok()?)
        });
        taken.ok_or(obstacle)
    }

    fn leading(&self) -> Option<Proposer> {
        self.0.leading.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, question: Vec<u8>, patience: Duration) -> Result<CdrId, ActError> {
        let unavailable = |reason: String| ActError::NotLeader { reason };
        let answer =
            self.0.node.ask_leader(question, patience).await.map_err(|e| unavailable(e.to_string()))?;
        let answer: Result<String, ActError> =
            serde_json::from_slice(&answer).map_err(|e| unavailable(e.to_string()))?;
        CdrId::parse(&answer?).ok_or_else(|| unavailable("the leader's answer can't be read".to_owned()))
    }

    /// This replica, as the sender of its own requests.
    fn own(&self) -> Asker {
        Asker { node: self.0.node.node_id(), proved: true }
    }

    async fn answer(&self, asker: Asker, question: &[u8]) -> Result<String, ActError> {
        let Some(proposer) = self.leading() else {
            return Err(self.closed());
        };
        let act: Act =
            serde_json::from_slice(question).map_err(|e| ActError::Unconfirmed { reason: e.to_string() })?;
        Ok(self.perform_here(&proposer, &act, asker).await?.to_string())
    }

    /// Why this replica performs nothing: a leader that takes no commands can't open its term either.
    fn closed(&self) -> ActError {
        let node = &self.0.node;
        match node.restriction() {
            Some(reason) if node.leads() => ActError::Restricted { reason },
            _ => ActError::NotLeader { reason: "its term has not begun, or is over".to_owned() },
        }
    }

    async fn perform_here(&self, proposer: &Proposer, act: &Act, asker: Asker) -> Result<CdrId, ActError> {
        let vouching = believed(act, asker, self.0.node.node_id(), &self.0.auth)?;
        for _ in 0..ATTEMPTS {
            if let Some(known) = self.0.store.request(&act.key).map_err(unconfirmed)? {
                return if known.body == act.body {
                    Ok(known.answer)
                } else {
                    Err(ActError::IdempotencyConflict)
                };
            }
            let (id, drafts) = self.drafts(proposer, act, vouching)?;
            let append = Append { source: Source::Api, drafts: drafts.drafts() };
            match proposer.propose(Command::Append(append)).await.map_err(refused)? {
                Reply::Appended { .. } => return Ok(id),
                Reply::Repeated { answer } => {
                    return CdrId::parse(&answer).ok_or_else(|| unconfirmed("its answer has no id"));
                }
                // Without an answer something else came first: this one follows it.
                Reply::Rejected(rejection) => refusal(rejection, &act.wish).map_or(Ok(()), Err)?,
                other => return Err(unconfirmed(format!("{other:?}"))),
            }
        }
        Err(unconfirmed("too many concurrent changes of the same record"))
    }

    /// The rows of a request, and the id of the one that answers it. `vouching` is the replica that vouches for the caller's
    /// certificate, if the request relies on that.
    fn drafts(
        &self,
        proposer: &Proposer,
        act: &Act,
        vouching: Option<u64>,
    ) -> Result<(CdrId, DraftsBuffer), ActError> {
        let drawn = proposer.draw().map_err(unconfirmed)?;
        let id = drawn.cdr_id;
        let mut drafts = DraftsBuffer::default();
        let state = proposer.state();
        let audit = match &act.wish {
            Wish::Correct { cdr_id, .. } | Wish::Void { cdr_id, .. } => {
                let rows = line(&self.0.store, *cdr_id)?;
                let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
                    return Err(ActError::NotFound { cdr_id: cdr_id.to_string() });
                };
                let recorded_at = first.row().map_err(unconfirmed)?.frame.recorded_at;
                let effective = last.row().map_err(unconfirmed)?;
                let draft = draft(&effective, recorded_at, act, drawn, &state)?;
                drafts.push(0, &draft).map_err(unconfirmed)?;
                adjustment_issued(&draft)
            }
            Wish::ReRate(request) => {
                let step = JobStep::Requested(request.clone());
                let content = SystemContent::new(SystemKind::Job, &step).map_err(unconfirmed)?;
                drafts.push(0, &content.draft(drawn, &act.trace_id)).map_err(unconfirmed)?;
                AuditRecord {
                    entry_type: "ADJUSTMENT_ISSUED".to_owned(),
                    operator_id: request.operator_id.clone(),
                    details: object(json!({
                        "adjustmentType": "RE_RATE", "jobId": id.with_prefix(JOB_PREFIX),
                        "estimatedImpact": request.estimated_impact,
                        "newPricingTableId": request.new_pricing_table_id,
                        "filter": {
                            "bucketHourFrom": request.bucket_hour_from, "bucketHourTo": request.bucket_hour_to,
                            "operatorId": request.operator_id, "tenantId": request.tenant_id,
                        },
                    })),
                    ..AuditRecord::default()
                }
            }
            Wish::Note { entry_type, bucket_hour, operator_id, details } => AuditRecord {
                entry_type: entry_type.clone(),
                bucket_hour: *bucket_hour,
                operator_id: operator_id.clone(),
                details: details.clone(),
                ..AuditRecord::default()
            },
            _ => {
                let signer = self.0.signer.get().map_or(Ok(()), |ask| ask());
                let row = appended(&self.0.store, &state, act, &signer)?;
                let Appended { kind, body, audit } =
                    row.ok_or_else(|| unconfirmed("unknown kind of request"))?;
                let content = SystemContent::of_text(kind, &body).map_err(unconfirmed)?;
                drafts.push(0, &content.draft(drawn, &act.trace_id)).map_err(unconfirmed)?;
                audit
            }
        };
        let mut audit = audit;
        if let Some(node) = vouching {
            audit.details.insert("vouchedByNode".to_owned(), node.into());
        }
        let noted = match &act.wish {
            Wish::Note { .. } => drawn,
            _ => proposer.draw().map_err(unconfirmed)?,
        };
        let content =
            SystemContent::new(SystemKind::Audit, &signed_off(audit, act, id)).map_err(unconfirmed)?;
        drafts.push(0, &content.draft(noted, &act.trace_id)).map_err(unconfirmed)?;
        Ok((id, drafts))
    }
}

/// Who, why, on which ticket; and the request, so that it may be repeated.
fn signed_off(audit: AuditRecord, act: &Act, answer: CdrId) -> AuditRecord {
    AuditRecord {
        actor_user_id: Some(act.actor.clone()),
        approver_user_id: act.approver.clone(),
        reason: act.reason.clone(),
        ticket_id: act.ticket_id.clone(),
        request: Some(RequestRecord { answer: answer.to_string(), body: act.body, key: act.key }),
        ..audit
    }
}

fn adjustment_issued(draft: &Draft<'_>) -> AuditRecord {
    let adjustment = match &draft.record {
        Record::Sms(sms) => sms.adjustment.as_ref(),
        Record::System(_) => None,
    };
    AuditRecord {
        entry_type: "ADJUSTMENT_ISSUED".to_owned(),
        operator_id: Some(draft.operator_id.to_owned()),
        details: object(json!({
            "adjustmentId": draft.cdr_id.with_prefix("adj_"),
            "adjustmentOf": adjustment.map(|adjustment| adjustment.of.to_string()),
            "adjustmentType": adjustment.map(|adjustment| adjustment.kind.as_str()),
            "voidReason": adjustment.and_then(|adjustment| adjustment.void_reason),
        })),
        ..AuditRecord::default()
    }
}

/// True if what the log could refuse was checked when the rows were made: then it has changed since.
fn is_looked_at_before(wish: &Wish) -> bool {
    matches!(wish, Wish::Resolve { .. } | Wish::Activate(_) | Wish::Configure(_))
}

/// Why the log refused a request; none if something came in between, and its rows have to be built again.
fn refusal(rejection: Rejection, wish: &Wish) -> Option<ActError> {
    Some(match rejection {
        Rejection::Superseded { .. } | Rejection::ExportMoved { .. } => return None,
        // Whether an entry is resolved, or a setting has its value, is checked before.
        Rejection::Illegal { .. } if is_looked_at_before(wish) => return None,
        Rejection::IdempotencyConflict => ActError::IdempotencyConflict,
        Rejection::AlreadyVoided { cdr_id } => ActError::AlreadyVoided { cdr_id },
        Rejection::UnknownRecord { cdr_id } => ActError::NotFound { cdr_id },
        Rejection::UnknownExport { export_id } => {
            ActError::UnknownExport { what: format!("export {export_id}") }
        }
        Rejection::ExportAcked { export_id } => ActError::ExportAcked { export_id },
        Rejection::Illegal { why } => ActError::Refused { why },
        other => unconfirmed(format!("{other:?}")),
    })
}

fn refused(error: ProposalError) -> ActError {
    match error {
        error @ (ProposalError::Deposed { .. } | ProposalError::ClockIsOff) => {
            ActError::NotLeader { reason: error.to_string() }
        }
        ProposalError::Raft(ProposeError::Restricted { reason }) => ActError::Restricted { reason },
        error => unconfirmed(error),
    }
}
