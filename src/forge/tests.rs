//! Every provider, played by a local server.
