//! Postgres servers that a test may stop.
//!
//! ```text
//! let server = Server::start();
//! let store = Store::connect(&server.url()).await.unwrap();
//! server.crash();
//! ```
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where its ground is missing")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

/// A server of its own. Stopped and removed with this value.
pub struct Server {
    folder: PathBuf,
    port: u16,
    /// Further settings, such as `-c max_connections=40`.
    settings: String,
    /// Its data are on a file system of their own.
    small: bool,
}

impl Server {
    /// Makes and starts one.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further settings, such as `-c max_connections=40`.
    pub fn start_with(settings: &str) -> Self {
        let mut server = Self::folder();
        settings.clone_into(&mut server.settings);
        server.init(&[]);
        server.resume();
        server
    }

    /// One whose data, but not its log of writes, are on a file system of so many megabytes.
    pub fn small(megabytes: u32) -> Self {
        let mut server = Self::folder();
        server.small = true;
        fs::create_dir(server.disk()).unwrap();
        let size = format!("size={megabytes}m");
        run(as_root("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(server.disk()));
        run(as_root("chmod").arg("1777").arg(server.disk()));
        let log = server.folder.join("wal");
        server.init(&["--waldir", log.to_str().unwrap()]);
        server.resume();
        server
    }

    /// A standby that follows this one by streaming, on a port of its own.
    pub fn standby(&self) -> Self {
        let mut standby = Self::folder();
        standby.settings.clone_from(&self.settings);
        run(standby.copy_of(self).arg("-R"));
        standby.resume();
        standby
    }

    fn folder() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stagekeeper-postgres-{}-{count}", process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { folder, port, settings: String::new(), small: false };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&server.folder));
        }
        server
    }

    fn init(&self, more: &[&str]) {
        run(self
            .program("initdb")
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8"])
            .args(more)
            .arg("-D")
            .arg(self.data()));
    }

    /// The program that copies another server's data into this one's folder.
    fn copy_of(&self, other: &Self) -> Command {
        let mut copy = self.program("pg_basebackup");
        let port = other.port.to_string();
        copy.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync", "-D"]);
        copy.arg(self.data());
        copy
    }

    /// Where it is, with its first database.
    pub fn url(&self) -> String {
        format!("postgres://postgres:hunter2@{}/postgres", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again.
    pub fn resume(&self) {
        let Self { folder, port, settings, .. } = self;
        let options =
            format!("-p {port} -k {} -c listen_addresses=127.0.0.1 -c fsync=off {settings}", folder.display());
        run(self
            .program("pg_ctl")
            .args(["start", "-w", "-s", "-o", &options, "-l"])
            .arg(self.folder.join("log"))
            .arg("-D")
            .arg(self.data()));
    }

    /// Ends it as `kill -9` would: nothing is answered, nothing is flushed.
    pub fn crash(&self) {
        self.stop("immediate");
    }

    /// Makes it a read-only standby, as a failover does to the old primary.
    pub fn demote(&self) {
        self.stop("fast");
        fs::write(self.data().join("standby.signal"), "").unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(self.data().join("standby.signal")));
        }
        self.resume();
    }

    /// Makes it the primary again, without a restart.
    pub fn promote(&self) {
        run(self.program("pg_ctl").args(["promote", "-w", "-s", "-D"]).arg(self.data()));
    }

    /// Copies its data as they are now.
    pub fn backup(&self) -> Backup {
        let copy = Self::folder();
        run(&mut copy.copy_of(self));
        Backup(copy)
    }

    /// Puts a backup in the place of the data of a server that is stopped.
    pub fn restore(&self, backup: &Backup) {
        run(as_root("rm").arg("-rf").arg(self.data()));
        run(as_root("cp").arg("-a").arg(backup.0.data()).arg(self.data()));
    }

    /// Sends a signal to it and to all processes that it has made. One of those may end by itself meanwhile, as when a
    /// server that goes on finds its clients gone.
    pub fn signal(&self, name: &str) {
        let lock = self.data().join("postmaster.pid");
        let all = "first=$(head -n 1 \"$1\"); kill -s \"$0\" \"$first\" \
            && ps --ppid \"$first\" -o pid= | { xargs -r kill -s \"$0\" 2>&1 | grep -v 'No such process'; true; }";
        run(as_root("sh").args(["-c", all, name]).arg(lock));
    }

    /// Fills the file system of a small one to the last byte, or makes room again.
    pub fn fill(&self, full: bool) {
        let ballast = self.disk().join("ballast");
        if full {
            let filled =
                as_root("dd").arg("if=/dev/zero").arg(format!("of={}", ballast.display())).arg("bs=64k").output();
            assert!(!filled.unwrap().status.success(), "it was not filled");
        } else {
            run(as_root("rm").arg(ballast));
        }
    }

    fn stop(&self, mode: &str) {
        run(self.program("pg_ctl").args(["stop", "-w", "-s", "-m", mode, "-D"]).arg(self.data()));
    }

    fn data(&self) -> PathBuf {
        if self.small { self.disk().join("data") } else { self.folder.join("data") }
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// A program of the server; Postgres refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let path = programs().join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(&self.folder);
        command
    }
}

/// What a server's data were like. Removed with this value.
pub struct Backup(Server);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl").args(["stop", "-w", "-s", "-m", "immediate", "-D"]).arg(self.data()).output();
        if self.small {
            let _ = as_root("umount").arg(self.disk()).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.starts_with(b"0\n")
}

fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Where Debian puts them.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("Postgres is not installed: hack/deps installs it")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().expect("Postgres is not installed: hack/deps installs it")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let log = Path::new("log");
    let log = fs::read_to_string(command.get_current_dir().unwrap_or(log).join("log"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        log.unwrap_or_default()
    );
}
