//! Stagekeeper: a Kubernetes operator for continuous delivery that remembers.
//!
//! The rooms of the house and who may import whom are described in `ARCHITECTURE.md`;
//! `tests/house.rs` holds the code to it.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod controllers;
pub mod crypto;
pub mod domain;
pub mod edge;
pub mod forge;
pub mod http;
pub mod identity;
pub mod outbound;
pub mod probe;
pub mod registry;
pub mod render;
pub mod safe;
pub mod store;
pub mod telemetry;
pub mod webhook;
