//! The offline root key of a test, made and used by the commands of the operators' page, and the keys of the token that it
//! vouches for.

use crate::softhsm::{SoftHsm, TOKEN};
use cdr_core::Hour;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The key ceremony as operators read it.
const PAGE: &str = include_str!("../../docs/operations.md");

/// The command of the page that begins so.
fn command(beginning: &str) -> &'static str {
    PAGE.lines().find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("no command {beginning}"))
}

/// Runs commands in `dir`.
fn run_in(dir: &Path, commands: &str) {
    let done = Command::new("bash").args(["-euc", commands]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{commands}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The root key; the key, what it signs, and its public key, are files in one directory.
#[derive(Clone)]
pub struct RootKey {
    dir: PathBuf,
}

impl RootKey {
    pub fn new(dir: &Path) -> Self {
        // The passphrase is typed.
        let make = command("openssl genpkey -algorithm ed25519").replace(" -aes-256-cbc", "");
        run_in(dir, &format!("{make}\n{}", command("openssl pkey -in root.pem")));
        Self { dir: dir.to_owned() }
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// File with the public key.
    pub fn public_key_file(&self) -> String {
        self.file("root.pub")
    }

    /// Names the keys of a configuration.
    pub fn with_key(
        &self,
        hsm: &SoftHsm,
        text: &str,
        key_id: &str,
        algorithm: &str,
        previous: &[&str],
    ) -> String {
        let (before, rest) = text.split_once("[signer]\n").unwrap();
        let (_, after) = rest.split_once("[api]").unwrap();
        format!(
            "{before}[signer]\nkind = \"pkcs11\"\nmodule = \"{}\"\ntoken_label = \"{TOKEN}\"\npin_file = \"{}\"\n\
             key_id = \"{key_id}\"\nalgorithm = \"{algorithm}\"\nprevious_key_ids = {previous:?}\n\
             key_record_file = \"{}\"\n[api]{after}",
            SoftHsm::module().display(),
            hsm.pin_file().display(),
            self.file(&format!("{key_id}.json")),
        )
    }

    /// Signs the record of the key that `config` names, as an operator has it signed; `run` runs the binary.
    pub fn vouch(&self, config: &Path, key_id: &str, from: Hour, mut run: impl FnMut(&[&str]) -> Output) {
        let (config, from) = (config.to_str().unwrap(), from.to_string());
        let (message, signature) = (self.file("to-sign.bin"), self.file("root-signature.bin"));
        let record = ["signer", "record", "--config", config, "--from", &from];
        let unsigned = run(&[&record[..], &["--message", &message]].concat());
        assert!(unsigned.status.success(), "{unsigned:?}");
        run_in(&self.dir, command("openssl pkeyutl -sign -inkey root.pem"));
        let trust = self.public_key_file();
        let with_root = [&record[..], &["--root-signature", &signature, "--trust", &trust]].concat();
        let vouched = run(&with_root);
        assert!(vouched.status.success(), "{vouched:?}");
        std::fs::write(self.file(&format!("{key_id}.json")), &vouched.stdout).unwrap();
        // A signature over something else is no record.
        let other = [&with_root[..], &["--to", "2099-01-01T00:00:00Z"]].concat();
        assert!(!run(&other).status.success());
    }
}
