//! Kubernetes adapters: server-side apply, watches, events, lease.
