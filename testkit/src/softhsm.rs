//! A SoftHSM2 token of a test's own, with keys whose seeds the test knows.

use crate::turns::Turn;
use cdr_core::key::Algorithm;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Label of the token.
pub const TOKEN: &str = "cdr";
/// Its PIN: nothing else looks like it.
pub const PIN: &str = "pin-7Qx93kVd02";
/// Seed of the Ed25519 key.
pub const ED25519_SEED: [u8; 32] = *b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
/// Scalar of the P-256 key, and its public key (RFC 6979, A.2.5).
pub const P256_SCALAR: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
pub const P256_PUBLIC: &str = "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

/// Says to a process of its own where its token is.
const DIRECTORY_VARIABLE: &str = "CDR_TEST_TOKEN";

/// A token in a directory of its own. The library finds it by an environment variable and has one state for a process,
/// so that each test runs in a process of its own.
pub struct SoftHsm {
    dir: PathBuf,
}

impl SoftHsm {
    /// In the test's own process, its token. Otherwise makes one, runs the test of this name in a process of its own,
    /// and gives none once that has succeeded.
    pub fn for_test(name: &str) -> Option<Self> {
        if let Some(dir) = std::env::var_os(DIRECTORY_VARIABLE) {
            return Some(Self { dir: dir.into() });
        }
        let _turn = Turn::wait();
        let dir = tempfile::tempdir().unwrap();
        let hsm = Self { dir: dir.path().to_owned() };
        hsm.begin();
        let outcome = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads", "1"])
            .env("SOFTHSM2_CONF", hsm.configuration())
            .env(DIRECTORY_VARIABLE, &hsm.dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&outcome.stdout);
        assert!(
            outcome.status.success() && said.contains("1 passed"),
            "{name} in a process of its own:\n{said}\n{}",
            String::from_utf8_lossy(&outcome.stderr)
        );
        None
    }

    fn begin(&self) {
        std::fs::create_dir_all(self.dir.join("tokens")).unwrap();
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            self.dir.join("tokens").display()
        );
        std::fs::write(self.configuration(), text).unwrap();
        self.tool(&["--init-token", "--free", "--label", TOKEN, "--so-pin", "so-pin-4711", "--pin", PIN]);
        std::fs::write(self.pin_file(), format!("{PIN}\n")).unwrap();
    }

    fn configuration(&self) -> PathBuf {
        self.dir.join("softhsm2.conf")
    }

    /// Directory of everything of the test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// File with the token's PIN.
    pub fn pin_file(&self) -> PathBuf {
        self.dir.join("pin")
    }

    /// The library, as Debian's `softhsm2` installs it.
    pub fn module() -> PathBuf {
        let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
        let found = places.iter().map(Path::new).find(|path| path.exists());
        found.expect("libsofthsm2.so is missing: run make deps").to_owned()
    }

    /// Takes the token away, as if its device had lost power.
    pub fn take_away(&self) {
        std::fs::rename(self.dir.join("tokens"), self.dir.join("away")).unwrap();
        std::fs::create_dir(self.dir.join("tokens")).unwrap();
    }

    /// Brings it back.
    pub fn bring_back(&self) {
        std::fs::remove_dir(self.dir.join("tokens")).unwrap();
        std::fs::rename(self.dir.join("away"), self.dir.join("tokens")).unwrap();
    }

    /// Puts a key pair of the known seed on the token.
    pub fn import(&self, key_id: &str, algorithm: Algorithm) {
        let file = self.dir.join("import.pem");
        std::fs::write(&file, pkcs8(algorithm)).unwrap();
        let id = hex::encode(key_id);
        let path = file.to_str().unwrap();
        self.tool(&["--import", path, "--token", TOKEN, "--label", key_id, "--id", &id, "--pin", PIN]);
        std::fs::remove_file(file).unwrap();
    }

    fn tool(&self, arguments: &[&str]) {
        let output: Output = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.configuration())
            .output()
            .expect("softhsm2-util is missing: run make deps");
        assert!(output.status.success(), "{output:?}");
    }
}

/// The known key as PKCS#8, PEM.
fn pkcs8(algorithm: Algorithm) -> String {
    let der = match algorithm {
        Algorithm::Ed25519 => {
            [&hex::decode("302e020100300506032b657004220420").unwrap()[..], &ED25519_SEED].concat()
        }
        Algorithm::EcdsaP256 => hex::decode(format!(
            "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420{P256_SCALAR}a144034200{P256_PUBLIC}"
        ))
        .unwrap(),
    };
    let text = cdr_core::proof::encode_base64(&der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
