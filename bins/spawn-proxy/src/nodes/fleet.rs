//! The tasks of each active node: one that delivers, one that checks.

use std::collections::HashMap;
use std::sync::Arc;

use common::node::NodeId;
use tokio::sync::{mpsc, watch};

use super::health;
use super::live::Live;
use super::table::{Entry, Table};
use crate::delivery::deliverer::{Deliverer, Errand, Order};
use crate::proxy::worker::Spawner;

/// Who runs for which node.
pub(super) struct Fleet {
    spawner: Spawner,
    tasks: HashMap<NodeId, Tasks>,
    /// Deliverers that were told to stop and may still have something under way.
    ending: HashMap<NodeId, watch::Sender<Order>>,
    next_thread: usize,
}

/// Errands that wait for one deliverer.
const ERRANDS: usize = 16;

struct Tasks {
    order: watch::Sender<Order>,
    errands: mpsc::Sender<Errand>,
    stop_checks: watch::Sender<bool>,
    live: Arc<Live>,
}

impl Fleet {
    pub(super) fn new(spawner: Spawner) -> Self {
        Self { spawner, tasks: HashMap::new(), ending: HashMap::new(), next_thread: 0 }
    }

    /// Starts, stops and instructs tasks so that each active node has its own. A node that was
    /// renamed, or comes back, waits for the end of what is still under way to it.
    pub(super) fn follow(&mut self, table: &Table, renamed: &[(NodeId, NodeId)]) {
        self.ending.retain(|_, order| !order.is_closed());
        let stays = |id: &NodeId| table.get(id).is_some_and(|entry| entry.node.active);
        for (id, tasks) in self.tasks.extract_if(|id, _| !stays(id)) {
            tasks.end();
            self.ending.insert(id, tasks.order);
        }
        for entry in table.entries().iter().filter(|entry| entry.node.active) {
            let order = order_for(entry);
            match self.tasks.get(&entry.node.id) {
                Some(tasks) => {
                    tasks.order.send_if_modified(|now| std::mem::replace(now, order) != order);
                }
                None => {
                    let id = &entry.node.id;
                    let old = renamed.iter().find(|(_, new)| new == id).map_or(id, |(old, _)| old);
                    let predecessor = self.ending.remove(old);
                    self.start(entry, predecessor);
                }
            }
        }
    }

    fn start(&mut self, entry: &Entry, predecessor: Option<watch::Sender<Order>>) {
        // Spread evenly: a node's deliveries all run on one thread, in one order.
        let thread = self.next_thread;
        self.next_thread += 1;
        let (stop_checks, stopped) = watch::channel(false);
        let live = entry.live.clone();
        self.spawner.run_on(thread, move |worker| {
            drop(tokio::task::spawn_local(health::watch(worker, live, stopped)))
        });
        let (order, orders) = watch::channel(order_for(entry));
        let (errands, errands_in) = mpsc::channel(ERRANDS);
        let live = entry.live.clone();
        self.spawner.run_on(thread, move |worker| {
            tokio::task::spawn_local(async move {
                if let Some(predecessor) = predecessor {
                    predecessor.closed().await;
                }
                Deliverer::new(worker, live, orders, errands_in).run().await;
            });
        });
        let live = entry.live.clone();
        self.tasks.insert(entry.node.id.clone(), Tasks { order, errands, stop_checks, live });
    }

    /// Where a node's deliverer takes errands; `None` when it has none.
    pub(super) fn errands(&self, id: &NodeId) -> Option<mpsc::Sender<Errand>> {
        self.tasks.get(id).map(|tasks| tasks.errands.clone())
    }

    /// Has a deliverer read its queue anew, once what is under way is finished.
    pub(super) fn refresh(&self, id: &NodeId) {
        if let Some(tasks) = self.tasks.get(id) {
            tasks.live.refresh();
            tasks.order.send_modify(|_| {});
        }
    }

    /// Stops all and waits until what was under way is finished.
    pub(super) async fn stop(&mut self) {
        self.tasks.values().for_each(Tasks::end);
        let last = self
            .tasks
            .drain()
            .map(|(_, tasks)| tasks.order)
            .chain(self.ending.drain().map(|(_, order)| order));
        for order in last.collect::<Vec<_>>() {
            order.closed().await;
        }
    }
}

impl Tasks {
    fn end(&self) {
        self.order.send_replace(Order::Stop);
        self.stop_checks.send_replace(true);
    }
}

fn order_for(entry: &Entry) -> Order {
    if entry.node.maintenance { Order::Rest } else { Order::Run }
}
