//! Bulk jobs and other rows that name one another, as the replica's workers would leave them.

use crate::relay::publisher::Publisher;
use cdr_bus::StoredMessage;
use cdr_core::CdrId;
use cdr_core::command::{Append, Command, DraftsBuffer, Reply, Source};
use cdr_core::job::{JOB_PREFIX, JobRequest, JobStep};
use cdr_core::personal::SystemContent;
use cdr_core::row::SystemKind;
use cdr_mediation::proposer::Proposer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Rows that name one another. They get into the ledger by one entry, because the replica's own workers take up what they
/// find half done.
pub struct Rows {
    proposer: Proposer,
    drafts: DraftsBuffer,
}

impl Rows {
    /// Adds a row; its id.
    pub fn push(&mut self, kind: SystemKind, body: &Value) -> CdrId {
        let (drawn, content) = (self.proposer.draw().unwrap(), SystemContent::new(kind, body).unwrap());
        self.drafts.push(0, &content.draft(drawn, "trace-work")).unwrap();
        drawn.cdr_id
    }

    /// Adds a bulk job; its name.
    pub fn job(&mut self, request: JobRequest) -> String {
        self.push(SystemKind::Job, &json!(JobStep::Requested(request))).with_prefix(JOB_PREFIX)
    }

    /// Adds a step of a bulk job.
    pub fn step(&mut self, step: &JobStep) {
        self.push(SystemKind::Job, &json!(step));
    }

    /// Gets all of them into the ledger.
    pub async fn append(self) {
        let append = Append { source: Source::Internal, drafts: self.drafts.drafts() };
        let reply = self.proposer.propose(Command::Append(append)).await.unwrap();
        assert!(matches!(reply, Reply::Appended { .. }), "{reply:?}");
    }
}

impl Publisher {
    /// Rows of one log entry, to be filled.
    pub fn rows(&self) -> Rows {
        Rows { proposer: self.proposer(), drafts: DraftsBuffer::default() }
    }

    /// Asks for a bulk job that fails; its id.
    pub async fn fail_a_job(&self) -> String {
        let mut rows = self.rows();
        let job_id = rows.job(JobRequest::default());
        let why = "price list p-9 is not known".to_owned();
        rows.step(&JobStep::Failed { job_id: job_id.clone(), why });
        rows.append().await;
        job_id
    }

    /// Asks for `count` bulk jobs, and ends each at once.
    pub async fn end_jobs(&self, count: usize) {
        for first in (0..count).step_by(50) {
            let mut rows = self.rows();
            for _ in 0..50.min(count - first) {
                let job_id = rows.job(JobRequest::default());
                rows.step(&JobStep::Finished { job_id });
            }
            rows.append().await;
        }
    }

    /// What the API answers about a job.
    pub async fn job(&self, job: &str) -> (u16, Value) {
        let token = self.issuer.token("tester", &["cdr:read"], 600).unwrap();
        let url = format!("http://127.0.0.1:{}/v1/cdr/adjustments/jobs/{job}", self.api_port);
        let ask = move || {
            let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
            let mut answer =
                agent.get(&url).header("Authorization", format!("Bearer {token}")).call().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    /// The events of bulk jobs that ended, once there are so many.
    pub async fn batches_once(&self, count: usize) -> Vec<StoredMessage> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut batches = self.messages().await.remove("CDR_ADJUSTMENTS").unwrap();
            batches.retain(|message| message.subject == "cdr.adjustment.batch.issued.v1");
            if batches.len() >= count || Instant::now() >= deadline {
                assert_eq!(batches.len(), count);
                return batches;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
