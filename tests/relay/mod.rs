//! Events on their way out: every kind through the local bus, the live feed, and a real bus that fails.

mod feed;
mod files;
mod jobs;
mod outage;
mod published;
mod publisher;
mod restriction;
