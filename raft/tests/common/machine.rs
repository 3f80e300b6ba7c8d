//! A state machine that remembers every command, in memory, and loses what it has not flushed.

use cdr_core::command::Acknowledged;
use cdr_core::history::{Comparison, Mark, Marks};
use cdr_core::rules::{Build, Needs, Rules};
use cdr_raft::{Machine, MachineCommand, MachineError, Reply};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    pub commands: Vec<Vec<u8>>,
    pub digest: [u8; 32],
    pub meta: Option<Vec<u8>>,
    /// Index of the last command; the digest is the history after it.
    pub last: u64,
}

impl State {
    fn mark(&self) -> Mark {
        Mark { index: self.last, history: self.digest }
    }
}

#[derive(Default)]
pub struct TestMachine {
    state: Mutex<State>,
    flushed: Mutex<State>,
    identity: Mutex<Option<Vec<u8>>>,
    marks: Mutex<Marks>,
    /// What the cluster knows to be on the nodes' disks.
    pub acknowledged: Mutex<BTreeMap<u64, u64>>,
    pub broken: AtomicBool,
    /// As which build it behaves, and the rules in force.
    pub versions: Mutex<(Build, Rules)>,
}

impl TestMachine {
    pub fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.state.lock().unwrap().commands.len()
    }

    /// As after a power failure: what was not flushed is gone.
    pub fn crash(&self) {
        *self.state.lock().unwrap() = self.flushed.lock().unwrap().clone();
        self.begin_marks();
    }

    /// As if the state's directory had been brought back from an older copy.
    pub fn restore(&self, state: State) {
        *self.state.lock().unwrap() = state.clone();
        *self.flushed.lock().unwrap() = state;
        self.begin_marks();
    }

    /// As if the state's directory had been removed.
    pub fn remove(&self) {
        self.restore(State::default());
        *self.identity.lock().unwrap() = None;
        self.acknowledged.lock().unwrap().clear();
    }

    /// As if another command had been applied last.
    pub fn corrupt(&self) {
        self.state.lock().unwrap().digest[0] ^= 1;
        self.begin_marks();
    }

    fn begin_marks(&self) {
        *self.marks.lock().unwrap() = Marks::begin(self.state.lock().unwrap().mark());
    }

    fn usable(&self) -> Result<(), MachineError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(MachineError::new("broken on purpose"));
        }
        Ok(())
    }
}

impl Machine for TestMachine {
    fn build(&self) -> Build {
        self.versions.lock().unwrap().0
    }

    fn needs(&self) -> Needs {
        let rules = self.versions.lock().unwrap().1;
        Needs::of(rules, rules.formats().disk)
    }

    fn raft_meta(&self) -> Result<Option<Vec<u8>>, MachineError> {
        self.usable()?;
        Ok(self.state.lock().unwrap().meta.clone())
    }

    fn apply(
        &self,
        entries: Vec<Option<MachineCommand>>,
        raft_meta: Vec<u8>,
    ) -> Result<Vec<Reply>, MachineError> {
        self.usable()?;
        let mut state = self.state.lock().unwrap();
        let mut replies = Vec::new();
        for entry in entries {
            let Some(command) = entry else {
                replies.push(Reply::None);
                continue;
            };
            state.digest =
                Sha256::new().chain_update(state.digest).chain_update(&command.bytes).finalize().into();
            let first_sequence = state.commands.len() as u64;
            state.commands.push(command.bytes.to_vec());
            state.last = command.index;
            self.marks.lock().unwrap().push(state.mark());
            replies.push(Reply::Appended { bucket_hour: 0, first_sequence });
        }
        state.meta = Some(raft_meta);
        Ok(replies)
    }

    fn flush(&self) -> Result<Option<Vec<u8>>, MachineError> {
        self.usable()?;
        let state = self.state();
        let meta = state.meta.clone();
        *self.flushed.lock().unwrap() = state;
        Ok(meta)
    }

    fn checkpoint(&self, into: &Path) -> Result<Vec<u8>, MachineError> {
        self.usable()?;
        self.flush()?;
        let state = self.state();
        let meta = state.meta.unwrap_or_default();
        std::fs::create_dir_all(into.join("commands")).map_err(MachineError::new)?;
        for (number, chunk) in state.commands.chunks(100).enumerate() {
            let mut bytes = Vec::new();
            for command in chunk {
                bytes.extend_from_slice(&(command.len() as u32).to_le_bytes());
                bytes.extend_from_slice(command);
            }
            std::fs::write(into.join(format!("commands/{number:06}")), bytes).map_err(MachineError::new)?;
        }
        std::fs::write(into.join("meta"), &meta).map_err(MachineError::new)?;
        std::fs::write(into.join("digest"), state.digest).map_err(MachineError::new)?;
        std::fs::write(into.join("last"), state.last.to_be_bytes()).map_err(MachineError::new)?;
        Ok(meta)
    }

    fn check(&self, _: &Path, files: &[PathBuf]) -> Result<(), MachineError> {
        self.usable()?;
        files.iter().try_for_each(|file| std::fs::metadata(file).map(drop)).map_err(MachineError::new)
    }

    fn install(&self, from: &Path) -> Result<(), MachineError> {
        self.usable()?;
        let read = |name: &str| std::fs::read(from.join(name)).map_err(MachineError::new);
        let mut state = State { meta: Some(read("meta")?), ..State::default() };
        state.digest = read("digest")?.try_into().map_err(|_| MachineError::new("digest"))?;
        state.last = u64::from_be_bytes(read("last")?.try_into().map_err(|_| MachineError::new("last"))?);
        let mut names: Vec<_> = std::fs::read_dir(from.join("commands"))
            .map_err(MachineError::new)?
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for name in names {
            let bytes = std::fs::read(name).map_err(MachineError::new)?;
            let mut rest = bytes.as_slice();
            while let Some((len, tail)) = rest.split_first_chunk::<4>() {
                let (command, tail) = tail.split_at(u32::from_le_bytes(*len) as usize);
                state.commands.push(command.to_vec());
                rest = tail;
            }
        }
        self.restore(state);
        Ok(())
    }

    fn identity(&self) -> Result<Option<Vec<u8>>, MachineError> {
        Ok(self.identity.lock().unwrap().clone())
    }

    fn keep_identity(&self, identity: &[u8]) -> Result<(), MachineError> {
        *self.identity.lock().unwrap() = Some(identity.to_vec());
        Ok(())
    }

    fn mark(&self) -> Mark {
        self.state.lock().unwrap().mark()
    }

    fn compare(&self, theirs: &Mark) -> Comparison {
        self.marks.lock().unwrap().compare(theirs)
    }

    fn acknowledged(&self) -> Vec<Acknowledged> {
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.iter().map(|(node, index)| Acknowledged { node: *node, index: *index }).collect()
    }
}
