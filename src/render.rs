//! Pure rendering: a snapshot in, Kubernetes manifests out.
