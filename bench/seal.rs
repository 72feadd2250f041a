//! What sealing costs beside the bare cipher, and how fast keys rotate.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use stagekeeper::{
    crypto::{self, Keyring, Place, Plaintext},
    domain::{
        actor::Actor,
        clock::{Ids as _, SystemClock, SystemIds},
        credential::CredentialKind,
    },
    safe::{Deposit, Owner, Safe},
    store::Store,
};

use crate::Failure;

/// Operations that are timed together: long against a look at the clock, short against a noisy neighbour.
const BATCH: u32 = 2_000;
/// Length of the value.
const LENGTH: usize = 1024;
/// Rows that are written at once.
const AT_ONCE: usize = 8;

#[derive(Args)]
pub struct Seal {
    /// A database, with its schema.
    #[arg(long)]
    database: String,
    /// Rows that are rotated.
    #[arg(long, default_value_t = 10_000)]
    rows: u32,
    /// How often sealing and the bare cipher take turns.
    #[arg(long, default_value_t = 25)]
    rounds: u32,
}

impl Seal {
    pub async fn run(&self) -> Result<Value, Failure> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(round().await?);
        }
        let seconds = self.rotate().await?;
        Ok(json!({
            "kind": "seal",
            "rounds": rounds,
            "rotation": {"rows": self.rows, "seconds": seconds.as_secs_f64()},
        }))
    }

    /// Fills the database under one key and brings all of it under another.
    async fn rotate(&self) -> Result<Duration, Failure> {
        let (old, new) = (format!("old:{}", "0a".repeat(32)), format!("new:{}", "0b".repeat(32)));
        let store = Store::connect(&self.database).await?;
        let safe = |keys: &str| -> Result<Safe, Failure> {
            Ok(Safe::new(store.clone(), Arc::new(Keyring::parse(keys)?), Arc::new(SystemClock), Arc::new(SystemIds)))
        };
        let before = safe(&old)?;
        before.ready().await?;
        let project = store.project_upsert(SystemIds.next(), "bench", "bench").await?;
        let owner = Owner { project: project.id, namespace: "bench", name: "bench" };
        let value = Plaintext::from(vec![b'x'; LENGTH]);
        let deposit = |name: String| {
            let (before, owner, value) = (&before, &owner, &value);
            async move {
                let deposit = Deposit {
                    name: &name,
                    kind: CredentialKind::Generic,
                    value,
                    hosts: Vec::new(),
                    origin: "bench".into(),
                    expires_at: None,
                    actor: Actor::Controller,
                };
                before.put(owner, &deposit).await.map(|_| ())
            }
        };
        let names = (0..self.rows).map(|number| format!("credential-{number}"));
        futures::stream::iter(names.map(deposit)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let both = safe(&format!("{new},{old}"))?;
        let started = Instant::now();
        let rotated = both.rotate(|_| ()).await?;
        let seconds = started.elapsed();
        if rotated.done != u64::from(self.rows) {
            return Err(format!("{} of {} rows were rotated", rotated.done, self.rows).into());
        }
        Ok(seconds)
    }
}

/// Nanoseconds for one operation of each kind, by turns.
async fn round() -> Result<Value, Failure> {
    let keys = Keyring::parse(&format!("bench:{}", "0c".repeat(32)))?;
    let id = SystemIds.next();
    let place = Place { table: "credentials", id, namespace: "bench", project: "bench", name: "registry", version: 7 };
    let plain = vec![b'x'; LENGTH];
    let nonce = [7; 12];
    // As much associated data as a place has.
    let bound = [1; 100];
    let cipher = Aes256Gcm::new(&[3; 32].into());
    let bare_seal = || cipher.encrypt(&nonce.into(), Payload { msg: black_box(&plain), aad: &bound });
    let whole = bare_seal().map_err(|error| error.to_string())?;
    let bare_open = || cipher.decrypt(&nonce.into(), Payload { msg: black_box(&whole), aad: &bound });
    let sealed = crypto::seal(&keys, &place, &plain).await?;

    let mut nanos = [0_u128; 4];
    let mut each = |at: usize, started: Instant| nanos[at] = started.elapsed().as_nanos() / u128::from(BATCH);
    let started = Instant::now();
    for _ in 0..BATCH {
        black_box(bare_seal().map_err(|error| error.to_string())?);
    }
    each(0, started);
    let started = Instant::now();
    for _ in 0..BATCH {
        black_box(crypto::seal(&keys, &place, black_box(&plain)).await?);
    }
    each(1, started);
    let started = Instant::now();
    for _ in 0..BATCH {
        black_box(bare_open().map_err(|error| error.to_string())?);
    }
    each(2, started);
    let started = Instant::now();
    for _ in 0..BATCH {
        black_box(crypto::open(&keys, &place, black_box(&sealed)).await?.len());
    }
    each(3, started);
    let [bare_seal, seal, bare_open, open] = nanos;
    let number = |nanos: u128| u64::try_from(nanos).unwrap_or(u64::MAX);
    Ok(json!({
        "bareSealNanos": number(bare_seal),
        "sealNanos": number(seal),
        "bareOpenNanos": number(bare_open),
        "openNanos": number(open),
    }))
}
