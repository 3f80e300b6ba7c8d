//! Settlement from receipts to the regulator with real counterparts: three replica processes, nats-server, a SoftHSM2
//! token, an OpenSSH server, and a receiver behind mutual TLS. The leader is killed between every two steps, each held
//! from outside; in the end every file is at its receiver once, whole and signed.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

mod checks;
#[path = "../common/mod.rs"]
mod common;
mod fallback;
mod house;
mod line;
#[path = "../delivery/parcels.rs"]
mod parcels;
#[path = "../delivery/receiver.rs"]
mod receiver;
mod receivers;
mod refusal;
mod rotation;
#[path = "../events/schemas.rs"]
mod schemas;
#[path = "../delivery/small_disk.rs"]
mod small_disk;
#[path = "../hsm/softhsm.rs"]
mod softhsm;
#[path = "../delivery/sshd.rs"]
mod sshd;
mod steps;
mod uploads;
#[path = "../hsm/vouching.rs"]
mod vouching;

use common::certificates;
