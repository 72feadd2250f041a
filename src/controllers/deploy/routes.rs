//! The route objects that a target should have.

use std::fmt;

use crate::{
    api,
    cluster::{
        apply::Writer,
        index::{RouteView, StageChildren},
    },
    controllers::error::Error,
    render::{self, Snapshot, stage::RouteObject},
};

/// One route object that should exist.
#[derive(Debug, Clone)]
pub struct Wanted(RouteObject);
