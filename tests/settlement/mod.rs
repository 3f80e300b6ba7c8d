//! Settlement from receipts to the regulator with real counterparts: three replica processes, nats-server, a SoftHSM2
//! token, an OpenSSH server, and a receiver behind mutual TLS. The leader is killed between every two steps, each held
//! from outside; in the end every file is at its receiver once, whole and signed.

mod checks;
mod cluster;
mod fallback;
mod receivers;
mod refusal;
mod rotation;
mod steps;
mod uploads;
