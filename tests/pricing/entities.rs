//! Recording entities of the operator registry.

use crate::pricing::{Fixture, eventually};
use cdr_mediation::config::{Config, Operator};
use cdr_mediation::pricing::{
    BreakerState, ConfiguredEntities, EntitySource, GrpcEntities, PricingError, Sources,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

impl Fixture {
    fn entities(&self) -> Arc<GrpcEntities> {
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        Arc::new(GrpcEntities::new(self.settings(), clock, metrics).unwrap())
    }

    fn register(&self, operator: &str, entity: &str) {
        self.shared.script().entities.insert(operator.to_owned(), entity.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_are_asked_for_together_and_kept() {
    let fixture = Fixture::new().await;
    fixture.register("AWCC", "4120101");
    fixture.register("ETS", "4125001");
    let entities = fixture.entities();
    assert_eq!(entities.recording_entity("AWCC"), None);
    let found = entities.resolve(&["AWCC", "ETS", "NOBODY"]).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["AWCC", "ETS"]);
    assert_eq!(fixture.shared.script().asked_entities, [["AWCC", "ETS", "NOBODY"]]);
    assert_eq!(entities.recording_entity("ETS").as_deref(), Some("4125001"));
    entities.resolve(&["ETS", "AWCC"]).await.unwrap();
    assert_eq!(fixture.shared.script().asked_entities.len(), 1, "what is known is not asked for");

    fixture.register("ETS", "4125002");
    entities.invalidate("ETS");
    assert_eq!(entities.recording_entity("ETS").as_deref(), Some("4125001"), "the last known one");
    let found = entities.resolve(&["AWCC", "ETS"]).await.unwrap();
    assert_eq!((found["AWCC"].as_ref(), found["ETS"].as_ref()), ("4120101", "4125002"));
    assert_eq!(fixture.shared.script().asked_entities[1], ["ETS"], "only what was invalidated");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_before_an_invalidation_is_not_current() {
    let fixture = Fixture::new().await;
    fixture.register("ETS", "old");
    fixture.shared.script().delay = Duration::from_millis(300);
    let entities = fixture.entities();
    let asking = tokio::spawn({
        let entities = entities.clone();
        async move { entities.resolve(&["ETS"]).await.map(|_| ()) }
    });
    eventually("the question arrives", || fixture.shared.script().asked_entities.len() == 1).await;
    entities.invalidate("ETS");
    asking.await.unwrap().unwrap();
    fixture.register("ETS", "new");
    assert_eq!(entities.resolve(&["ETS"]).await.unwrap()["ETS"].as_ref(), "new");
    assert_eq!(fixture.shared.script().asked_entities.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_they_are_kept_new_and_survive_an_outage() {
    let fixture = Fixture::new().await;
    fixture.register("AWCC", "4120101");
    fixture.register("ETS", "4125001");
    let mut settings = fixture.settings();
    settings.refresh = Duration::from_secs(3_600);
    settings.call.breaker.failures = 2;
    let entities =
        Arc::new(GrpcEntities::new(settings, fixture.clock.clone(), fixture.metrics.clone()).unwrap());
    let running = tokio::spawn(entities.clone().run());
    eventually("all entities", || entities.recording_entity("ETS").is_some()).await;
    assert_eq!(fixture.shared.script().asked_entities, [["AWCC", "ETS"]]);
    assert_eq!(fixture.dependency("operator_registry"), Ok(()));

    // Invalidations that come together are one question, long before the next refresh.
    fixture.register("ETS", "4125002");
    fixture.register("SALAAM", "4128001");
    entities.invalidate("ETS");
    entities.invalidate("SALAAM");
    eventually("the new entity", || entities.recording_entity("SALAAM").is_some()).await;
    assert_eq!(entities.recording_entity("ETS").as_deref(), Some("4125002"));
    assert_eq!(fixture.shared.script().asked_entities[1..], [["ETS", "SALAAM"]]);

    let Fixture { service, metrics, .. } = fixture;
    service.stop().await;
    entities.invalidate("ETS");
    let error = entities.resolve(&["ETS"]).await.unwrap_err();
    let away = matches!(error, PricingError::Unavailable { .. } | PricingError::BreakerOpen { .. });
    assert!(away, "{error}");
    assert_eq!(entities.recording_entity("ETS").as_deref(), Some("4125002"), "the last known one stays");
    eventually("the outage shows", || {
        entities.status().breaker == BreakerState::Open
            && metrics.dependencies()["operator_registry"].is_err()
    })
    .await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_says_where_everything_comes_from() {
    let fixture = Fixture::new().await;
    fixture.register("AWCC", "4120101");
    fixture.offer("e1", vec![crate::pricing::table("v1", 0, vec![crate::pricing::line("0.5")])]);
    let peers = BTreeMap::from([(1, "127.0.0.1:7018".to_owned())]);
    let mut config = Config::development("dev", 1, peers, Path::new("data"), "127.0.0.1:3018");
    config.operators.list =
        vec![Operator { id: "AWCC".to_owned(), recording_entity: "configured".to_owned() }];
    let tables = Sources::new(&config, &fixture.clock, &fixture.metrics).unwrap();
    assert_eq!(tables.entities.recording_entity("AWCC").as_deref(), Some("configured"));
    assert!(tables.background.is_empty() && tables.pricing.book().tables().len() == 0);

    config.pricing.source = cdr_mediation::config::PricingSource::Grpc;
    config.pricing.endpoint = Some(fixture.service.endpoint());
    config.pricing.ca_file = Some(fixture.tls.ca_file.clone());
    config.pricing.cert_file = Some(fixture.tls.cert_file.clone());
    config.pricing.key_file = Some(fixture.tls.key_file.clone());
    config.pricing.deadline_ms = 10_000;
    assert_eq!(config.problems(), []);
    let sources = Sources::new(&config, &fixture.clock, &fixture.metrics).unwrap();
    let running: Vec<_> = sources.background.into_iter().map(tokio::spawn).collect();
    let (pricing, entities) = (sources.pricing, sources.entities);
    eventually("prices", || pricing.price(&crate::pricing::query("AWCC")).is_some()).await;
    eventually("entities", || entities.recording_entity("AWCC").as_deref() == Some("4120101")).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);

    config.pricing.key_file = Some(fixture.dir.path().join("missing.key"));
    let error = Sources::new(&config, &fixture.clock, &fixture.metrics).err().unwrap();
    assert!(error.to_string().contains("missing.key"), "{error}");
}

#[tokio::test]
async fn configured_entities_need_no_registry() {
    let operator = |id: &str| Operator { id: id.to_owned(), recording_entity: format!("{id}-1") };
    let entities = ConfiguredEntities::new(&[operator("AWCC"), operator("ETS")]);
    entities.invalidate("AWCC");
    let found = entities.resolve(&["AWCC", "NOBODY"]).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("AWCC".to_owned(), Arc::from("AWCC-1"))]);
}
