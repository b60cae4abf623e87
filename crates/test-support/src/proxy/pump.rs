//! The threads of a proxy: one that accepts, and for each connection one for each direction.
//!
//! No socket is read or written under the lock. What becomes of bytes is planned and counted, and their writer with them, in
//! one hold of it, after a stall: so a stall that has seen no writer is seen by all writers that follow, and nobody sees an
//! effect of bytes that are not counted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::connection::{Connection, Plan, Then};
use super::{Door, Shared, State};

impl Shared {
    /// Accepts connections as the test wants it.
    pub(super) fn accept(self: &Arc<Self>, mut listener: TcpListener) {
        loop {
            while let Some(client) = self.next_client(&listener) {
                let mut state = self.state();
                if state.wanted != Door::Open {
                    break;
                }
                let number = state.take_number();
                let Ok(handle) = client.try_clone() else {
                    continue;
                };
                let connection = Connection::new(handle, self.protocol);
                state.connections.insert(number, connection);
                state.counts.connections += 1;
                state.counts.open += 1;
                drop(state);
                self.changed.notify_all();
                let shared = Arc::clone(self);
                self.start_thread(number, move || shared.connect(number, &client));
            }
            // From here on the system refuses.
            drop(listener);
            let mut state = self.state();
            state.door = if state.wanted == Door::Gone {
                Door::Gone
            } else {
                Door::Shut
            };
            self.changed.notify_all();
            let state = self
                .changed
                .wait_while(state, |state| state.wanted == Door::Shut)
                .unwrap_or_else(PoisonError::into_inner);
            let wanted = state.wanted;
            drop(state);
            if wanted == Door::Gone {
                self.state().door = Door::Gone;
                self.changed.notify_all();
                return;
            }
            listener = loop {
                match TcpListener::bind(self.address) {
                    Ok(listener) => break listener,
                    // The test that waits for the door tells of it.
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            };
            self.state().door = Door::Open;
            self.changed.notify_all();
        }
    }

    /// The next client; none if nobody is to be let in.
    fn next_client(&self, listener: &TcpListener) -> Option<TcpStream> {
        loop {
            if let Ok((client, _)) = listener.accept() {
                return Some(client);
            }
            // A client that was gone already, or no descriptor.
            if self.state().wanted != Door::Open {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn start_thread(self: &Arc<Self>, number: u64, body: impl FnOnce() + Send + 'static) {
        let shared = Arc::clone(self);
        let started = thread::Builder::new()
            .name("test proxy".to_owned())
            .spawn(move || {
                body();
                shared.end_thread(number);
            });
        if started.is_err() {
            self.change(number, Connection::cut);
            self.end_thread(number);
        }
    }

    fn end_thread(&self, number: u64) {
        let mut state = self.state();
        if let Some(connection) = state.connections.get_mut(&number) {
            connection.threads -= 1;
            if connection.threads == 0 {
                if let Some(missed) = connection.take_withheld() {
                    missed.miss();
                }
                state.connections.remove(&number);
                state.counts.open -= 1;
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn change<T>(&self, number: u64, how: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let mut state = self.state();
        state.connections.get_mut(&number).map(how)
    }

    /// Connects a client to the server, and passes on what the client sends.
    fn connect(self: &Arc<Self>, number: u64, client: &TcpStream) {
        if !self.wait_for_passage(number) {
            return;
        }
        let handles = TcpStream::connect(self.target).and_then(|server| {
            server.set_nodelay(true)?;
            client.set_nodelay(true)?;
            Ok((server.try_clone()?, client.try_clone()?, server))
        });
        let Ok((kept, back, server)) = handles else {
            self.change(number, Connection::cut);
            return;
        };
        let goes_on = self.change(number, |connection| {
            connection.server = Some(kept);
            if connection.is_cut {
                // While there was no server to cut it from.
                connection.cut();
            } else {
                connection.threads += 1;
            }
            !connection.is_cut
        });
        if goes_on != Some(true) {
            return;
        }
        if let Ok(from) = server.try_clone() {
            let shared = Arc::clone(self);
            self.start_thread(number, move || shared.pump_replies(number, &from, &back));
            self.pump_requests(number, client, &server);
        } else {
            self.change(number, Connection::cut);
            self.end_thread(number);
        }
    }

    fn pump_requests(&self, number: u64, client: &TcpStream, server: &TcpStream) {
        self.pump(number, client, server, |state, bytes| {
            let connection = state.connections.get_mut(&number)?;
            let plan = connection.plan_request(bytes, &mut state.armed);
            state.counts.requests += plan.ends;
            state.counts.to_server += plan.pass as u64;
            Some(plan)
        });
    }

    fn pump_replies(&self, number: u64, server: &TcpStream, client: &TcpStream) {
        self.pump(number, server, client, |state, bytes| {
            let plan = state.connections.get_mut(&number)?.plan_reply(bytes);
            state.counts.replies += plan.ends;
            state.counts.to_client += plan.pass as u64;
            Some(plan)
        });
    }

    /// Passes bytes from one side to the other until one of them ends.
    fn pump(
        &self,
        number: u64,
        mut from: &TcpStream,
        mut to: &TcpStream,
        plan: impl Fn(&mut State, &[u8]) -> Option<Plan>,
    ) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                // The other direction goes on.
                if self.wait_for_passage(number) {
                    let _ = to.shutdown(Shutdown::Write);
                }
                return;
            }
            let Some(planned) = self.begin(number, |state| plan(state, &buffer[..read])) else {
                return;
            };
            let written = to.write_all(&buffer[..planned.pass]);
            let mut state = self.state();
            state.writing -= 1;
            let connection = state.connections.get_mut(&number);
            let connection = connection.expect("it has this thread");
            let goes_on = match &planned.then {
                Then::GoOn => written.is_ok(),
                Then::Hold | Then::Cut(_) => false,
            };
            if written.is_err() || matches!(planned.then, Then::Cut(_)) {
                connection.cut();
            }
            drop(state);
            self.changed.notify_all();
            if let Then::Cut(cut) = planned.then {
                cut.strike();
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for the end of a stall, then plans, and counts a writer; none if the connection is cut.
    fn begin(&self, number: u64, plan: impl FnOnce(&mut State) -> Option<Plan>) -> Option<Plan> {
        let mut state = self.passage(number)?;
        let plan = plan(&mut state)?;
        state.writing += 1;
        Some(plan)
    }

    /// Waits for the end of a stall; says whether the connection still stands.
    fn wait_for_passage(&self, number: u64) -> bool {
        self.passage(number).is_some()
    }

    fn passage(&self, number: u64) -> Option<MutexGuard<'_, State>> {
        let is_cut = |state: &State| {
            let connection = state.connections.get(&number);
            connection.is_none_or(|connection| connection.is_cut)
        };
        let state = self
            .changed
            .wait_while(self.state(), |state| state.stalled && !is_cut(state))
            .unwrap_or_else(PoisonError::into_inner);
        (!is_cut(&state)).then_some(state)
    }
}
