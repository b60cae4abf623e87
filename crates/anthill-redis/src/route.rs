//! Where a queue is: the node that has its slot, as far as this process knows.
//!
//! - RO1. A reply `MOVED` names the node, and everybody asks that one from then on. `ASK` names one that is asked once.
//! - RO2. When a node cannot be reached, or is a replica now, the next of the address' nodes is asked. Where that is one name, the
//!   name is looked up again: whoever promotes a replica turns the name to it.

use crate::node::Node;
use crate::sync::lock;
use std::sync::Mutex;

pub(crate) struct Route {
    /// Those of the address.
    nodes: Vec<Node>,
    state: Mutex<State>,
}

struct State {
    node: Node,
    /// Which of the nodes was asked last.
    at: usize,
}

impl Route {
    pub(crate) fn new(nodes: &[Node]) -> Route {
        let state = State {
            node: nodes[0].clone(),
            at: 0,
        };
        Route {
            nodes: nodes.to_vec(),
            state: Mutex::new(state),
        }
    }

    /// How many nodes the address has.
    pub(crate) fn number(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self) -> Node {
        lock(&self.state).node.clone()
    }

    /// The queue is at another node. Returns false if the reply names none.
    pub(crate) fn moved(&self, from: &Node, name: &str) -> bool {
        let Some(node) = from.named(name) else {
            return false;
        };
        lock(&self.state).node = node;
        true
    }

    /// A node did not do what it was asked: asks the next one, unless somebody has done so already.
    pub(crate) fn failed(&self, node: &Node) {
        let mut state = lock(&self.state);
        if state.node == *node {
            state.at = (state.at + 1) % self.nodes.len();
            state.node = self.nodes[state.at].clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_follows_replies_and_goes_on_to_the_next_node() {
        let node = |port| {
            let host = "a".to_owned();
            Node::Tcp { host, port }
        };
        let route = Route::new(&[node(1), node(2)]);
        assert_eq!(route.node(), node(1));
        route.failed(&node(1));
        // Somebody was slower.
        route.failed(&node(1));
        assert_eq!(route.node(), node(2));
        assert!(route.moved(&node(2), ":3") && !route.moved(&node(2), "nowhere"));
        assert_eq!(route.node(), node(3));
        route.failed(&node(3));
        assert_eq!(route.node(), node(1));
    }
}
