//! `operator.registry.updated.v1`: an operator changed; its recording entity is fetched again.

use super::fields::Fields;
use super::{ConsumeError, Handler, Message, Taken, Work};
use crate::pricing::EntitySource;
use std::sync::Arc;

/// Durable name.
pub(super) const DURABLE: &str = "cdr-mediation-operator-registry";
/// Subject.
pub(super) const SUBJECT: &str = "operator.registry.updated.v1";

/// Invalidates what this replica remembers. The others lead only later, and ask the registry on their own.
pub(super) struct Registry(pub Arc<dyn EntitySource>);

impl Handler for Registry {
    fn take(&self, message: &Message<'_>, _work: &mut Work<'_>) -> Result<Taken, ConsumeError> {
        match Fields::read(message.payload).and_then(|fields| fields.operator_id().map(str::to_owned)) {
            Ok(operator_id) => {
                self.0.invalidate(&operator_id);
                Ok(Taken::Done)
            }
            Err(reason) => Ok(Taken::Unreadable(reason)),
        }
    }
}
