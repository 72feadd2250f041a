//! Postgres: one file per aggregate, noun-first functions, row to domain conversions.
//!
//! Every query is checked against the schema when it is compiled; the data for builds without a database is
//! committed in `.sqlx/` (written by `hack/sqlx`). A deploy is written by compare-and-set in one statement, so
//! that nothing is ever half stored and a lost reply is answered by reading again. Text that comes from outside
//! passes [`text::storable`] first.

mod approvals;
mod audit;
mod connect;
mod credentials;
mod deploys;
mod dora;
mod encryption_keys;
mod environments;
mod epochs;
mod error;
mod gates;
mod groups;
mod holds;
mod hooks;
mod inbox;
mod instances;
mod logs;
mod migrate;
mod outbox;
mod pool;
mod projects;
mod pull_requests;
mod receivers;
mod registries;
mod releases;
mod replies;
mod requests;
mod scans;
mod sealed;
mod secrets;
mod settings;
mod stages;
mod text;
mod unready;
mod updates;
mod users;
mod uses;
mod vault;
mod vetoes;

pub use approvals::StoredApproval;
pub use audit::{
    AuditBreak, AuditCursor, AuditEntry, AuditFilter, AuditPage, AuditPlace, AuditRecord, AuditVerdict, NewAuditEntry,
};
pub use connect::{ConnectOptions, Store};
pub use credentials::{Credential, CredentialSlot, CredentialUse, NewCredential, SealedCredential};
pub use deploys::{
    Adopted, Advance, Creation, DeployDetail, GoodDeploy, HistoryCursor, HistoryEntry, HistoryFilter, HistoryPage,
    ImageRun, NewDeploy, Place, Provenance, ServedFilter, ServedPage, StoredDeploy, StoredTransition, TargetState,
    time_in_states, whole_digest,
};
pub use dora::{DoraFilter, DoraNumbers, DoraStats, Spread};
pub use encryption_keys::{EncryptionKey, Retirement, SealedRow, SealedTable, WrappedRow};
pub use environments::{Environment, EnvironmentRow, NewEnvironment, Recorded};
pub use error::{Class, MigrationError, StoreError};
pub use gates::{Begun, Proof};
pub use groups::{Beginning, BegunTogether, NewGroup, StoredGroup};
pub use holds::Hold;
pub use hooks::{HookRun, HookStart};
pub use inbox::{
    Delivery, DeliveryDetail, DeliveryKey, DeliveryState, NewDelivery, PendingDelivery, Received, Replayed, Settled,
};
pub use instances::{Instance, InstanceChange, InstanceStatus};
pub use logs::{LogFilter, LogLevel, LogLine, LogPage, LogPlace, LogSearch, StoredLine};
pub use migrate::{MIGRATIONS, MigrationState, MigrationStatus, Migrations};
pub use outbox::{Message, MessageKind, NewMessage};
pub use projects::Project;
pub use pull_requests::StoredPull;
pub use receivers::{DeclaredReceiver, NewReceiver, Receiver, VaultReceiver};
pub use registries::{RegistrySettings, StoredRegistry};
pub use replies::ReplyClaim;
pub use requests::{Asked, LifeChange, NewHold, NewRequest, Settlement, StoredRequest};
pub use scans::ImageScan;
pub use secrets::{KEPT_VERSIONS, NewSecret, SealedSecret, Secret, SecretSlot, SecretUse};
pub use settings::Settings;
pub use stages::{NewStage, Target};
pub use updates::{Acknowledged, Update, UpdateChoice, UpdateCursor, UpdateFilter, UpdatePage, UpdateTag, tag_taken};
pub use users::{SeenUser, UserCursor, UserPage};
pub use vault::{VaultChange, VaultChanges, VaultCredential, VaultProject, VaultSecret};
pub use vetoes::{NewVeto, Veto};
