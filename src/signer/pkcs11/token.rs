//! The token: reached when it is needed, given up when it fails, reached again.

use super::error::{is_about_the_pin, meaning};
use super::keys::{KeyPair, Place};
use super::{PIN_VARIABLE, PinSource, Pkcs11Settings};
use crate::signer::SignError;
use cdr_core::hash::{Hash, sha256};
use cdr_core::key::PublicKey;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use std::collections::BTreeMap;

/// A token, and the session on it while there is one.
pub(super) struct Token {
    settings: Pkcs11Settings,
    name: String,
    module: Option<Pkcs11>,
    open: Option<Open>,
    /// Digest of the PIN that was refused last: it is not tried again.
    refused_pin: Option<Hash>,
}

/// A session that is logged in, and the keys that were found on it.
struct Open {
    session: Session,
    keys: BTreeMap<String, KeyPair>,
}

impl Token {
    pub(super) fn new(settings: Pkcs11Settings) -> Self {
        let name = format!("token {}", settings.token_label);
        Self { settings, name, module: None, open: None, refused_pin: None }
    }

    /// What errors call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn public_key(&mut self, key_id: &str) -> Result<PublicKey, SignError> {
        self.with_key(key_id, |_, key| Ok(key.public().clone()))
    }

    pub(super) fn sign(&mut self, key_id: &str, message: &[u8]) -> Result<[u8; 64], SignError> {
        self.with_key(key_id, |place, key| key.sign(place, key_id, message))
    }

    /// Does something with a key. Whatever fails on a session that stood may be due to a token that was away meanwhile,
    /// a key that can't be found included: only a new session shows that.
    fn with_key<T>(
        &mut self,
        key_id: &str,
        work: impl Fn(&Place<'_>, &KeyPair) -> Result<T, SignError>,
    ) -> Result<T, SignError> {
        self.check_configured(key_id)?;
        if let Some(open) = &mut self.open {
            match open.with_key(&self.settings, &self.name, key_id, &work) {
                Err(error) => {
                    tracing::info!(%error, "the session with the token is closed; a new one is opened");
                }
                done => return done,
            }
        }
        let mut open = self.connect()?;
        let done = open.with_key(&self.settings, &self.name, key_id, &work);
        match &done {
            Err(error) if error.is_temporary() => self.disconnect(),
            _ => self.open = Some(open),
        }
        done
    }

    fn check_configured(&self, key_id: &str) -> Result<(), SignError> {
        let settings = &self.settings;
        if settings.key_id == key_id || settings.previous_key_ids.iter().any(|previous| previous == key_id) {
            return Ok(());
        }
        let why = "this node is not configured to sign with it: name it in signer.key_id, or among \
                   signer.previous_key_ids if another one has replaced it";
        Err(SignError::Key { key_id: key_id.to_owned(), why: why.to_owned() })
    }

    /// Ends the library's use, which closes every session.
    fn disconnect(&mut self) {
        self.open = None;
        if let Some(module) = &self.module {
            match module.clone().finalize() {
                Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => {}
                Err(error) => tracing::warn!(%error, "the PKCS#11 library could not be ended"),
            }
        }
    }

    fn connect(&mut self) -> Result<Open, SignError> {
        self.disconnect();
        let module = self.load()?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(meaning(&self.name, &error)),
        }
        let slot = self.slot(&module)?;
        // Not closed when it is dropped: the library's end does that, and a lost token would complain.
        let session = module.open_ro_session_no_drop(slot).map_err(|e| meaning(&self.name, &e))?;
        self.log_in(&session)?;
        tracing::info!(token = self.settings.token_label, "logged in at the HSM");
        Ok(Open { session, keys: BTreeMap::new() })
    }

    fn load(&mut self) -> Result<Pkcs11, SignError> {
        if let Some(module) = &self.module {
            return Ok(module.clone());
        }
        let module = Pkcs11::new(&self.settings.module).map_err(|e| meaning(&self.name, &e))?;
        self.module = Some(module.clone());
        Ok(module)
    }

    /// The slot with the token of that label.
    fn slot(&self, module: &Pkcs11) -> Result<Slot, SignError> {
        let slots = module.get_slots_with_token().map_err(|e| meaning(&self.name, &e))?;
        let is_it = |slot: &Slot| {
            module.get_token_info(*slot).is_ok_and(|token| {
                token.token_initialized() && token.label().trim_end() == self.settings.token_label
            })
        };
        let found: Vec<Slot> = slots.into_iter().filter(is_it).collect();
        match found[..] {
            [slot] => Ok(slot),
            [] => {
                let why = "no slot holds a token with this label".to_owned();
                Err(SignError::Unavailable { what: self.name.clone(), why })
            }
            _ => {
                let why = "several tokens have this label: give the right one a label of its own".to_owned();
                Err(SignError::Refused { what: self.name.clone(), why })
            }
        }
    }

    fn log_in(&mut self, session: &Session) -> Result<(), SignError> {
        let refuse = |why: String| SignError::Refused { what: self.name.clone(), why };
        let pin = read_pin(&self.settings.pin).map_err(refuse)?;
        let digest = sha256(pin.as_bytes());
        if self.refused_pin == Some(digest) {
            return Err(refuse("this PIN was refused before; provide the right one".to_owned()));
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused_pin = None;
                Ok(())
            }
            Err(error) => {
                if matches!(error, Error::Pkcs11(value, _) if is_about_the_pin(value)) {
                    self.refused_pin = Some(digest);
                }
                Err(meaning(&self.name, &error))
            }
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl Open {
    fn with_key<T>(
        &mut self,
        settings: &Pkcs11Settings,
        token: &str,
        key_id: &str,
        work: impl Fn(&Place<'_>, &KeyPair) -> Result<T, SignError>,
    ) -> Result<T, SignError> {
        let place = Place { session: &self.session, token };
        if !self.keys.contains_key(key_id) {
            let key = KeyPair::find(&place, key_id)?;
            let algorithm = key.public().algorithm();
            if key_id == settings.key_id && algorithm != settings.algorithm {
                let why = format!(
                    "{token} holds it as a key of {algorithm}, signer.algorithm is {}: correct one of them",
                    settings.algorithm
                );
                return Err(SignError::Key { key_id: key_id.to_owned(), why });
            }
            self.keys.insert(key_id.to_owned(), key);
        }
        work(&place, &self.keys[key_id])
    }
}

/// The PIN, or why there is none.
fn read_pin(source: &PinSource) -> Result<String, String> {
    let (mut pin, place) = match source {
        PinSource::File(path) => {
            let place = format!("signer.pin_file {}", path.display());
            (std::fs::read_to_string(path).map_err(|e| format!("{place} can't be read: {e}"))?, place)
        }
        PinSource::Environment => {
            let place = format!("the environment variable {PIN_VARIABLE}");
            let missing =
                |_| format!("there is no PIN: name a file in signer.pin_file, or set {PIN_VARIABLE}");
            (std::env::var(PIN_VARIABLE).map_err(missing)?, place)
        }
    };
    pin.truncate(pin.trim_end_matches(['\r', '\n']).len());
    if pin.is_empty() { Err(format!("{place} holds no PIN")) } else { Ok(pin) }
}
