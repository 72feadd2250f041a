//! Health probes: HTTP and TCP against an instance's own address.
