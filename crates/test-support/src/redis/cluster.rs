//! A cluster of private servers, and slots that move between them.
//!
//! - CL1: all nodes have one password, and each is a [`Server`] of its own, to be killed, paused and started again. A node
//!   that is emptied is none of the cluster any more.
//! - CL2: a slot moves as an operator moves it: both nodes are told, then its keys go over, then all nodes are told who has
//!   it. The test is called after each step, and whatever it does there, no step is left out.

use super::{Options, Persistence, Server, Value};
use crate::eventually;
use crate::missing::Missing;

/// How many slots each cluster has.
pub const SLOTS: u16 = 16_384;

/// What a slot's keys may take to go over, in milliseconds.
const LIMIT: &str = "20000";

/// What has just been done while a slot moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The node that is to have the slot takes its keys, from those who ask with `ASKING`.
    Importing,
    /// The node that has it sends those who ask for a key that it does not have to the other.
    Migrating,
    /// So many keys have gone over.
    Moved(usize),
    /// The node with this number has learned that the slot has gone over: first the new owner, then the old, then all others.
    Told(usize),
}

/// A cluster of primaries that share all slots evenly. Dropping it ends them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    /// By which they know each other.
    ids: Vec<String>,
}

impl Cluster {
    /// Starts nodes that write nothing to the disk but what they know of each other, and waits until each knows of all.
    ///
    /// # Errors
    ///
    /// [`Missing`] if Redis is not installed.
    pub fn start(nodes: usize) -> Result<Self, Missing> {
        Self::start_with(nodes, &Options::new(Persistence::Off))
    }

    /// Starts nodes with these options.
    ///
    /// # Errors
    ///
    /// [`Missing`] if Redis is not installed, or TLS is asked for and it was built without.
    ///
    /// # Panics
    ///
    /// If there are fewer than three, which Redis does not take for a cluster.
    pub fn start_with(nodes: usize, options: &Options) -> Result<Self, Missing> {
        assert!(nodes >= 3, "a cluster has three nodes or more");
        let nodes: Vec<_> = (0..nodes)
            .map(|_| options.clone().cluster().start())
            .collect::<Result<_, _>>()?;
        let mut ids = Vec::new();
        let share = usize::from(SLOTS).div_ceil(nodes.len());
        for (number, node) in nodes.iter().enumerate() {
            let mut raw = node.raw();
            ids.push(raw.run(&["CLUSTER", "MYID"]).text());
            // Otherwise all claim their slots with the same authority, and have to find out who is right.
            let epoch = (number + 1).to_string();
            raw.run(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let first = number * share;
            let last = (first + share).min(SLOTS.into()) - 1;
            let (first, last) = (first.to_string(), last.to_string());
            raw.run(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        for (number, node) in nodes.iter().enumerate() {
            let mut raw = node.raw();
            for other in &nodes[..number] {
                let bus = other.ports.bus.as_ref().expect("it is of a cluster");
                let (port, bus) = (other.port().to_string(), bus.number().to_string());
                raw.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let cluster = Self { nodes, ids };
        cluster.wait_until_ok();
        Ok(cluster)
    }

    /// The nodes. Their order is their number everywhere here.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The address of each node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.url()).collect()
    }

    /// Waits until each node says that the cluster is whole: after a node was killed and started again.
    ///
    /// # Panics
    ///
    /// If a node does not run, or says something else for too long.
    pub fn wait_until_ok(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut raw = node.raw();
            let nodes = self.nodes.len().to_string();
            let expected = [
                ("cluster_state", "ok"),
                ("cluster_slots_ok", "16384"),
                ("cluster_known_nodes", &nodes),
                ("cluster_size", &nodes),
            ];
            eventually(format_args!("node {number} knows of all"), || {
                let told = raw.run(&["CLUSTER", "INFO"]).text();
                let has = |name: &str, value: &str| {
                    let line = format!("{name}:{value}");
                    told.lines().any(|told| told == line)
                };
                expected.iter().all(|(name, value)| has(name, value))
            });
        }
    }

    /// The number of the node that has a slot, as the first node that runs has it.
    ///
    /// # Panics
    ///
    /// If no node has it.
    #[track_caller]
    pub fn owner(&self, slot: u16) -> usize {
        let asked = self.nodes.iter().position(Server::is_running);
        let owner = self.owner_as_told_by(asked.expect("a node runs"), slot);
        owner.unwrap_or_else(|| panic!("no node has slot {slot}"))
    }

    /// The number of the node that has a slot, as a node has it; none if it knows of none.
    ///
    /// # Panics
    ///
    /// If the node that is asked does not answer.
    pub fn owner_as_told_by(&self, node: usize, slot: u16) -> Option<usize> {
        let ranges = self.nodes[node].raw().run(&["CLUSTER", "SLOTS"]).array();
        ranges.into_iter().find_map(|range| {
            let range = range.array();
            let slots = range[0].integer()..=range[1].integer();
            if !slots.contains(&slot.into()) {
                return None;
            }
            let id = range[2].clone().array()[2].text();
            self.ids.iter().position(|known| *known == id)
        })
    }

    /// Moves a slot and its keys from one node to another.
    ///
    /// # Panics
    ///
    /// As [`move_slot_in_steps`](Self::move_slot_in_steps).
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.move_slot_in_steps(slot, from, to, 100, |_| ());
    }

    /// Moves a slot and its keys from one node to another, so many keys at once, and says after each step which it was.
    /// Others may use the cluster meanwhile.
    ///
    /// # Panics
    ///
    /// If the nodes are the same, `from` has not got the slot, or a node refuses or does not answer.
    pub fn move_slot_in_steps(
        &self,
        slot: u16,
        from: usize,
        to: usize,
        batch: usize,
        mut after: impl FnMut(Step),
    ) {
        assert!(from != to && batch > 0, "from {from} to {to}");
        assert_eq!(self.owner_as_told_by(from, slot), Some(from), "slot {slot}");
        let text = slot.to_string();
        let set = |node: usize, how: &str, id: &str| {
            let mut raw = self.nodes[node].raw();
            raw.run(&["CLUSTER", "SETSLOT", &text, how, id]);
        };
        set(to, "IMPORTING", &self.ids[from]);
        after(Step::Importing);
        set(from, "MIGRATING", &self.ids[to]);
        after(Step::Migrating);
        // From here on the old node makes no more keys of the slot.
        while let Some(moved) = self.move_keys(slot, from, to, batch) {
            after(Step::Moved(moved));
        }
        let others = (0..self.nodes.len()).filter(|node| ![from, to].contains(node));
        for node in [to, from].into_iter().chain(others) {
            set(node, "NODE", &self.ids[to]);
            after(Step::Told(node));
        }
        eventually(format_args!("all nodes know who has slot {slot}"), || {
            (0..self.nodes.len()).all(|node| self.owner_as_told_by(node, slot) == Some(to))
        });
    }

    /// Moves some keys of a slot; none if there are none left.
    fn move_keys(&self, slot: u16, from: usize, to: usize, batch: usize) -> Option<usize> {
        let mut raw = self.nodes[from].raw();
        let (slot, batch) = (slot.to_string(), batch.to_string());
        let keys = raw.run(&["CLUSTER", "GETKEYSINSLOT", &slot, &batch]);
        let keys: Vec<Vec<u8>> = keys
            .array()
            .into_iter()
            .map(|key| match key {
                Value::Bulk(key) => key,
                other => panic!("no key: {other:?}"),
            })
            .collect();
        if keys.is_empty() {
            return None;
        }
        let target = &self.nodes[to];
        let port = target.port().to_string();
        let mut request: Vec<&[u8]> = vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0"];
        request.push(LIMIT.as_bytes());
        if let Some(password) = target.password() {
            request.extend([&b"AUTH"[..], password.as_bytes()]);
        }
        request.push(b"KEYS");
        request.extend(keys.iter().map(Vec::as_slice));
        // NOKEY: all of them were removed in the meantime.
        match raw.call(&request) {
            Ok(Value::Status(told)) if told == "OK" || told == "NOKEY" => Some(keys.len()),
            told => panic!("keys of slot {slot} do not move: {told:?}"),
        }
    }
}

/// The slot of a key: of what stands between its first `{` and the `}` after it, if something does, or else of all of it.
pub fn slot_of(key: impl AsRef<[u8]>) -> u16 {
    let key = key.as_ref();
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then_some(&rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// The checksum of XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum: u16, _| {
            let carry = if sum & 0x8000 == 0 { 0 } else { 0x1021 };
            (sum << 1) ^ carry
        })
    })
}
