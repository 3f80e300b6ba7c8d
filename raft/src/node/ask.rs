//! Requests that a replica forwards to the leader, over the connections that Raft uses.

use super::{Node, ReadError};
use crate::net::{Answerer, Asker, Kind};
use futures::future::join_all;
use std::time::Duration;

impl Node {
    /// Sets the handler of other replicas' forwarded requests; only the first call counts.
    pub fn answer_with(&self, answerer: Answerer) {
        if self.0.server.questions.set(answerer).is_err() {
            tracing::warn!("forwarded requests already have a handler");
        }
    }

    /// Forwards a request to the leader, which may be this replica. A request may arrive twice, and after an error it is unknown
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

    /// Sends a request to all other replicas at once, whichever leads: for a replica whose own Raft may not learn
    /// of elections. As with [`ask_leader`](Self::ask_leader), a request must be repeatable. A replica that does not
    /// answer within `patience` is left out.
    pub async fn ask_others(&self, question: &[u8], patience: Duration) -> Vec<Vec<u8>> {
        let others = self.other_replicas();
        let asked = others.iter().map(|(node, address)| async move {
            self.0.peers.call(*node, address, Kind::Ask, &question.to_vec(), patience).await.ok()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}
