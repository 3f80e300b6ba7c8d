//! Snapshots that are fetched, exchanged and refused.

use crate::pricing::service::v1;
use crate::pricing::write_client;
use crate::pricing::{Fixture, NOW, eventually, line, query, table};
use cdr_core::Millis;
use cdr_core::row::{Encoding, FinalState, Sms};
use cdr_core::tariff::{PriceQuery, verify_price};
use cdr_mediation::pricing::{Price, Pricing, PricingError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::certificates::Authority;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// The row that ingest would write.
fn priced_row<'a>(query: &PriceQuery<'_>, price: &'a Price) -> Sms<'a> {
    Sms {
        message_id: cdr_core::Uuid([1; 16]),
        tenant_id: query.tenant_id,
        calling_party: "BANK",
        called_party: "+93700000001",
        recording_entity: "4120101",
        service_center: "+93700000002",
        message_reference: "1",
        event_at: query.event_at,
        local_offset_minutes: 270,
        charge_amount: Some(price.amount()),
        charge_currency: Some(price.currency()),
        tap_tariff_class: Some(price.tap_tariff_class()),
        tariff_version: Some(price.tariff_version()),
        charge_type: query.charge_type,
        billing_indicator: price.billing_indicator(),
        direction: query.direction,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: query.segment_count,
        ..Sms::BLANK
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_fetched_and_prices() {
    let fixture = Fixture::new().await;
    let special = v1::Tariff {
        operator_id: Some("AWCC".to_owned()),
        tenant_id: Some("07070707-0707-0707-0707-070707070707".to_owned()),
        charge_type: Some(v1::ChargeType::A2p.into()),
        direction: Some(v1::Direction::Mt.into()),
        billing_indicator: v1::BillingIndicator::Cpp.into(),
        ..line("0.0128")
    };
    fixture
        .offer("e1", vec![table("v1", 0, vec![special, line("0.5")]), table("v2", NOW + 1, vec![line("9")])]);
    let pricing = fixture.pricing(fixture.settings());
    assert_eq!(pricing.price(&query("AWCC")), None, "nothing is known before the first answer");
    assert_eq!(pricing.status().age, None);
    pricing.refresh_now().await.unwrap();

    let (awcc, ets) = (pricing.price(&query("AWCC")).unwrap(), pricing.price(&query("ETS")).unwrap());
    assert_eq!((awcc.amount().to_string().as_str(), awcc.billing_indicator().as_str()), ("0.038400", "CPP"));
    assert_eq!((ets.amount().to_string().as_str(), ets.tariff_version()), ("1.500000", "v1"));
    assert_eq!(verify_price(awcc.table(), "AWCC", &priced_row(&query("AWCC"), &awcc)), Ok(()));
    assert!(verify_price(awcc.table(), "ETS", &priced_row(&query("AWCC"), &awcc)).is_err());
    let later = PriceQuery { event_at: Millis(NOW + 1), ..query("ETS") };
    assert_eq!(
        pricing.price(&later).unwrap().tariff_version(),
        "v2",
        "a price that begins later is known in time"
    );

    let before = pricing.book();
    pricing.refresh_now().await.unwrap();
    assert!(Arc::ptr_eq(&before, &pricing.book()), "the same snapshot changes nothing");
    let asked = fixture.shared.script().asked_prices.clone();
    assert_eq!(asked[0].operator_ids, ["AWCC", "ETS"]);
    assert_eq!(
        asked[0].at_ms,
        NOW - crate::pricing::HORIZON.as_millis() as i64,
        "versions of late events are asked for"
    );
    assert_eq!((asked[0].known_etag.as_deref(), asked[1].known_etag.as_deref()), (None, Some("e1")));
    assert_eq!(fixture.dependency("pricing"), Ok(()));
    assert!(pricing.status().age.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_fetched_by_its_name_and_prices_only_what_names_it() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    fixture.shared.script().named.insert("price_01".to_owned(), table("price_01", 5, vec![line("0.25")]));
    fixture.shared.script().named.insert("alias".to_owned(), table("v9", 5, vec![line("0.25")]));
    let pricing = fixture.pricing(fixture.settings());
    pricing.refresh_now().await.unwrap();
    assert_eq!(pricing.price_in("price_01", &query("ETS")), None);
    let fetched = pricing.fetch_table("price_01").await.unwrap().unwrap();
    assert_eq!((fetched.version.as_str(), fetched.valid_from), ("price_01", Millis(5)));
    assert_eq!(pricing.price_in("price_01", &query("ETS")).unwrap().amount().micros(), 750_000);
    assert_eq!(pricing.price(&query("ETS")).unwrap().tariff_version(), "v1", "events are priced as before");

    let calls = fixture.shared.script().asked_prices.len();
    assert_eq!(pricing.fetch_table("price_01").await.unwrap().as_deref(), Some(&*fetched));
    assert_eq!(pricing.fetch_table("v1").await.unwrap().unwrap().version, "v1");
    assert_eq!(fixture.shared.script().asked_prices.len(), calls, "what is known is not asked for");
    assert_eq!(pricing.fetch_table("nowhere").await.unwrap(), None);
    let wrong = pricing.fetch_table("alias").await.unwrap_err();
    assert!(wrong.to_string().contains("table v9 was received, alias was requested"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_must_show_certificates_of_their_authority() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    // No certificate at all.
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&fixture.authority.cert));
    let endpoint = Endpoint::from_shared(fixture.service.endpoint()).unwrap().tls_config(tls).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect_lazy());
    let path = "/cdr.pricing.v1.PricingService/GetPricingSnapshot".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<v1::GetPricingSnapshotRequest, v1::PricingSnapshot>::default();
    let outcome = match client.ready().await {
        Ok(()) => client
            .unary(tonic::Request::new(v1::GetPricingSnapshotRequest::default()), path, codec)
            .await
            .map(|_| ()),
        Err(error) => Err(tonic::Status::unavailable(error.to_string())),
    };
    assert!(outcome.is_err(), "a client without a certificate was served");

    // A certificate of somebody else's, and a service that somebody else vouches for.
    let foreign = Authority::new("foreign");
    let dir = tempfile::TempDir::new().unwrap();
    for (trusted, shown) in [
        (&fixture.authority, foreign.issue("intruder")),
        (&foreign, fixture.authority.issue("cdr-mediation")),
    ] {
        let mut settings = fixture.settings();
        settings.tls = write_client(dir.path(), trusted, &shown);
        let pricing = fixture.pricing(settings);
        let error = pricing.refresh_now().await.unwrap_err();
        assert!(matches!(error, PricingError::Unavailable { attempts: 2, .. }), "{error}");
        assert_eq!(pricing.price(&query("ETS")), None);
    }
    assert_eq!(fixture.shared.script().asked_prices.len(), 0, "no question got through");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_while_it_runs() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    let foreign = Authority::new("foreign");
    write_client(fixture.dir.path(), &fixture.authority, &foreign.issue("cdr-mediation"));
    let pricing = fixture.pricing(fixture.settings());
    pricing.refresh_now().await.unwrap_err();
    std::fs::write(&fixture.tls.cert_file, "no certificate").unwrap();
    pricing.refresh_now().await.unwrap_err();
    write_client(fixture.dir.path(), &fixture.authority, &fixture.authority.issue("cdr-mediation"));
    pricing.refresh_now().await.unwrap();
    assert!(pricing.price(&query("ETS")).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_over_while_prices_are_asked_for() {
    let fixture = Fixture::new().await;
    // Version `n` charges `n` for a segment.
    let offer =
        |n: i64| fixture.offer(&format!("e{n}"), vec![table(&n.to_string(), 0, vec![line(&n.to_string())])]);
    offer(1);
    let pricing = fixture.pricing(fixture.settings());
    pricing.refresh_now().await.unwrap();
    let running = tokio::spawn(pricing.clone().run());
    let done = Arc::new(AtomicBool::new(false));
    let (asked, stop) = (pricing.clone(), done.clone());
    let asking = std::thread::spawn(move || {
        let (mut last, mut versions) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let price = asked.price(&query("ETS")).unwrap();
            let version: i64 = price.tariff_version().parse().unwrap();
            assert_eq!(verify_price(price.table(), "ETS", &priced_row(&query("ETS"), &price)), Ok(()));
            assert_eq!(price.amount().micros(), version * 3_000_000);
            assert!(version >= last);
            versions += u32::from(version > last);
            last = version;
        }
        versions
    });
    for n in 2..6 {
        offer(n);
        let version = n.to_string();
        eventually("the new version prices", || {
            pricing.price(&query("ETS")).unwrap().tariff_version() == version
        })
        .await;
    }
    done.store(true, Ordering::Relaxed);
    assert!(asking.join().unwrap() >= 2, "the thread saw versions change");
    running.abort();
    assert!(pricing.book().table("1").is_some(), "rows of an earlier version can still be proved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_makes_no_sense_is_refused_and_the_book_stays() {
    let fixture = Fixture::new().await;
    fixture.offer("e1", vec![table("v1", 0, vec![line("0.5")])]);
    let pricing = fixture.pricing(fixture.settings());
    pricing.refresh_now().await.unwrap();
    let book = pricing.book();
    let with = |change: fn(&mut v1::Tariff)| {
        let mut tariff = line("0.5");
        change(&mut tariff);
        vec![table("v2", 0, vec![line("1"), tariff])]
    };
    let mut ended = table("v2", 10, vec![line("1")]);
    ended.valid_to_ms = Some(10);
    let refused = [
        (with(|t| t.per_segment = "-0.5".to_owned()), "line 2: per_segment: a price can't be negative"),
        (with(|t| t.per_segment = "3921568628".to_owned()), "255 segments would cost more than 18 digits"),
        (with(|t| t.per_segment = "99999999999999999999".to_owned()), "per_segment"),
        (with(|t| t.per_segment = "0.1234567".to_owned()), "at most six fraction digits"),
        (with(|t| t.per_segment = "NaN".to_owned()), "per_segment"),
        (with(|t| t.charge_type = Some(99)), "charge_type \"99\" is not a known charge type"),
        (with(|t| t.direction = Some(0)), "direction \"0\" is not a known direction"),
        (with(|t| t.billing_indicator = 0), "billing_indicator"),
        (with(|t| t.currency = "afn".to_owned()), "currency"),
        (with(|t| t.tap_tariff_class = String::new()), "tap_tariff_class"),
        (with(|t| t.tenant_id = Some("everybody".to_owned())), "tenant_id"),
        (with(|t| t.operator_id = Some("_system".to_owned())), "operator_id"),
        (vec![table("v2", -1, vec![line("1")])], "valid_from_ms -1"),
        (vec![table("", 0, vec![line("1")])], "1 to 64 visible ASCII characters"),
        (vec![ended], "valid_to must be later than valid_from"),
        (vec![table("v2", 0, vec![line("1")]), table("v2", 1, vec![line("1")])], "v2 occurs twice"),
        (vec![table("v1", 0, vec![line("0.6")])], "v1 has changed under the same name"),
    ];
    for (i, (tables, why)) in refused.into_iter().enumerate() {
        fixture.offer(&format!("bad-{i}"), tables);
        let error = pricing.refresh_now().await.unwrap_err();
        assert!(matches!(error, PricingError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}\n  should say {why}");
        assert!(Arc::ptr_eq(&book, &pricing.book()), "{error}: the book was replaced");
        assert!(fixture.dependency("pricing").unwrap_err().contains("stays in force"));
    }
    fixture.offer("", vec![table("v2", 0, vec![line("1")])]);
    assert!(pricing.refresh_now().await.unwrap_err().to_string().contains("without an etag"));
    // An answer without sense is an answer: the breaker stays closed, and the next good one is taken.
    fixture.offer("e2", vec![table("v2", 0, vec![line("1")])]);
    pricing.refresh_now().await.unwrap();
    assert_eq!(pricing.price(&query("ETS")).unwrap().tariff_version(), "v2");
    assert_eq!(fixture.dependency("pricing"), Ok(()));
}
