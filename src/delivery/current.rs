//! The channels in force, which can be exchanged while a file is on its way.

use super::{Channels, DeliveryError};
use crate::config;
use crate::metrics::Metrics;
use std::sync::{Arc, PoisonError, RwLock};

/// The channels in force. An attempt that is under way ends with those with which it began.
pub struct CurrentChannels {
    in_force: RwLock<InForce>,
    metrics: Arc<Metrics>,
}

/// The channels, and their configuration.
struct InForce {
    config: config::Delivery,
    channels: Option<Arc<Channels>>,
}

impl InForce {
    fn open(config: &config::Delivery, metrics: &Arc<Metrics>) -> Result<Self, DeliveryError> {
        let channels = Channels::open(config, metrics.clone())?.map(Arc::new);
        Ok(Self { config: config.clone(), channels })
    }
}

impl CurrentChannels {
    /// The channels that the configuration names, or none.
    ///
    /// # Errors
    /// As [`Channels::open`].
    pub fn open(config: &config::Delivery, metrics: Arc<Metrics>) -> Result<Self, DeliveryError> {
        Ok(Self { in_force: RwLock::new(InForce::open(config, &metrics)?), metrics })
    }

    /// Those in force; none if files wait.
    pub fn now(&self) -> Option<Arc<Channels>> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).channels.clone()
    }

    /// The configuration of those in force.
    pub fn config(&self) -> config::Delivery {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// Puts the channels of another configuration in force; if they can't be used, those in force stay. How the
    /// state of the previous receivers is no longer reported.
    ///
    /// # Errors
    /// As [`Channels::open`].
    pub fn exchange(&self, config: &config::Delivery) -> Result<(), DeliveryError> {
        let next = InForce::open(config, &self.metrics)?;
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = in_force.channels.as_ref().filter(|_| next.config != in_force.config) {
            old.retire();
        }
        *in_force = next;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Delivery, DeliveryKind};
    use crate::delivery::{ChannelKind, Item, Parcel};
    use bytes::Bytes;

    #[tokio::test]
    async fn a_receiver_that_was_exchanged_is_told_of_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let to = |name: &str| Delivery {
            kind: DeliveryKind::Directory,
            directory_path: Some(dir.path().join(name)),
            ..Delivery::default()
        };
        let current = CurrentChannels::open(&to("a"), metrics.clone()).unwrap();
        let before = current.now().unwrap();
        let deliver = async |channels: &Channels, name: &str| {
            let file = Item::bytes(name, Bytes::from_static(b"a file")).unwrap();
            channels.deliver(ChannelKind::Directory, &Parcel { file, sidecars: Vec::new() }).await.unwrap();
            metrics.dependencies().contains_key("delivery_directory")
        };
        assert!(deliver(&before, "1").await);
        current.exchange(&to("a")).unwrap();
        assert!(metrics.dependencies().contains_key("delivery_directory"), "nothing was exchanged");
        let again = current.now().unwrap();
        current.exchange(&to("b")).unwrap();
        assert!(metrics.dependencies().is_empty());
        assert!(!deliver(&again, "2").await, "an attempt that was under way says nothing of the new one");
        assert!(deliver(&current.now().unwrap(), "3").await);
        current.exchange(&Delivery::default()).unwrap();
        assert!(metrics.dependencies().is_empty() && current.now().is_none());
    }
}
