//! Names in rows that several rooms read: whoever writes such a row and whoever looks for it mean the same text.

use cdr_core::LedgerState;

/// Kind of the audit entry of a verification that found nothing.
pub const CHAIN_VERIFY_OK: &str = "CHAIN_VERIFY_OK";
/// Kind of the one that found something.
pub const CHAIN_BREAK_DETECTED: &str = "CHAIN_BREAK_DETECTED";
/// Kind of the audit entry that records that a replica takes no commands.
pub const NODE_RESTRICTED: &str = "NODE_RESTRICTED";
/// Kind of the one that records that it takes commands again.
pub const NODE_RESTRICTION_LIFTED: &str = "NODE_RESTRICTION_LIFTED";

/// Who issues prices in the name of the system: late prices as corrections, price lists as settings. Events depend on it.
pub const PRICE_ISSUER: &str = "system:pricing";

/// Setting that names the schema variant of the regulator's files to come (US-CDR-009).
pub const VARIANT_SETTING: &str = "export.tap.schemaVariant";

/// The variant that the ledger has in force; none while no leader has named one. Then it is the configured one.
pub fn variant_in_force(state: &LedgerState) -> Option<&str> {
    state.settings.get(VARIANT_SETTING)
}
