//! Services that are slow, away, or say no.

use crate::pricing::service::Service;
use crate::pricing::{Fixture, eventually, line, query, table};
use cdr_mediation::pricing::{BreakerState, Pricing, PricingError};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_is_not_waited_for() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    let mut settings = fixture.settings();
    settings.call.retries = 2;
    settings.call.deadline = Duration::from_millis(300);
    let pricing = fixture.pricing(settings);
    fixture.shared.script().delay = Duration::from_secs(60);
    let began = Instant::now();
    let error = pricing.refresh_now().await.unwrap_err();
    assert!(matches!(error, PricingError::Unavailable { attempts: 3, .. }), "{error}");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    assert!(fixture.dependency("pricing").unwrap_err().contains("it has not answered yet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_prices_stay_and_it_recovers() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    let mut settings = fixture.settings();
    settings.call.retries = 10;
    settings.call.breaker.failures = 3;
    settings.call.breaker.open = Duration::from_secs(2);
    let pricing = fixture.pricing(settings);
    pricing.refresh_now().await.unwrap();
    let Fixture { authority, own, shared, service, metrics, .. } = fixture;
    let port = service.stop().await;

    // The third failure opens it in the middle of the attempts.
    let error = pricing.refresh_now().await.unwrap_err();
    let opened = Instant::now();
    assert!(matches!(error, PricingError::BreakerOpen { failures: 3, .. }), "{error}");
    assert_eq!(pricing.status().breaker, BreakerState::Open);
    let error = pricing.refresh_now().await.unwrap_err();
    assert!(matches!(error, PricingError::BreakerOpen { .. }), "{error}");
    assert!(opened.elapsed() < Duration::from_secs(1), "an open breaker answers at once");

    // What is known prices on, and its age shows.
    assert_eq!(pricing.price(&query("ETS")).unwrap().tariff_version(), "v1");
    let age = pricing.status().age.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pricing.status().age.unwrap() > age);
    assert!(metrics.dependencies()["pricing"].clone().unwrap_err().contains("stays in force"));

    // A trial that fails opens it again, a trial that succeeds closes it.
    tokio::time::sleep(Duration::from_millis(2_100).saturating_sub(opened.elapsed())).await;
    let error = pricing.refresh_now().await.unwrap_err();
    assert!(matches!(error, PricingError::BreakerOpen { failures: 4, .. }), "{error}");
    let _service = Service::start(port, &shared, &own, &authority).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    pricing.refresh_now().await.unwrap();
    assert_eq!(pricing.status().breaker, BreakerState::Closed);
    assert!(pricing.status().age.unwrap() < age + Duration::from_secs(2));
    assert_eq!(metrics.dependencies()["pricing"], Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_background_it_recovers_by_itself() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    let mut settings = fixture.settings();
    settings.call.breaker.failures = 2;
    let pricing = fixture.pricing(settings);
    let running = tokio::spawn(pricing.clone().run());
    eventually("the first prices", || pricing.price(&query("ETS")).is_some()).await;
    let Fixture { authority, own, shared, service, .. } = fixture;
    let port = service.stop().await;
    eventually("the breaker opens", || pricing.status().breaker == BreakerState::Open).await;
    shared.script().snapshot.etag = "e2".to_owned();
    shared.script().snapshot.tables = vec![table("v2", 1, vec![line("0.7")])];
    let _service = Service::start(port, &shared, &own, &authority).await;
    eventually("new prices", || pricing.price(&query("ETS")).unwrap().tariff_version() == "v2").await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_is_tried_again_and_one_that_says_no_is_not() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    let mut settings = fixture.settings();
    settings.call.retries = 3;
    settings.call.breaker.failures = 4;
    let pricing = fixture.pricing(settings);
    fixture.shared.script().fails = Some(tonic::Status::resource_exhausted("too many questions"));
    let error = pricing.refresh_now().await.unwrap_err().to_string();
    assert!(error.contains("failed 4 time(s)") && error.contains("too many questions"), "{error}");
    assert_eq!(fixture.shared.script().asked_prices.len(), 4);
    assert_eq!(pricing.status().breaker, BreakerState::Open);

    tokio::time::sleep(Duration::from_millis(250)).await;
    fixture.shared.script().fails = Some(tonic::Status::permission_denied("not you"));
    for _ in 0..5 {
        let error = pricing.refresh_now().await.unwrap_err();
        assert!(
            matches!(&error, PricingError::Refused { code, .. } if code == "PermissionDenied"),
            "{error}"
        );
    }
    assert_eq!(fixture.shared.script().asked_prices.len(), 9);
    assert_eq!(pricing.status().breaker, BreakerState::Closed, "it is there, and says no");
}
