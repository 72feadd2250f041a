//! Configuration from flags and environment, validated as a whole.
