//! Runs the binary in an environment that holds nothing but what a test gives it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

/// How long a process may take for something that it does at once on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Standard output of a command that worked and had nothing to say beside it.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let out = self.well();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Standard error of a command that ended with this code.
    #[track_caller]
    pub(crate) fn badly(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("error: "), "{self:?}");
        self.err
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// The binary with arguments and without an environment.
pub(crate) fn stagekeeper(arguments: &[&str]) -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_stagekeeper")), arguments)
}

/// The same under another name.
pub(crate) fn program(path: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    command.output().expect("the binary runs").into()
}

/// Runs the binary with arguments to its end, with this database.
pub(crate) fn on(database: &str, arguments: &[&str]) -> Ended {
    run(stagekeeper(arguments).env("DATABASE_URL", database))
}

/// A process whose lines are read while it runs. It is ended with this value.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        Self {
            out: lines_of(child.stdout.take().expect("a pipe")),
            err: lines_of(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    /// The next line of standard output.
    #[track_caller]
    pub(crate) fn out(&self) -> String {
        self.out.recv_timeout(PATIENCE).expect("a line of standard output in time")
    }

    /// The next line of standard error.
    #[track_caller]
    pub(crate) fn err(&self) -> String {
        self.err.recv_timeout(PATIENCE).expect("a line of standard error in time")
    }

    /// Asks the process to stop.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end; gives back the code and what was said that nobody has read.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        // Both pipes are closed by the end of the process, which is therefore near when they are.
        let [out, err] = [&self.out, &self.err].map(|lines| {
            let mut text = String::new();
            loop {
                match lines.recv_timeout(PATIENCE) {
                    Ok(line) => text.extend([line.as_str(), "\n"]),
                    Err(RecvTimeoutError::Disconnected) => return text,
                    Err(RecvTimeoutError::Timeout) => panic!("it does not end; it said {text}"),
                }
            }
        });
        let code = self.child.wait().expect("a child").code();
        Ended { code: code.expect("it was not killed"), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already when the test went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines_of(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A folder of a test's own, removed with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stagekeeper-cli-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder can be removed");
    }
}
