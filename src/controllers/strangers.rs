//! Statuses are ours to write. That somebody else has is seen by what the API server notes of each writer; then what we remember of
//! a status is not what is there, and it is written again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::api::labels;

/// Whether an edit changed a status, and is not ours.
pub fn is_strange(edit: &ManagedFieldsEntry) -> bool {
    edit.subresource.as_deref() == Some("status") && edit.manager.as_deref() != Some(labels::FIELD_MANAGER)
}

/// What tells the last edit of a status by others from those before it; none if only we have written it.
pub fn strangers(meta: &ObjectMeta) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut any = false;
    for edit in meta.managed_fields.iter().flatten().filter(|edit| is_strange(edit)) {
        any = true;
        edit.manager.hash(&mut hasher);
        edit.time.as_ref().map(|time| time.0).hash(&mut hasher);
    }
    any.then(|| hasher.finish())
}

/// Which of their edits was answered.
#[derive(Debug, Default, Clone)]
pub struct Answered(Option<u64>);

impl Answered {
    /// Whether the status that is there is newer than what we remember of it, because others have written it. Tells each edit once.
    pub fn overwritten(&mut self, meta: &ObjectMeta) -> bool {
        let now = strangers(meta);
        let is_new = now.is_some() && now != self.0;
        self.0 = now;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn edited(edits: &[(&str, Option<&str>, &str)]) -> ObjectMeta {
        let one = |(manager, subresource, time): &(&str, Option<&str>, &str)| ManagedFieldsEntry {
            manager: Some((*manager).to_owned()),
            subresource: subresource.map(str::to_owned),
            time: Some(Time(time.parse().expect("a time"))),
            ..ManagedFieldsEntry::default()
        };
        ObjectMeta { managed_fields: Some(edits.iter().map(one).collect()), ..ObjectMeta::default() }
    }

    #[test]
    fn each_edit_of_a_status_by_others_is_told_once() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        let ours = (labels::FIELD_MANAGER, Some("status"), early);
        let mut answered = Answered::default();
        assert!(!answered.overwritten(&edited(&[ours, ("kubectl", None, early), ("kubectl", Some("scale"), early)])));
        let theirs = edited(&[ours, ("kubectl", Some("status"), early)]);
        assert!(answered.overwritten(&theirs));
        assert!(!answered.overwritten(&theirs), "it was told");
        assert!(answered.overwritten(&edited(&[ours, ("kubectl", Some("status"), late)])));
        assert!(!answered.overwritten(&edited(&[ours])));
        assert!(answered.overwritten(&theirs), "again");
    }
}
