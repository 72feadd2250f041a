//! The edge as its callers and upstreams see it: over real connections, with real servers behind it.
//!
//! Most need nothing but this process; [`browsing`] needs a browser, [`watching`] an API server, and [`outages`] makes one of
//! its own.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "edge/lab.rs"]
mod lab;
#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "shared with other tests, which need more of it")]
mod postgres;
#[path = "support/throwaway.rs"]
mod throwaway;

#[path = "edge/browser.rs"]
mod browser;
#[path = "edge/browsing.rs"]
mod browsing;
#[path = "edge/draining.rs"]
mod draining;
#[path = "edge/guarding.rs"]
mod guarding;
#[path = "edge/outages.rs"]
mod outages;
#[path = "edge/pages.rs"]
mod pages;
#[path = "edge/passing.rs"]
mod passing;
#[path = "edge/provider.rs"]
mod provider;
#[path = "edge/signing_in.rs"]
mod signing_in;
#[path = "edge/smuggling.rs"]
mod smuggling;
#[path = "edge/streaming.rs"]
mod streaming;
#[path = "edge/switching.rs"]
mod switching;
#[path = "edge/tls.rs"]
mod tls;
#[path = "edge/upgrading.rs"]
mod upgrading;
#[path = "edge/waking.rs"]
mod waking;
#[path = "edge/watching.rs"]
mod watching;
