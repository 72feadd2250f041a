//! The image book's questions, put to real registries.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::images::{About, Answer, Asker, Question, Refusal};
use crate::registry::{Credential, Registry, RegistryError, RegistryOptions};
