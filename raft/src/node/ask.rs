//! Questions that a replica's owner asks the leader's, over the connections that Raft uses.

use super::{Node, ReadError};
use crate::net::{Answerer, Kind};
use std::time::Duration;

impl Node {
    /// Says who answers other replicas' questions; the first call counts.
    pub fn answer_with(&self, answerer: Answerer) {
        if self.0.server.questions.set(answerer).is_err() {
            tracing::warn!("questions are answered already");
        }
    }

    /// Asks the leader's owner, who may be on this replica. A question may arrive twice, and after an error nobody
    /// knows whether it arrived: it must bear to be repeated.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] if no leader is known or it did not answer within `patience`.
    pub async fn ask_leader(&self, question: Vec<u8>, patience: Duration) -> Result<Vec<u8>, ReadError> {
        let unavailable = |reason: String| ReadError::Unavailable { reason };
        let (leader, address) = self.leader().ok_or_else(|| unavailable("no leader is known".to_owned()))?;
        if leader == self.node_id() {
            return self.0.server.ask(question).await.map_err(unavailable);
        }
        let asked = self.0.peers.call(leader, &address, Kind::Ask, &question, patience);
        asked.await.map_err(|error| unavailable(error.to_string()))
    }
}
