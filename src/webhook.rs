//! What registries and watchers send when an image was pushed: who signed it, and which images it names. Pure.
