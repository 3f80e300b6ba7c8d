//! Files delivered to real counterparts: an OpenSSH server of this machine, and a receiver behind mutual TLS. They are
//! killed, full, read-only, in possession of other keys or other files; in the end a file is there whole, once, or
//! somebody is told why not.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/certificates.rs"]
mod certificates;
mod fallback;
mod parcels;
mod receiver;
mod rest;
mod sftp;
mod sftp_faults;
mod small_disk;
mod sshd;
