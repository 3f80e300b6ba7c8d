//! The live feed: what a client sees over several connections is what was told, once each, in order.

use crate::relay::publisher::Publisher;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// One connection to the feed.
struct Client {
    lines: BufReader<TcpStream>,
    status: u16,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    id: String,
    event: String,
    data: String,
}

impl Client {
    fn open(port: u16, token: &str, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        write!(
            stream,
            "GET /v1/cdr/events/stream{query} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        )
        .unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        Self { lines, status }
    }

    /// The error envelope's field and message.
    fn refusal(mut self) -> String {
        let mut text = String::new();
        self.lines.get_mut().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = self.lines.read_to_string(&mut text);
        text
    }

    /// The next message; comments, headers and chunk lengths are passed over.
    fn next(&mut self) -> Message {
        let (mut id, mut event) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the feed ended");
            let value = |name: &str| line.strip_prefix(name).map(|rest| rest.trim().to_owned());
            if let Some(text) = value("id: ") {
                id = text;
            } else if let Some(text) = value("event: ") {
                event = text;
            } else if let Some(data) = value("data: ") {
                return Message { id, event, data };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_resumed_feed_loses_and_repeats_nothing() {
    let publisher = Publisher::start().await;
    publisher.ingest(40, 1).await;
    publisher.close_hour().await;
    let token = publisher.issuer.token("tester", &["cdr:read", "cdr:pii"], 600).unwrap();
    let (port, every) =
        (publisher.api_port, "?subjects=cdr.record.appended.v1,cdr.bucket.sealed.v1,cdr.generated.v1");
    let stored: Vec<(String, String)> = publisher.messages().await["CDR_EVENTS"]
        .iter()
        .map(|message| {
            let event: Value = serde_json::from_slice(&message.payload).unwrap();
            (
                event["eventId"].as_str().unwrap().to_owned(),
                String::from_utf8(message.payload.to_vec()).unwrap(),
            )
        })
        .collect();
    assert!(stored.len() > 200, "{}", stored.len());

    let seen = tokio::task::spawn_blocking({
        let (token, stored) = (token.clone(), stored.clone());
        move || {
            let mut seen = vec![stored[0].clone()];
            // Connections of different lengths, each taken up where the one before broke off.
            for length in [1, 2, 63, 64, 65, 1000] {
                let last = seen.last().unwrap().0.clone();
                let mut client = Client::open(port, &token, every, Some(&last));
                assert_eq!(client.status, 200);
                for _ in 0..length.min(stored.len() - seen.len()) {
                    let message = client.next();
                    seen.push((message.id, message.data));
                }
            }
            seen
        }
    })
    .await
    .unwrap();
    assert!(seen == stored, "{} seen, {} stored", seen.len(), stored.len());

    // Without an id a feed begins with what comes next, and without subjects it leaves records out.
    let mut live = Client::open(port, &token, "", None);
    assert_eq!(live.status, 200);
    publisher.ingest(60, 3).await;
    publisher.act().await;
    let first = tokio::task::spawn_blocking(move || live.next()).await.unwrap();
    assert_eq!(first.event, "cdr.adjustment.created.v1");
    publisher.replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_feed_ends_with_its_token_and_says_so() {
    let publisher = Publisher::start().await;
    publisher.ingest(20, 1).await;
    // Long enough for everything that has to be told before it ends, on a slow machine too.
    let valid = Duration::from_secs(15);
    let short = publisher.issuer.token("tester", &["cdr:read"], valid.as_secs() as i64).unwrap();
    let long = publisher.issuer.token("tester", &["cdr:read"], 600).unwrap();
    let (port, started) = (publisher.api_port, Instant::now());
    let opened = tokio::task::spawn_blocking({
        let short = short.clone();
        move || (Client::open(port, &short, "", None), Client::open(port, &long, "", None))
    });
    let (mut ending, mut other) = opened.await.unwrap();
    assert_eq!((ending.status, other.status), (200, 200));
    publisher.ingest(60, 3).await;
    publisher.act().await;
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        loop {
            let message = ending.next();
            if message.event == "end" {
                break (seen, message, ending);
            }
            seen.push(message);
        }
    });
    let (seen, end, ending) = seen.await.unwrap();
    assert!(started.elapsed() >= valid, "too early: {:?}", started.elapsed());
    let said: Value = serde_json::from_str(&end.data).unwrap();
    assert_eq!((end.id.as_str(), &said["code"]), ("", &"TOKEN_EXPIRED".into()));
    assert!(seen.iter().any(|message| message.event == "cdr.adjustment.created.v1"), "{seen:?}");
    tokio::task::spawn_blocking(move || {
        // The end of the answer (RFC 9112, 7.1), and nothing before it.
        let rest = ending.refusal();
        assert!(rest.ends_with("\r\n0\r\n\r\n") && !rest.contains("event:"), "{rest:?}");
        assert_eq!(Client::open(port, &short, "", None).status, 401);
        // Another client's feed goes on.
        let first = other.next();
        assert_eq!(first, seen[0]);
    })
    .await
    .unwrap();
    publisher.replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn feeds_that_cannot_be_given_are_refused() {
    let publisher = Publisher::start().await;
    publisher.ingest(20, 1).await;
    let token = publisher.issuer.token("tester", &["cdr:read"], 600).unwrap();
    let verifier = publisher.issuer.token("tester", &["cdr:verify"], 600).unwrap();
    let port = publisher.api_port;
    let foreign = cdr_mediation::events::EventIds::new("other", 1).id(3, 0).unwrap().to_string();
    let own = cdr_mediation::events::EventIds::new(crate::relay::publisher::CLUSTER, 1);
    // Entries without anything to tell are not kept: nothing says that events behind them were not dropped.
    let never = own.id(0, 0).unwrap().to_string();
    let later = own.id(1 << 40, 0).unwrap().to_string();
    tokio::task::spawn_blocking(move || {
        let refused = |token: &str, query: &str, last: Option<&str>, status: u16, why: &str| {
            let client = Client::open(port, token, query, last);
            assert_eq!(client.status, status, "{query}");
            let text = client.refusal();
            assert!(text.contains(why), "{text}");
        };
        refused(&verifier, "", None, 403, "cdr:read");
        refused("none", "", None, 401, "UNAUTHENTICATED");
        for (id, why) in [
            (foreign.as_str(), "is not the id of an event of this ledger"),
            ("last", "is not the id of an event of this ledger"),
            (never.as_str(), "too old"),
            (later.as_str(), "not applied"),
        ] {
            refused(&token, "", Some(id), 400, why);
            refused(&token, &format!("?lastEventId={id}"), None, 400, "CDR_VALIDATION_FAILED");
        }
        refused(&token, "?subjects=cdr.nothing.v1", None, 400, "is not the subject of an event");
        refused(&token, "?since=1", None, 400, "since");
        let open: Vec<Client> = (0..2).map(|_| Client::open(port, &token, "", None)).collect();
        assert!(open.iter().all(|client| client.status == 200));
        refused(&token, "", None, 503, "max_live_feeds");
        let mut keys = Client::open(port, &token, "", None);
        drop(open);
        for _ in 0..100 {
            keys = Client::open(port, &token, "", None);
            if keys.status == 200 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(keys.status, 200, "a closed feed gives its place back");
    })
    .await
    .unwrap();
    publisher.replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_that_signs_events_is_shown() {
    let publisher = Publisher::start().await;
    let token = publisher.issuer.token("tester", &["cdr:read"], 600).unwrap();
    let url = format!("http://127.0.0.1:{}/v1/cdr/keys", publisher.api_port);
    let answer = tokio::task::spawn_blocking(move || {
        let request = ureq::get(&url).header("Authorization", format!("Bearer {token}"));
        request.call().unwrap().body_mut().read_json::<Value>().unwrap()
    })
    .await
    .unwrap();
    assert_eq!(answer["total"], 1);
    let key = &answer["eventKeys"][0];
    assert_eq!(
        (&key["kid"], &key["alg"], &key["kty"]),
        (&publisher.key.kid().into(), &"RS256".into(), &"RSA".into())
    );
    let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let pem: String = publisher.key.public_pem().lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(pem).unwrap();
    assert!(modulus.len() == 256 && der.windows(256).any(|part| part == modulus), "another key");
    assert_eq!(key["e"], "AQAB");
    publisher.replica.stop().await;
}
