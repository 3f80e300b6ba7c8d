//! Questions that a replica's owner asks the leader's, over the connections that Raft uses.

use super::{Node, ReadError};
use crate::net::{Answerer, Asker, Kind};
use futures::future::join_all;
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
        let (leader, address) = self.elected().ok_or_else(|| unavailable("no leader is known".to_owned()))?;
        if leader == self.node_id() {
            let asker = Asker { node: leader, proved: true };
            return self.0.server.ask(asker, question).await.map_err(unavailable);
        }
        let asked = self.0.peers.call(leader, &address, Kind::Ask, &question, patience);
        asked.await.map_err(|error| unavailable(error.to_string()))
    }

    /// Asks the owners of all other replicas at once, whichever leads: for a replica whose own Raft may not get to hear
    /// of elections. As with [`ask_leader`](Self::ask_leader), a question must bear to be repeated. Whoever does not
    /// answer within `patience` is left out.
    pub async fn ask_others(&self, question: &[u8], patience: Duration) -> Vec<Vec<u8>> {
        let others = self.other_replicas();
        let asked = others.iter().map(|(node, address)| async move {
            self.0.peers.call(*node, address, Kind::Ask, &question.to_vec(), patience).await.ok()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}
