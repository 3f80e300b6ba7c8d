//! Records and their adjustments.

pub(super) mod adjustments;
pub(super) mod batching;
pub(super) mod query;
pub(super) mod record;
pub(super) mod rerate;
