//! Secrets.

use serde::Deserialize;

use super::{AnyView, Head, Wire};
use crate::cluster::index::view::SecretView;

/// `v1` Secret. What is in it is not asked for, and would not be read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cluster::index) struct Secret {
    metadata: Head,
}

impl Wire for Secret {
    fn head(&self) -> &Head {
        &self.metadata
    }

    fn view(self) -> AnyView {
        AnyView::Secret(SecretView { meta: self.metadata.meta() })
    }
}
