//! A state machine that remembers every command, in memory, and loses what it has not flushed.

use cdr_raft::{Machine, MachineCommand, MachineError, Reply};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    pub commands: Vec<Vec<u8>>,
    pub digest: [u8; 32],
    pub meta: Option<Vec<u8>>,
}

#[derive(Default)]
pub struct TestMachine {
    state: Mutex<State>,
    flushed: Mutex<State>,
    pub broken: AtomicBool,
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
    }

    fn check(&self) -> Result<(), MachineError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(MachineError::new("broken on purpose"));
        }
        Ok(())
    }
}

impl Machine for TestMachine {
    fn raft_meta(&self) -> Result<Option<Vec<u8>>, MachineError> {
        self.check()?;
        Ok(self.state.lock().unwrap().meta.clone())
    }

    fn apply(
        &self,
        entries: Vec<Option<MachineCommand>>,
        raft_meta: Vec<u8>,
    ) -> Result<Vec<Reply>, MachineError> {
        self.check()?;
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
            replies.push(Reply::Appended { bucket_hour: 0, first_sequence });
        }
        state.meta = Some(raft_meta);
        Ok(replies)
    }

    fn flush(&self) -> Result<Option<Vec<u8>>, MachineError> {
        self.check()?;
        let state = self.state();
        let meta = state.meta.clone();
        *self.flushed.lock().unwrap() = state;
        Ok(meta)
    }

    fn checkpoint(&self, into: &Path) -> Result<Vec<u8>, MachineError> {
        self.check()?;
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
        Ok(meta)
    }

    fn install(&self, from: &Path) -> Result<(), MachineError> {
        self.check()?;
        let read = |name: &str| std::fs::read(from.join(name)).map_err(MachineError::new);
        let mut state = State { meta: Some(read("meta")?), ..State::default() };
        state.digest = read("digest")?.try_into().map_err(|_| MachineError::new("digest"))?;
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
        *self.flushed.lock().unwrap() = state.clone();
        *self.state.lock().unwrap() = state;
        Ok(())
    }
}
