//! What a caller may be allowed. Scopes are explicit: none implies another.

/// Reads records, rollups, seals and keys.
pub const SCOPE_READ: &str = "cdr:read";
/// Verifies chains and hours.
pub const SCOPE_VERIFY: &str = "cdr:verify";
/// Sees addresses and subscriber identities unmasked.
pub const SCOPE_PII: &str = "cdr:pii";
/// Issues adjustments.
pub const SCOPE_WRITE: &str = "cdr:write";
/// Operates exports and schemas.
pub const SCOPE_ADMIN: &str = "cdr:admin";
/// Reads the audit log, without any other right.
pub const SCOPE_AUDIT: &str = "regulator-auditor";
/// Says in the regulator's name whether it accepts a settlement file; without any other right.
pub const SCOPE_REGULATOR_ACK: &str = "cdr:regulator-ack";
/// Every scope there is.
pub const ALL_SCOPES: &[&str] =
    &[SCOPE_READ, SCOPE_VERIFY, SCOPE_PII, SCOPE_WRITE, SCOPE_ADMIN, SCOPE_AUDIT, SCOPE_REGULATOR_ACK];
