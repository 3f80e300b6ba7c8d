//! Channels that deliver to the servers of a test.

use crate::delivery::parcels::PATIENT;
use cdr_mediation::delivery::{Rest, RestOptions, Sftp, SftpOptions, Timeouts};
use testkit::rest_receiver::RestReceiver;
use testkit::sshd::Sshd;

/// A server that files are delivered to.
pub trait Server {
    type Options;
    type Channel;

    fn options(&self, timeouts: Timeouts) -> Self::Options;
    /// One that is patient.
    fn channel(&self) -> Self::Channel;
}

impl Server for RestReceiver {
    type Options = RestOptions;
    type Channel = Rest;

    fn options(&self, timeouts: Timeouts) -> RestOptions {
        RestOptions {
            url: self.url(),
            ca_file: Some(self.files.ca.clone()),
            client_cert_file: self.files.cert.clone(),
            client_key_file: self.files.key.clone(),
            timeouts,
        }
    }

    fn channel(&self) -> Rest {
        Rest::new(self.options(PATIENT)).unwrap()
    }
}

impl Server for Sshd {
    type Options = SftpOptions;
    type Channel = Sftp;

    fn options(&self, timeouts: Timeouts) -> SftpOptions {
        SftpOptions {
            host: "127.0.0.1".to_owned(),
            port: self.port(),
            user: self.user().to_owned(),
            directory: self.directory().to_owned(),
            host_fingerprints: vec![self.fingerprint("host")],
            key_files: vec![self.path("client")],
            timeouts,
        }
    }

    fn channel(&self) -> Sftp {
        Sftp::new(self.options(PATIENT)).unwrap()
    }
}
