//! Certificates and authorities are exchanged while replicas run.

use super::authorities::Authority;
use super::common::cluster::Cluster;
use super::{commits_go_on, refused};
use crate::net::Credentials;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static OLD: LazyLock<Authority> = LazyLock::new(Authority::new);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn authorities_are_exchanged_without_a_restart() {
    let cluster =
        Cluster::start(3, |config| config.credentials = Some(Arc::new(OLD.node(config.node_id)))).await;
    let new = Authority::new();
    let both = vec![OLD.certificate.clone(), new.certificate.clone()];
    let steps: [&dyn Fn(u64) -> Credentials; 3] = [
        &|id| Credentials { authorities: both.clone(), ..OLD.node(id) },
        &|id| Credentials { authorities: both.clone(), ..new.node(id) },
        &|id| new.node(id),
    ];
    for credentials in steps {
        for id in 1..=3 {
            cluster.node(id).exchange_credentials(&credentials(id)).unwrap();
            commits_go_on(&cluster, 5, Duration::from_secs(5)).await;
        }
    }
    cluster.converge(cluster.propose("exchanged").await.index).await;
    assert_eq!((1..=3).map(|id| refused(&cluster, id, "foreign")).sum::<u64>(), 0);

    // What can't be used changes nothing.
    for bad in [OLD.issue_expired("node-1.test"), new.node(2)] {
        assert!(cluster.node(1).exchange_credentials(&bad).is_err());
    }
    // Nobody hears who shows what is no longer believed.
    let leader = cluster.leader().await;
    let lost = leader % 3 + 1;
    let mixed = Credentials { authorities: vec![new.certificate.clone()], ..OLD.node(lost) };
    cluster.node(lost).exchange_credentials(&mixed).unwrap();
    commits_go_on(&cluster, 5, Duration::from_secs(5)).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != lost).collect();
    super::common::cluster::eventually("it is refused", || {
        others.iter().any(|id| refused(&cluster, *id, "foreign") > 0).then_some(())
    })
    .await;
    cluster.node(lost).exchange_credentials(&new.node(lost)).unwrap();
    cluster.converge(cluster.propose("all are back").await.index).await;
}
