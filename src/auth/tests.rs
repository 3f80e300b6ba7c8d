#![allow(clippy::unwrap_used)]

use super::dev::{AUDIENCE, DevIssuer, ISSUER};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

fn settings(jwks: &Path) -> config::Auth {
    config::Auth {
        jwks_file: jwks.to_owned(),
        issuer: Some(ISSUER.to_owned()),
        audience: Some(AUDIENCE.to_owned()),
        leeway_seconds: 0,
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A directory, its issuer, and who checks its tokens.
fn house() -> (tempfile::TempDir, DevIssuer, Authenticator) {
    let dir = tempfile::tempdir().unwrap();
    let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
    let verifier =
        Authenticator::from_config(&settings(issuer.jwks_path()), &config::Api::default()).unwrap();
    (dir, issuer, verifier)
}

fn ask(verifier: &Authenticator, token: &str) -> Result<Identity, AuthError> {
    verifier.authenticate(Some(&format!("Bearer {token}")))
}

#[test]
fn the_files_of_the_issuer_hold_tokens_of_two_people() {
    let (dir, _, verifier) = house();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let operator = ask(&verifier, &read("dev-token")).unwrap();
    assert_eq!(operator.subject, "dev-operator");
    assert!(ALL_SCOPES.iter().all(|scope| operator.has(scope)));
    assert_eq!(ask(&verifier, &read("approver-token")).unwrap().subject, "dev-approver");
    for secret in ["dev-issuer.pk8", "dev-token", "approver-token"] {
        let mode = std::fs::metadata(dir.path().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let before = read("dev-token");
    DevIssuer::load_or_create(dir.path()).unwrap();
    assert!(ask(&verifier, &before).is_ok(), "a token outlives a restart");
}

#[test]
fn scopes_come_as_text_or_list() {
    let (_dir, issuer, verifier) = house();
    let claims = |extra: serde_json::Value| {
        let mut claims = json!({"iss": ISSUER, "aud": [AUDIENCE, "other"], "sub": "u", "exp": now() + 60});
        claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(&verifier, &issuer.sign(&claims).unwrap())
    };
    let scopes = |extra| claims(extra).unwrap().scopes.into_iter().collect::<Vec<_>>();
    assert_eq!(scopes(json!({"scope": "cdr:verify cdr:read"})), ["cdr:read", "cdr:verify"]);
    assert_eq!(scopes(json!({"scp": ["cdr:read"]})), ["cdr:read"]);
    assert_eq!(scopes(json!({"scopes": ["cdr:pii"], "scope": "cdr:read"})), ["cdr:pii", "cdr:read"]);
    assert_eq!(scopes(json!({})), Vec::<String>::new());
    assert_eq!(claims(json!({"scope": 7})), Err(AuthError::Claims));
}

#[test]
fn tokens_that_are_refused() {
    let (_dir, issuer, verifier) = house();
    let (_elsewhere, foreigner, _) = house();
    let good = issuer.token("u", &[SCOPE_READ], 60).unwrap();
    assert!(ask(&verifier, &good).is_ok());
    assert_eq!(ask(&verifier, &issuer.token("u", &[], -60).unwrap()), Err(AuthError::Expired));
    assert_eq!(ask(&verifier, &foreigner.token("u", &[], 60).unwrap()), Err(AuthError::UnknownKey));
    let sign = |claims| ask(&verifier, &issuer.sign(&claims).unwrap());
    let exp = now() + 60;
    assert_eq!(sign(json!({"iss": "x", "aud": AUDIENCE, "sub": "u", "exp": exp})), Err(AuthError::Foreign));
    assert_eq!(sign(json!({"iss": ISSUER, "aud": "x", "sub": "u", "exp": exp})), Err(AuthError::Foreign));
    assert_eq!(sign(json!({"iss": ISSUER, "sub": "u", "exp": exp})), Err(AuthError::Foreign));
    assert_eq!(sign(json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u"})), Err(AuthError::Claims));
    assert_eq!(sign(json!({"iss": ISSUER, "aud": AUDIENCE, "exp": exp})), Err(AuthError::Claims));
    let early = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": exp, "nbf": now() + 30});
    assert_eq!(sign(early), Err(AuthError::NotYetValid));
}

#[test]
fn forged_tokens_are_refused() {
    let (_dir, issuer, verifier) = house();
    let good = issuer.token("u", &[SCOPE_READ], 60).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let header: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    let with_alg = |alg: &str| {
        let forged = json!({"alg": alg, "kid": header["kid"], "typ": "JWT"}).to_string();
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(forged), parts[1], parts[2])
    };
    assert_eq!(ask(&verifier, &with_alg("HS256")), Err(AuthError::Algorithm));
    assert_eq!(ask(&verifier, &with_alg("RS512")), Err(AuthError::Algorithm));
    assert_eq!(ask(&verifier, &with_alg("none")), Err(AuthError::Malformed));
    let more =
        URL_SAFE_NO_PAD.encode(json!({"sub": "u", "exp": now() + 60, "scope": "cdr:admin"}).to_string());
    assert_eq!(ask(&verifier, &format!("{}.{more}.{}", parts[0], parts[2])), Err(AuthError::Signature));
    let no_kid = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256"}).to_string());
    assert_eq!(ask(&verifier, &format!("{no_kid}.{}.{}", parts[1], parts[2])), Err(AuthError::Malformed));
    assert_eq!(ask(&verifier, "garbage"), Err(AuthError::Malformed));
    for header in [None, Some("Basic dTpw"), Some("Bearer"), Some("Bearer  ")] {
        assert_eq!(verifier.authenticate(header), Err(AuthError::Missing), "{header:?}");
    }
    assert!(verifier.authenticate(Some(&format!("bearer {good}"))).is_ok());
}

#[test]
fn a_changed_key_set_is_read_again_and_a_damaged_one_is_not_used() {
    let (_dir, issuer, verifier) = house();
    let (_elsewhere, newcomer, _) = house();
    let token = newcomer.token("u", &[], 60).unwrap();
    assert_eq!(ask(&verifier, &token), Err(AuthError::UnknownKey));
    std::fs::copy(newcomer.jwks_path(), issuer.jwks_path()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert!(ask(&verifier, &token).is_ok());
    std::fs::write(issuer.jwks_path(), "{\"keys\": [").unwrap();
    assert!(matches!(verifier.reload(), Err(KeySetError::Syntax { .. })));
    assert!(ask(&verifier, &token).is_ok());
    std::fs::write(issuer.jwks_path(), r#"{"keys": [{"kty": "EC", "kid": "x"}]}"#).unwrap();
    assert!(matches!(verifier.reload(), Err(KeySetError::Empty { .. })));
}

/// Claims that name one of their own twice.
struct Twice(i64);

impl serde::Serialize for Twice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": self.0, "sub": "u", "scope": "cdr:read"});
        let more = [("scope".to_owned(), json!("cdr:admin"))];
        serializer.collect_map(claims.as_object().unwrap().clone().into_iter().chain(more))
    }
}

#[test]
fn a_token_that_reads_in_two_ways_is_refused() {
    let (_dir, issuer, verifier) = house();
    assert_eq!(ask(&verifier, &issuer.sign(&Twice(now() + 60)).unwrap()), Err(AuthError::Claims));
    let good = issuer.token("u", &[], 60).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let header = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    let twice = URL_SAFE_NO_PAD.encode(header.replacen('{', "{\"alg\":\"RS256\",", 1));
    assert_eq!(ask(&verifier, &format!("{twice}.{}.{}", parts[1], parts[2])), Err(AuthError::Malformed));
}

#[test]
fn who_acts_has_a_name_that_can_be_seen() {
    let (_dir, issuer, verifier) = house();
    for (subject, is_good) in [
        ("u", true),
        ("Zarghuna Amiri", true),
        ("", false),
        ("\u{200b}", false),
        ("a\nb", false),
        (&"x".repeat(201), false),
    ] {
        let asked = ask(&verifier, &issuer.token(subject, &[], 60).unwrap());
        assert_eq!(asked.is_ok(), is_good, "{subject:?}");
        assert!(is_good || asked == Err(AuthError::Claims));
    }
}

/// The key set of `issuer` with other keys around its own.
fn with_others(issuer: &DevIssuer, others: &[serde_json::Value]) {
    let text = std::fs::read_to_string(issuer.jwks_path()).unwrap();
    let mut set: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = set["keys"].as_array_mut().unwrap();
    let own = keys.len() - 1;
    for (i, other) in others.iter().enumerate() {
        keys.insert(if i % 2 == 0 { own } else { keys.len() }, other.clone());
    }
    std::fs::write(issuer.jwks_path(), set.to_string()).unwrap();
}

#[test]
fn one_odd_key_leaves_the_others_in_use() {
    let (_dir, issuer, verifier) = house();
    let token = issuer.token("u", &[], 60).unwrap();
    let text = std::fs::read_to_string(issuer.jwks_path()).unwrap();
    let set: serde_json::Value = serde_json::from_str(&text).unwrap();
    let own = &set["keys"][0];
    let with = |name: &str, value: serde_json::Value| {
        let mut key = own.clone();
        key["kid"] = json!(format!("odd {name}"));
        key[name] = value;
        key
    };
    let padded = format!("{}=", own["n"].as_str().unwrap());
    let odd = [
        json!({"kid": "no kty", "n": own["n"], "e": own["e"]}),
        json!({"kty": "EC", "kid": own["kid"], "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "oct", "k": "AA"}),
        with("n", json!(padded)),
        with("n", json!("AQAB")),
        with("n", json!(7)),
        with("e", json!("")),
        with("e", json!("Ag")),
        with("alg", json!("RS512")),
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("kid", json!(null)),
        json!("a text"),
        json!(null),
        json!([own]),
    ];
    with_others(&issuer, &odd);
    verifier.reload().unwrap();
    assert!(ask(&verifier, &token).is_ok());
    let twice = format!("{{\"kty\":\"RSA\",\"kty\":\"RSA\"}},{own}");
    std::fs::write(issuer.jwks_path(), format!("{{\"more\":1,\"keys\":[{twice}]}}")).unwrap();
    verifier.reload().unwrap();
    assert!(ask(&verifier, &token).is_ok(), "a key with a member twice is no other key's fault");
}

#[test]
fn a_kid_names_one_key() {
    let (_dir, issuer, verifier) = house();
    let token = issuer.token("u", &[], 60).unwrap();
    let text = std::fs::read_to_string(issuer.jwks_path()).unwrap();
    let set: serde_json::Value = serde_json::from_str(&text).unwrap();
    with_others(&issuer, &[set["keys"][0].clone()]);
    let error = verifier.reload().unwrap_err();
    assert!(matches!(&error, KeySetError::RepeatedKid { kid, .. } if set["keys"][0]["kid"] == kid.as_str()));
    assert!(ask(&verifier, &token).is_ok(), "the keys read before stay in use");
    std::fs::write(issuer.jwks_path(), text.replacen('{', "{\"keys\":[],", 1)).unwrap();
    assert!(matches!(verifier.reload(), Err(KeySetError::Syntax { .. })), "a set that reads in two ways");
}
