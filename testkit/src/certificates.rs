//! Certificates for both sides, made for one test.
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A certificate and its key, PEM.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// Someone who vouches for certificates.
pub struct Authority {
    pub cert: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        Self { cert, issuer: Issuer::new(params, key) }
    }

    /// A certificate for this machine.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2099)
    }

    /// A certificate that ended years ago.
    pub fn issue_expired(&self, name: &str) -> Pair {
        self.issue_until(name, 2021)
    }

    fn issue_until(&self, name: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

/// Files of a client: whom it trusts, what it shows, and the key to that, mode 0600.
pub struct ClientFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl ClientFiles {
    pub fn write(dir: &Path, trusted: &Authority, shown: &Pair) -> Self {
        let files =
            Self { ca: dir.join("ca.pem"), cert: dir.join("client.pem"), key: dir.join("client.key") };
        fs::write(&files.ca, &trusted.cert).unwrap();
        files.show(shown);
        files
    }

    /// Exchanges what the client shows.
    pub fn show(&self, shown: &Pair) {
        fs::write(&self.cert, &shown.cert).unwrap();
        fs::write(&self.key, &shown.key).unwrap();
        fs::set_permissions(&self.key, PermissionsExt::from_mode(0o600)).unwrap();
    }
}
