//! The custom resources: spec and status types, conditions and labels.
