//! What operators and other services watch: health, metrics, the audit log, the live feed, the document.

pub(super) mod audit;
pub(super) mod feed;
pub(super) mod health;
pub(super) mod openapi;
