//! The channels in force, which can be exchanged while a file is on its way.

use super::{Channels, DeliveryError};
use crate::config;
use crate::metrics::Metrics;
use std::sync::{Arc, PoisonError, RwLock};

/// The channels in force. An attempt that is under way ends with those with which it began.
pub struct CurrentChannels {
    channels: RwLock<Option<Arc<Channels>>>,
    metrics: Arc<Metrics>,
}

impl CurrentChannels {
    /// The channels that the configuration names, or none.
    ///
    /// # Errors
    /// As [`Channels::open`].
    pub fn open(config: &config::Delivery, metrics: Arc<Metrics>) -> Result<Self, DeliveryError> {
        let channels = Channels::open(config, metrics.clone())?.map(Arc::new);
        Ok(Self { channels: RwLock::new(channels), metrics })
    }

    /// Those in force; none if files wait.
    pub fn now(&self) -> Option<Arc<Channels>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the channels of another configuration in force; if they can't be used, those in force stay.
    ///
    /// # Errors
    /// As [`Channels::open`].
    pub fn exchange(&self, config: &config::Delivery) -> Result<(), DeliveryError> {
        let channels = Channels::open(config, self.metrics.clone())?.map(Arc::new);
        *self.channels.write().unwrap_or_else(PoisonError::into_inner) = channels;
        Ok(())
    }
}
