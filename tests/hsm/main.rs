//! Signing with keys in an HSM: SoftHSM2 stands in for the device, reached over the same PKCS#11 as any other.
#![allow(missing_docs, clippy::unwrap_used)]

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod softhsm;
mod vouching;
