//! OCI distribution client: authentication, tags, manifests.
