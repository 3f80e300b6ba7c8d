#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::signer::{DevKey, DevRoot, SignError, Signer};
use crate::test_support::node::{CLUSTER, TestNode};
use cdr_core::canonical::to_jcs;
use cdr_core::key::PublicKey;
use cdr_core::row::SystemKind;
use cdr_core::seal::verify_signature;
use cdr_core::time::HOUR_MS;
use cdr_core::{Hour, Millis};
use std::sync::Arc;

const START: Hour = Hour(493_525);

/// Holds the key that signs now, and the one that it replaced.
struct Two(DevKey, DevKey);

impl Two {
    fn named(&self, key_id: &str) -> &DevKey {
        if key_id == self.0.key_id() { &self.0 } else { &self.1 }
    }
}

impl Signer for Two {
    fn active_key_id(&self) -> &str {
        self.1.key_id()
    }

    fn public_key(&self, key_id: &str) -> Result<PublicKey, SignError> {
        self.named(key_id).public_key(key_id)
    }

    fn sign(&self, key_id: &str, message: &[u8]) -> Result<[u8; 64], SignError> {
        self.named(key_id).sign(key_id, message)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_is_signed_with_the_key_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::replay(START.start());
    let node = TestNode::begin(clock.clone()).await;
    let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
    let keys = ["old", "new"].map(|name| DevKey::load_or_create(&dir.path().join(name), name).unwrap());
    for (key, from) in keys.iter().zip([START.next(), Hour(START.0 + 2)]) {
        let row = (SystemKind::Key, to_jcs(&root.vouch(key, CLUSTER, from).unwrap()));
        node.proposer.append_rows("test", vec![row]).await.unwrap();
    }
    clock.observe(Millis(START.start().0 + 3 * HOUR_MS));
    node.proposer.propose(Command::Seal).await.unwrap();

    // Who holds only the new key can't sign the hour of the old one.
    let metrics = Arc::new(Metrics::new().unwrap());
    let new_alone = Arc::new(DevKey::load_or_create(&dir.path().join("new"), "new").unwrap());
    let alone = Signing::new(new_alone, metrics.clone());
    let key_id = keys[0].key_id().to_owned();
    assert!(alone.sign(&key_id, vec![0]).await.is_err());

    let [old, new] = keys;
    let named = [START.next(), Hour(START.0 + 2)].map(|hour| {
        let seal = node.proposer.store().seal(hour).unwrap().unwrap().seal;
        (hour, seal.signer_key_id.unwrap())
    });
    assert_eq!(named[0].1, old.key_id());
    assert_eq!(named[1].1, new.key_id());
    let signing = Signing::new(Arc::new(Two(old, new)), metrics);
    while sign_next(&node.proposer, &signing).await.unwrap() {}
    assert_eq!(node.proposer.state().head.next_unsigned, Hour(START.0 + 3));
    for (hour, key_id) in named {
        let sealed = node.proposer.store().seal(hour).unwrap().unwrap();
        let public_key = node.proposer.state().key(&key_id).unwrap().public_key().unwrap();
        assert!(verify_signature(&sealed.seal_hash, &sealed.signature.unwrap(), &public_key));
    }
}
