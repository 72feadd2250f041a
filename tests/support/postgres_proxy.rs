//! A proxy in front of Postgres for one operator: it reads the statements that pass, and holds or loses the ones that a
//! test wants.
//!
//! ```text
//! let sql = PostgresProxy::start(&env.database.url).await;
//! let operator = Operator::start_with(&env, &[("DATABASE_URL", &sql.url)]).await;
//! ```
//! It understands as much of the protocol as that takes: the frames, which statement a name stands for, and the message
//! with which the server says that it has done all that was asked. The server must not ask for encryption.

use std::{collections::HashMap, io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::trap::{Traffic, Trap, Verdict, When};

/// A statement that was executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its text.
    pub text: String,
    /// How many rows the server says it touched; `None` until it has. For `WITH … SELECT` those that it returned.
    pub rows: Option<u64>,
    /// It commits a transaction in which something was written.
    pub commits: bool,
}

impl Statement {
    /// Whether it makes or changes rows. What deletes some is housekeeping, which every replica does now and then and
    /// which mostly finds nothing.
    pub fn is_write(&self) -> bool {
        ["INSERT INTO ", "UPDATE "].iter().any(|word| self.text.contains(word))
    }

    /// Whether it writes to a table.
    pub fn writes_to(&self, table: &str) -> bool {
        ["INSERT INTO ", "UPDATE ", "DELETE FROM "].iter().any(|word| self.text.contains(&format!("{word}{table} ")))
    }

    /// Whether it changes rows, or makes changes of others last. `FOR UPDATE` only locks.
    pub fn changes_rows(&self) -> bool {
        let text = self.text.replace("FOR UPDATE ", "");
        self.commits || ["INSERT INTO ", "UPDATE "].iter().any(|word| text.contains(word))
    }

    /// Whether it moves a deploy from state to state.
    pub fn is_transition(&self) -> bool {
        self.text.contains("INSERT INTO deploy_transitions")
    }
}

/// The proxy. Ends with this value.
pub struct PostgresProxy {
    /// The URL that leads to it.
    pub url: String,
    traffic: Arc<Traffic<Statement>>,
    server: JoinHandle<()>,
}

impl PostgresProxy {
    /// Starts one in front of the server of a URL.
    pub async fn start(url: &str) -> Self {
        let (before, rest) = url.split_once('@').expect("a URL with a user");
        let (server, database) = rest.split_once('/').expect("a URL with a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let traffic = Traffic::new();
        let accepting = accept(listener, server.to_owned(), traffic.clone());
        Self { url: format!("{before}@{address}/{database}"), traffic, server: tokio::spawn(accepting) }
    }

    /// Catches statements, see [`super::trap`]. `Answered` is after the commit.
    pub fn trap(&self, when: When, matches: impl Fn(&Statement) -> bool + Send + 'static) -> Trap<Statement> {
        self.traffic.trap(when, matches)
    }

    /// What passes, for traps of every sort.
    pub fn traffic(&self) -> &Traffic<Statement> {
        &self.traffic
    }

    /// Every statement that was executed so far.
    pub fn log(&self) -> Vec<Statement> {
        self.traffic.log()
    }

    /// The writes among them.
    pub fn writes(&self) -> Vec<Statement> {
        self.log().into_iter().filter(Statement::is_write).collect()
    }
}

impl Drop for PostgresProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, server: String, traffic: Arc<Traffic<Statement>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        let (server, traffic) = (server.clone(), traffic.clone());
        connections.spawn(async move {
            // Either end may go at any time; the other one learns it when the sockets are dropped.
            if let Ok(server) = TcpStream::connect(server).await {
                let _ = Connection::new(client, server, traffic).run().await;
            }
        });
    }
}

/// Bytes that arrived on a socket and were not passed on yet.
struct End {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl End {
    /// More bytes; an error when there will be none.
    async fn fill(&mut self) -> io::Result<()> {
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes a complete message off the buffer, whose length stands `at` bytes into it.
    fn message(&mut self, at: usize) -> Option<Vec<u8>> {
        let length = self.buffer.get(at..at + 4)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        let end = at + usize::try_from(length).expect("a length");
        (self.buffer.len() >= end).then(|| self.buffer.drain(..end).collect())
    }
}

struct Connection {
    client: End,
    server: End,
    traffic: Arc<Traffic<Statement>>,
    started: bool,
    /// Statements by the name that the client gave them.
    prepared: HashMap<Vec<u8>, Statement>,
    /// Whether the transaction that is open has written.
    wrote: bool,
    /// What is being executed.
    running: Option<Statement>,
    /// Answers that are held back until the server is done.
    answers: Option<Vec<u8>>,
}

impl Connection {
    fn new(client: TcpStream, server: TcpStream, traffic: Arc<Traffic<Statement>>) -> Self {
        Self {
            client: End { socket: client, buffer: Vec::new() },
            server: End { socket: server, buffer: Vec::new() },
            traffic,
            started: false,
            prepared: HashMap::new(),
            wrote: false,
            running: None,
            answers: None,
        }
    }

    async fn run(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                read = self.client.fill() => {
                    read?;
                    self.ask().await?;
                }
                read = self.server.fill() => {
                    read?;
                    self.answer().await?;
                }
            }
        }
    }

    /// Passes on what the client says.
    async fn ask(&mut self) -> io::Result<()> {
        loop {
            // The first messages have no type: they ask for encryption, or begin the session.
            let Some(message) = self.client.message(usize::from(self.started)) else {
                return Ok(());
            };
            if self.started {
                if let Some(statement) = self.read(&message) {
                    self.execute(statement).await?;
                }
            } else {
                const ENCRYPTION: [u8; 4] = 80_877_103_u32.to_be_bytes();
                self.started = message[4..8] != ENCRYPTION;
            }
            self.server.socket.write_all(&message).await?;
        }
    }

    /// The statement that a message executes.
    fn read(&mut self, message: &[u8]) -> Option<Statement> {
        let mut texts = message[5..].split(|byte| *byte == 0);
        match message[0] {
            b'P' => {
                let name = texts.next()?.to_vec();
                let text = String::from_utf8_lossy(texts.next()?).into_owned();
                self.prepared.insert(name, Statement { text, rows: None, commits: false });
                None
            }
            b'B' => self.prepared.get(texts.nth(1)?).cloned(),
            b'Q' => {
                let text = String::from_utf8_lossy(texts.next()?).into_owned();
                let commits = text == "COMMIT" && self.wrote;
                Some(Statement { text, rows: None, commits })
            }
            _ => None,
        }
    }

    async fn execute(&mut self, statement: Statement) -> io::Result<()> {
        self.wrote = match statement.text.as_str() {
            "BEGIN" | "COMMIT" | "ROLLBACK" => false,
            _ => self.wrote || statement.changes_rows(),
        };
        self.traffic.note(statement.clone());
        self.verdict(When::Asked, &statement).await?;
        if self.traffic.catches(When::Answered, &statement) {
            self.answers = Some(Vec::new());
        }
        self.running = Some(statement);
        Ok(())
    }

    /// Passes on what the server says, or keeps it until it has said everything.
    async fn answer(&mut self) -> io::Result<()> {
        let Some(kept) = &mut self.answers else {
            self.client.socket.write_all(&self.server.buffer).await?;
            self.server.buffer.clear();
            return Ok(());
        };
        let mut done = false;
        while let Some(message) = self.server.message(1) {
            done = message[0] == b'Z';
            if message[0] == b'C'
                && let Some(running) = &mut self.running
            {
                let tag = String::from_utf8_lossy(&message[5..message.len() - 1]).into_owned();
                running.rows = tag.rsplit(' ').next().and_then(|rows| rows.parse().ok());
            }
            kept.extend(message);
        }
        if done && let Some(statement) = self.running.take() {
            self.verdict(When::Answered, &statement).await?;
            let kept = self.answers.take().unwrap_or_default();
            self.client.socket.write_all(&kept).await?;
        }
        Ok(())
    }

    async fn verdict(&self, when: When, statement: &Statement) -> io::Result<()> {
        match self.traffic.pass(when, statement).await {
            Verdict::Release => Ok(()),
            Verdict::Lose => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}
