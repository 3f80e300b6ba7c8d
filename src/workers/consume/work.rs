//! From deliveries to verdicts: the rows of a batch go into one command. If the log refuses it, each message is taken
//! alone, so that one that can't be done holds up no other.

use super::{ConsumeError, Handler, Message, Taken, Verdict};
use crate::clock::Clock;
use crate::proposer::Proposer;
use cdr_bus::Delivery;
use cdr_core::command::{Append, Bill, Command, DraftsBuffer, Reconcile, Rejection, Reply, Source};
use cdr_core::personal::SystemContent;
use cdr_core::row::{Draft, Drawn, SystemKind};
use cdr_core::{LedgerState, Millis, Money, Uuid};
use cdr_storage::{Store, StoredRow};
use std::sync::Arc;

/// How often the rows of a message are built again because others adjusted the same record.
const LOOKS: usize = 16;

/// What a batch of messages needs of the log.
#[derive(Default)]
struct Made {
    drafts: DraftsBuffer,
    bills: Vec<OwnedBill>,
}

/// An event of billing.
struct OwnedBill {
    message_id: Uuid,
    operator_id: String,
    amount: Money,
    currency: String,
    occurred_at: Millis,
}

impl Made {
    fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.bills.is_empty()
    }

    /// The command that records it; a consumer makes rows or records bills, never both.
    fn command(&self) -> Command<'_> {
        if self.bills.is_empty() {
            return Command::Append(Append { source: Source::Internal, drafts: self.drafts.drafts() });
        }
        let bills = self.bills.iter().map(|bill| Bill {
            message_id: bill.message_id,
            operator_id: &bill.operator_id,
            amount: bill.amount,
            currency: &bill.currency,
            occurred_at: bill.occurred_at,
        });
        Command::Reconcile(Reconcile { bills: bills.collect(), ..Reconcile::default() })
    }
}

/// Rows in the making.
pub(super) struct Work<'a> {
    proposer: &'a Proposer,
    made: Made,
}

impl Work<'_> {
    /// The store.
    pub fn store(&self) -> &Store {
        self.proposer.store()
    }

    /// The state, as far as this replica has applied it.
    pub fn state(&self) -> Arc<LedgerState> {
        self.proposer.state()
    }

    /// The leader's clock.
    pub fn clock(&self) -> &Clock {
        self.proposer.clock()
    }

    /// What is random in a new row.
    pub fn draw(&self) -> Result<Drawn, ConsumeError> {
        self.proposer.draw().map_err(unmade)
    }

    /// Adds a row.
    pub fn push(&mut self, draft: &Draft<'_>) -> Result<(), ConsumeError> {
        self.made.drafts.push(0, draft).map_err(unmade)
    }

    /// Adds an event of billing.
    pub fn push_bill(&mut self, bill: Bill<'_>) {
        self.made.bills.push(OwnedBill {
            message_id: bill.message_id,
            operator_id: bill.operator_id.to_owned(),
            amount: bill.amount,
            currency: bill.currency.to_owned(),
            occurred_at: bill.occurred_at,
        });
    }

    /// Adds a row of the audit log.
    pub fn push_audit(
        &mut self,
        drawn: Drawn,
        record: &cdr_core::audit::AuditRecord,
        trace_id: &str,
    ) -> Result<(), ConsumeError> {
        let content = SystemContent::new(SystemKind::Audit, record).map_err(unmade)?;
        self.push(&content.draft(drawn, trace_id))
    }

    /// The rows of a message, oldest first: the original, then its adjustments.
    pub fn rows_of(&self, message_id: Uuid) -> Result<Vec<StoredRow>, ConsumeError> {
        Ok(self.store().rows_of_message(message_id)?)
    }
}

fn unmade(why: impl std::fmt::Display) -> ConsumeError {
    ConsumeError::Rows(why.to_string())
}

/// What is to become of each delivery. Rows of those that are done are committed.
pub(super) async fn verdicts(
    handler: &Arc<dyn Handler>,
    proposer: &Proposer,
    durable: &'static str,
    stream: &str,
    deliveries: &[Delivery],
) -> Result<Vec<Verdict>, ConsumeError> {
    let taker = Taker { handler, proposer, durable, stream };
    handler.prepare(proposer).await?;
    let (taken, made) = taker.take(deliveries).await?;
    let committed = made.is_empty()
        || matches!(
            propose(proposer, &made).await?,
            Reply::Appended { .. } | Reply::Ingested(_) | Reply::Reconciled
        );
    let mut verdicts = Vec::with_capacity(deliveries.len());
    for (delivery, taken) in deliveries.iter().zip(taken) {
        verdicts.push(match taken {
            Taken::Done => Verdict::Done,
            Taken::Ignored => Verdict::Ignored,
            Taken::Later(pause) => Verdict::Later(pause),
            Taken::Rows if committed => Verdict::Done,
            Taken::Rows => taker.alone(delivery).await?,
            Taken::Failed(why) => Verdict::Failed(why),
            Taken::Unreadable(reason) => Verdict::Unreadable(reason),
        });
    }
    Ok(verdicts)
}

struct Taker<'a> {
    handler: &'a Arc<dyn Handler>,
    proposer: &'a Proposer,
    durable: &'static str,
    stream: &'a str,
}

impl Taker<'_> {
    async fn take(&self, deliveries: &[Delivery]) -> Result<(Vec<Taken>, Made), ConsumeError> {
        let (handler, proposer, durable) = (self.handler.clone(), self.proposer.clone(), self.durable);
        let (stream, deliveries) = (self.stream.to_owned(), deliveries.to_vec());
        let taking = tokio::task::spawn_blocking(move || {
            let mut work = Work { proposer: &proposer, made: Made::default() };
            let mut taken = Vec::with_capacity(deliveries.len());
            for Delivery { sequence, payload, .. } in &deliveries {
                let message = Message { durable, stream: &stream, sequence: *sequence, payload };
                taken.push(handler.take(&message, &mut work)?);
            }
            Ok((taken, work.made))
        });
        taking.await.map_err(unmade)?
    }

    /// Takes one message, as often as others come first.
    async fn alone(&self, delivery: &Delivery) -> Result<Verdict, ConsumeError> {
        for _ in 0..LOOKS {
            let (taken, made) = self.take(std::slice::from_ref(delivery)).await?;
            match taken.into_iter().next() {
                Some(Taken::Rows) => {}
                Some(Taken::Failed(why)) => return Ok(Verdict::Failed(why)),
                Some(Taken::Unreadable(reason)) => return Ok(Verdict::Unreadable(reason)),
                Some(Taken::Ignored) => return Ok(Verdict::Ignored),
                Some(Taken::Later(pause)) => return Ok(Verdict::Later(pause)),
                Some(Taken::Done) | None => return Ok(Verdict::Done),
            }
            match propose(self.proposer, &made).await? {
                Reply::Appended { .. } | Reply::Ingested(_) | Reply::Reconciled | Reply::Repeated { .. } => {
                    return Ok(Verdict::Done);
                }
                Reply::Rejected(
                    Rejection::Superseded { .. }
                    | Rejection::AlreadyVoided { .. }
                    | Rejection::UnknownRecord { .. },
                ) => {}
                Reply::Rejected(rejection) => return Ok(Verdict::Failed(rejection.to_string())),
                other => return Ok(Verdict::Failed(format!("unexpected reply {other:?}"))),
            }
        }
        Ok(Verdict::Failed("too many concurrent adjustments of the record".to_owned()))
    }
}

/// Proposes what was made. A refusal that is unrelated to it is an error.
async fn propose(proposer: &Proposer, made: &Made) -> Result<Reply, ConsumeError> {
    match proposer.propose(made.command()).await? {
        Reply::Rejected(rejection @ (Rejection::ClockJump { .. } | Rejection::NotInitialized)) => {
            Err(ConsumeError::Refused(rejection))
        }
        reply => Ok(reply),
    }
}
