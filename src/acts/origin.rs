//! Where a request comes from, and whether the leader accepts that.
//!
//! No replica is trusted about what a caller requested: the leader checks the caller's tokens itself, also those that
//! another replica was sent. Only a client certificate can't be shown again; then the replica that saw it vouches for
//! it, which it can where it has shown its own, and the audit row names it.

use super::{Act, ActError, Wish};
use crate::auth::{
    AuthError, Authenticator, Identity, Proof, SCOPE_ADMIN, SCOPE_REGULATOR_ACK, SCOPE_VERIFY, SCOPE_WRITE,
};
use crate::names::{CHAIN_BREAK_DETECTED, CHAIN_VERIFY_OK};
use cdr_raft::Asker;
use serde::{Deserialize, Serialize};

/// More records than this need a second person (API contract, section 3.3).
pub const FOUR_EYES_ABOVE: u64 = 100_000;

/// Kinds of audit entries that a caller may have written by verifying.
const VERIFICATIONS: &[&str] = &[CHAIN_VERIFY_OK, CHAIN_BREAK_DETECTED];

/// Who requests it, and by what they prove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A replica itself, on its own behalf.
    Replica,
    /// A caller with credentials.
    Caller(Proof),
}

/// Refuses an act that `asker` hands over and that does not prove its origin. The replica that vouches for a client's
/// certificate, if the request relies on that.
///
/// # Errors
/// [`ActError::Unauthenticated`], [`ActError::InsufficientScope`] or [`ActError::Unapproved`].
pub(super) fn believed(
    act: &Act,
    asker: Asker,
    own_id: u64,
    auth: &Authenticator,
) -> Result<Option<u64>, ActError> {
    match &act.origin {
        Origin::Replica if asker.node == own_id || is_of(act, asker.node) => Ok(None),
        Origin::Replica => Err(forged(act, asker)),
        Origin::Caller(proof) => {
            let (identity, by_certificate) = identify(act, proof, asker, auth)?;
            named(act, &identity, asker)?;
            let required = scope(&act.wish);
            if !required.is_some_and(|required| identity.has(required)) {
                let required = required.unwrap_or("of a replica").to_owned();
                return Err(ActError::InsufficientScope { required });
            }
            approved(act, proof, required.unwrap_or_default(), auth)?;
            Ok(by_certificate.then_some(asker.node))
        }
    }
}

/// Whose credentials they are; true if a certificate had to be vouched for.
fn identify(
    act: &Act,
    proof: &Proof,
    asker: Asker,
    auth: &Authenticator,
) -> Result<(Identity, bool), ActError> {
    let token = proof.authorization.as_deref().map(|token| auth.authenticate(Some(token)));
    let identity = match (token, &proof.certificate) {
        (None, None) => return Err(AuthError::Missing.into()),
        (Some(token), None) => (token?, false),
        (Some(Ok(token)), Some(_)) if scope(&act.wish).is_some_and(|scope| token.has(scope)) => {
            (token, false)
        }
        (_, Some(_)) if !asker.proved => return Err(AuthError::Unvouched.into()),
        (_, Some(certificate)) => {
            (auth.authenticate_client(certificate, proof.authorization.as_deref())?, true)
        }
    };
    if identity.0.has_expired() { Err(AuthError::Expired.into()) } else { Ok(identity) }
}

/// The scope that a caller needs; none if only replicas do it.
fn scope(wish: &Wish) -> Option<&'static str> {
    match wish {
        Wish::Correct { .. } | Wish::Void { .. } | Wish::ReRate(_) => Some(SCOPE_WRITE),
        Wish::Redrop { .. } | Wish::Settle(_) | Wish::Resolve { .. } | Wish::Activate(_) => Some(SCOPE_ADMIN),
        Wish::Acknowledge { .. } => Some(SCOPE_REGULATOR_ACK),
        Wish::Note { entry_type, .. } if VERIFICATIONS.contains(&entry_type.as_str()) => Some(SCOPE_VERIFY),
        Wish::Note { .. } | Wish::Configure(_) => None,
    }
}

/// True if node `node` may request it on its own behalf: it concerns that node alone.
fn is_of(act: &Act, node: u64) -> bool {
    let Some(part) = act.actor.strip_prefix("system:") else { return false };
    if part.strip_prefix("node-").is_some_and(|named| named != node.to_string()) {
        return false;
    }
    match &act.wish {
        Wish::Configure(setting) => setting.node_id == node,
        // About itself alone: what the leader's workers find is not another replica's to report.
        Wish::Note { details, entry_type, .. } => {
            part == format!("node-{node}")
                && entry_type.starts_with("NODE_")
                && details.get("nodeId").and_then(serde_json::Value::as_u64) == Some(node)
        }
        _ => false,
    }
}

/// Every name in the act is that of who proved themselves.
fn named(act: &Act, identity: &Identity, asker: Asker) -> Result<(), ActError> {
    let issuer = match &act.wish {
        Wish::ReRate(request) => &request.issued_by_user_id,
        _ => &act.actor,
    };
    if act.actor == identity.subject && *issuer == act.actor { Ok(()) } else { Err(forged(act, asker)) }
}

fn forged(act: &Act, asker: Asker) -> ActError {
    let (node, actor) = (asker.node, &act.actor);
    tracing::error!(
        severity = "SEV1",
        node,
        actor,
        "a replica forwarded a request in another caller's name: refused"
    );
    AuthError::NotTheirs.into()
}

/// The named approver has approved, and there is an approver where one is needed.
fn approved(act: &Act, proof: &Proof, scope: &str, auth: &Authenticator) -> Result<(), ActError> {
    let unapproved = |why: String| ActError::Unapproved { why };
    let Some(named) = &act.approver else {
        let needed = match &act.wish {
            Wish::Activate(_) => true,
            Wish::ReRate(request) => request.estimated_impact > FOUR_EYES_ABOVE,
            _ => false,
        };
        return if needed { Err(unapproved("nobody approves it".to_owned())) } else { Ok(()) };
    };
    let token =
        proof.approver.as_ref().ok_or_else(|| unapproved("the approver's token is missing".to_owned()))?;
    let approver =
        auth.authenticate(Some(&format!("Bearer {token}"))).map_err(|e| unapproved(e.to_string()))?;
    if !approver.has(scope) {
        return Err(unapproved(format!("the approver lacks the scope {scope}")));
    }
    if approver.subject != *named || approver.subject == act.actor {
        return Err(unapproved(
            "a request can't be approved by its own requester or in another's name".to_owned(),
        ));
    }
    Ok(())
}

impl From<AuthError> for ActError {
    fn from(error: AuthError) -> Self {
        Self::Unauthenticated(error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::acts::{NodeSetting, SchemaChoice};
    use crate::auth::dev::{AUDIENCE, DevIssuer, ISSUER};
    use crate::config::{Api, ApiClient, Auth};
    use crate::names::{NODE_RESTRICTED, NODE_RESTRICTION_LIFTED};
    use crate::tls::ClientCertificate;
    use cdr_core::CdrId;
    use cdr_core::job::JobRequest;
    use serde_json::{Map, json};

    const OWN: u64 = 1;
    /// Another replica that has shown a certificate, and one that has not.
    const PROVED: Asker = Asker { node: 2, proved: true };
    const PLAIN: Asker = Asker { node: 2, proved: false };

    struct Fixture {
        issuer: DevIssuer,
        auth: Authenticator,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
            let settings = Auth {
                jwks_file: issuer.jwks_path().to_owned(),
                issuer: Some(ISSUER.to_owned()),
                audience: Some(AUDIENCE.to_owned()),
                leeway_seconds: 0,
            };
            let client = |name: &str, scope: &str| ApiClient {
                name: name.to_owned(),
                scopes: vec![scope.to_owned()],
                requires_token: false,
            };
            let clients = vec![client("atra", SCOPE_REGULATOR_ACK), client("portal", SCOPE_WRITE)];
            let api = Api { mtls_listen: Some("127.0.0.1:0".to_owned()), clients, ..Api::default() };
            let auth = Authenticator::from_config(&settings, &api).unwrap();
            Self { issuer, auth, _dir: dir }
        }

        fn token(&self, subject: &str, scope: &str) -> String {
            self.issuer.token(subject, &[scope], 600).unwrap()
        }

        /// As forwarded by `asker`: what stands in the way, or who vouches.
        fn ask(&self, act: &Act, asker: Asker) -> Result<Option<u64>, ActError> {
            believed(act, asker, OWN, &self.auth)
        }
    }

    fn act(actor: &str, wish: Wish, origin: Origin) -> Act {
        Act {
            wish,
            actor: actor.to_owned(),
            approver: None,
            reason: None,
            ticket_id: Some("T".to_owned()),
            trace_id: "t".to_owned(),
            key: [1; 32],
            body: [2; 32],
            origin,
        }
    }

    fn void() -> Wish {
        Wish::Void { cdr_id: CdrId([1; 16]), void_reason: "FRAUD".to_owned() }
    }

    fn acknowledge() -> Wish {
        let receipt_id = "R".to_owned();
        Wish::Acknowledge { export_id: CdrId([1; 16]), receipt_id, rejection_reason: None, payload: None }
    }

    fn by_token(token: &str) -> Proof {
        Proof { authorization: Some(format!("Bearer {token}")), ..Proof::default() }
    }

    fn by_certificate(name: &str) -> Proof {
        let certificate = ClientCertificate { name: name.to_owned(), not_after: u64::MAX };
        Proof { certificate: Some(certificate), ..Proof::default() }
    }

    #[test]
    fn nobody_acts_without_a_proof_of_their_own() {
        let fixture = Fixture::new();
        let ask = |actor: &str, wish, proof| fixture.ask(&act(actor, wish, Origin::Caller(proof)), PROVED);
        let token = fixture.token("anna", SCOPE_WRITE);
        assert_eq!(ask("anna", void(), by_token(&token)), Ok(None));
        assert_eq!(ask("anna", void(), Proof::default()), Err(AuthError::Missing.into()));
        assert_eq!(ask("anna", void(), by_token("invented")), Err(AuthError::Malformed.into()));
        assert_eq!(ask("berta", void(), by_token(&token)), Err(AuthError::NotTheirs.into()));
        let expired = fixture.issuer.token("anna", &[SCOPE_WRITE], -5).unwrap();
        assert_eq!(ask("anna", void(), by_token(&expired)), Err(AuthError::Expired.into()));
        let reader = fixture.token("anna", "cdr:read");
        let lacking = ask("anna", void(), by_token(&reader)).unwrap_err();
        assert_eq!(lacking, ActError::InsufficientScope { required: SCOPE_WRITE.to_owned() });
        let note = Wish::Note {
            entry_type: NODE_RESTRICTED.to_owned(),
            bucket_hour: None,
            operator_id: None,
            details: Map::new(),
        };
        assert!(ask("anna", note, by_token(&token)).is_err(), "only replicas tell that");
    }

    #[test]
    fn certificates_are_vouched_for_by_proved_replicas_only() {
        let fixture = Fixture::new();
        let by_atra = act("atra", acknowledge(), Origin::Caller(by_certificate("atra")));
        assert_eq!(fixture.ask(&by_atra, PROVED), Ok(Some(2)), "node 2 vouches");
        assert_eq!(fixture.ask(&by_atra, PLAIN), Err(AuthError::Unvouched.into()));
        let unknown = act("x", acknowledge(), Origin::Caller(by_certificate("x")));
        assert_eq!(fixture.ask(&unknown, PROVED), Err(AuthError::UnknownClient.into()));
        let other = act("ministry", acknowledge(), Origin::Caller(by_certificate("atra")));
        assert_eq!(fixture.ask(&other, PROVED), Err(AuthError::NotTheirs.into()));

        // A token that suffices needs nobody to vouch; one that gets its scope from the certificate does.
        let with = |scope| {
            let token = fixture.token("anna", scope);
            act("anna", void(), Origin::Caller(by_certificate("portal"))).with(by_token(&token).authorization)
        };
        assert_eq!(fixture.ask(&with(SCOPE_WRITE), PLAIN), Ok(None));
        assert_eq!(fixture.ask(&with("cdr:read"), PROVED), Ok(Some(2)));
        assert_eq!(fixture.ask(&with("cdr:read"), PLAIN), Err(AuthError::Unvouched.into()));
    }

    impl Act {
        fn with(mut self, authorization: Option<String>) -> Self {
            if let Origin::Caller(proof) = &mut self.origin {
                proof.authorization = authorization;
            }
            self
        }
    }

    #[test]
    fn approvers_approve_themselves() {
        let fixture = Fixture::new();
        let choice = SchemaChoice {
            schema_variant: "v".to_owned(),
            schema_hash: String::new(),
            configured: String::new(),
        };
        let admin = by_token(&fixture.token("anna", SCOPE_ADMIN));
        let asked = |named: Option<&str>, token: Option<String>| {
            let proof = Proof { approver: token, ..admin.clone() };
            let mut act = act("anna", Wish::Activate(choice.clone()), Origin::Caller(proof));
            act.approver = named.map(str::to_owned);
            fixture.ask(&act, PLAIN)
        };
        let berta = || Some(fixture.token("berta", SCOPE_ADMIN));
        assert_eq!(asked(Some("berta"), berta()), Ok(None));
        for (named, token) in [
            (None, None),
            (None, berta()),
            (Some("berta"), None),
            (Some("carla"), berta()),
            (Some("berta"), Some(fixture.token("berta", SCOPE_WRITE))),
            (Some("berta"), Some("invented".to_owned())),
            (Some("anna"), Some(fixture.token("anna", SCOPE_ADMIN))),
        ] {
            let refused = asked(named, token);
            assert!(matches!(refused, Err(ActError::Unapproved { .. })), "{named:?}: {refused:?}");
        }
        let many = JobRequest {
            issued_by_user_id: "anna".to_owned(),
            estimated_impact: FOUR_EYES_ABOVE + 1,
            ..JobRequest::default()
        };
        let writer = Origin::Caller(by_token(&fixture.token("anna", SCOPE_WRITE)));
        let refused = fixture.ask(&act("anna", Wish::ReRate(many.clone()), writer.clone()), PLAIN);
        assert!(matches!(refused, Err(ActError::Unapproved { .. })), "{refused:?}");
        let few = JobRequest { estimated_impact: FOUR_EYES_ABOVE, ..many };
        assert_eq!(fixture.ask(&act("anna", Wish::ReRate(few.clone()), writer.clone()), PLAIN), Ok(None));
        let another = JobRequest { issued_by_user_id: "berta".to_owned(), ..few };
        let refused = fixture.ask(&act("anna", Wish::ReRate(another), writer), PLAIN);
        assert_eq!(refused, Err(AuthError::NotTheirs.into()));
    }

    #[test]
    fn a_replica_tells_of_itself_only() {
        let fixture = Fixture::new();
        let setting = |node_id| {
            let name = "delivery".to_owned();
            Wish::Configure(NodeSetting { node_id, name, before: String::new(), value: String::new() })
        };
        let told = |node: u64, entry_type: &str| {
            let details = json!({ "nodeId": node }).as_object().cloned().unwrap();
            let entry_type = entry_type.to_owned();
            Wish::Note { entry_type, bucket_hour: None, operator_id: None, details }
        };
        let ask = |actor: &str, wish, asker| fixture.ask(&act(actor, wish, Origin::Replica), asker);
        for asker in [PROVED, PLAIN] {
            assert_eq!(ask("system:reload", setting(2), asker), Ok(None));
            assert_eq!(ask("system:node-2", told(2, NODE_RESTRICTED), asker), Ok(None));
            for (actor, wish) in [
                ("system:reload", setting(3)),
                ("anna", setting(2)),
                ("system:node-3", told(3, NODE_RESTRICTED)),
                ("system:node-2", told(3, NODE_RESTRICTION_LIFTED)),
                ("anna", told(2, CHAIN_VERIFY_OK)),
                ("system:node-2", told(2, CHAIN_VERIFY_OK)),
                ("system:integrity", told(2, NODE_RESTRICTED)),
                ("system:reload", void()),
                ("atra", acknowledge()),
            ] {
                assert_eq!(ask(actor, wish, asker), Err(AuthError::NotTheirs.into()), "{actor}");
            }
        }
        let own = Asker { node: OWN, proved: true };
        assert_eq!(ask("system:late-receipt", void(), own), Ok(None), "this replica does as it likes");
    }
}
