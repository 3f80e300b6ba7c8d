//! Signing with keys in an HSM: SoftHSM2 stands in for the device, reached over the same PKCS#11 as any other.

mod cluster;
mod device;
