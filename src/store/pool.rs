//! The pool, with a deadline for each statement that is measured here. The server's own limit says nothing while the server
//! hangs, or while a network swallows what it says.

use std::{fmt, io, ops::Deref, time::Duration};

use futures::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Describe, Either, Error, Execute, Executor, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::{error::Elapsed, timeout};

/// A pool whose statements answer in time or fail. Transactions go to the pool underneath, and have no deadline here.
#[derive(Clone)]
pub(super) struct Pool {
    all: PgPool,
    limit: Duration,
}

impl Pool {
    /// `limit` is longer than the server's own: it is for servers that cannot keep theirs.
    pub(super) const fn new(all: PgPool, limit: Duration) -> Self {
        Self { all, limit }
    }

    /// The same connections for who is less patient.
    pub(super) fn within(&self, limit: Duration) -> Self {
        Self { all: self.all.clone(), limit }
    }

    /// What was answered. A connection that did not answer is closed: waiting for it is what the pool would do when it is given
    /// back, for as long as the server hangs, and in its place there could be no other.
    fn answered<T>(
        &self,
        own: PoolConnection<Postgres>,
        answer: Result<Result<T, Error>, Elapsed>,
    ) -> Result<T, Error> {
        answer.unwrap_or_else(|_| {
            drop(own.detach());
            let silent = format!("no answer within {:?}", self.limit);
            Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, silent)))
        })
    }
}

impl Deref for Pool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.all
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("connections", &self.all.size()).field("limit", &self.limit).finish()
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let mut own = pool.all.acquire().await?;
            let answer = timeout(pool.limit, own.fetch_many(query).try_collect::<Vec<_>>()).await;
            pool.answered(own, answer)
        };
        stream::once(all).map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut own = pool.all.acquire().await?;
            let answer = timeout(pool.limit, own.fetch_optional(query)).await;
            pool.answered(own, answer)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        self.all.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        self.all.describe(sql)
    }
}
