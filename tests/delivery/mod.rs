//! Files delivered to real counterparts: an OpenSSH server of this machine, and a receiver behind mutual TLS. They are
//! killed, full, read-only, in possession of other keys or other files; in the end a file is there whole, once, or
//! somebody is told why not.

pub mod clients;
mod fallback;
pub mod parcels;
mod rest;
mod sftp;
mod sftp_faults;
