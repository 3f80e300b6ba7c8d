//! Every event that is built, held against its JSON Schema, against its source, and searched for subscribers' numbers.

mod built;
mod carried;
mod privacy;
mod samples;
mod valid;
