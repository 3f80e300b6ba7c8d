//! The schema variant that a configuration names, and the one in force.
//!
//! Once a ledger has a variant, it is exchanged by activation. A configuration that names another one either is older than
//! an activation, and then it is what it was, or somebody has changed it and expects that to have an effect. Which
//! of the two it is, a file in the data directory shows: it holds the variant with which the node last started.

use super::{Contradiction, Terms};
use crate::names::variant_in_force;
use cdr_core::LedgerState;

/// Name of the file.
const LET_IN_WITH: &str = "schema-variant";

impl Terms {
    /// Compares the schema variant with a ledger, as the latest state has it.
    ///
    /// # Errors
    /// [`Contradiction::Variant`] if the configuration names another one than before and than is in force.
    pub(super) fn check_variant(&self, state: &LedgerState) -> Result<(), Contradiction> {
        let (file, named) = (self.data_dir.join(LET_IN_WITH), self.schema_variant.as_deref());
        let Some(held) = variant_in_force(state) else { return Ok(()) };
        if named == Some(held) {
            if let Err(error) = std::fs::write(&file, held) {
                let file = file.display();
                tracing::error!(%file, %error, "the schema variant with which this node was started can't be saved");
            }
            return Ok(());
        }
        let before = std::fs::read_to_string(&file).ok();
        if let Some(named) = named.filter(|named| before.as_deref() == Some(*named)) {
            tracing::warn!(
                severity = "SEV2",
                named,
                held,
                "export.schema_variant is older than an activation: set the variant in force in the configuration"
            );
            return Ok(());
        }
        let (held, named) = (held.to_owned(), named.map(str::to_owned));
        Err(Contradiction::Variant { held, named })
    }
}
