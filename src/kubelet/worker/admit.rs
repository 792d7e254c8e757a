//! Finding a pod its place on this node, or the reason why there is none.

use std::sync::PoisonError;

use super::Worker;
use crate::make::security;
use crate::{capacity, devices, node};
use podplan::{Admission, Told, admit, terminating};

impl Worker {
    /// Finds the pod its place on this node, the first time it is seen; again while it waits for one.
    pub(super) async fn admit(&mut self) {
        if self.state.settled || terminating(&self.pod, &self.state) {
            self.admitted = true;
            self.state.held = false;
            return;
        }
        self.state.start_time.get_or_insert(rt::now().wall);
        let mut admission = self.find_place();
        if let Admission::Refused(told) = &admission
            && ["NodeAffinity", "TaintToleration"].contains(&&*told.reason)
        {
            // The view of the node may be behind what the scheduler saw.
            node::look_up(&self.shared).await;
            admission = self.find_place();
        }
        if admission == Admission::Taken {
            let (uid, tree) = (self.slot.uid.clone(), self.pod.object.tree());
            let shared = &self.shared;
            let is_live =
                |uid: &str| shared.slots.get(uid).is_some_and(|slot| !slot.snapshot().released);
            if let Err(why) = devices::allocate(&shared.devices, &uid, &tree, is_live).await {
                let message =
                    format!("Pod was rejected: Allocate failed due to {why}, which is unexpected");
                admission = Admission::Refused(Told::new("UnexpectedAdmissionError", message));
            }
        }
        if admission == Admission::Taken
            && let Some(cpus) = &self.shared.cpus
        {
            let (uid, tree) = (self.slot.uid.clone(), self.pod.object.tree());
            let slots = &self.shared.slots;
            let is_live = |uid: &str| crate::cpu_rounds::is_live(slots, uid);
            if let Err(told) = cpus.allocate(&is_live, &uid, &tree).await {
                admission = Admission::Refused(told);
            }
        }
        self.admitted = !matches!(admission, Admission::Waits(_));
        let held = std::mem::replace(&mut self.state.held, !self.admitted);
        if let Admission::Waits(told) = &admission
            && !held
        {
            let (namespace, name) = (&self.pod.namespace, &self.pod.name);
            log::info!("pod {namespace}/{name}: waits for others to go: {}", told.message);
        }
        if let Admission::Refused(told) = admission {
            let reason: &'static str = match &*told.reason {
                "NodeAffinity" => "NodeAffinity",
                "NodePorts" => "NodePorts",
                "PodOSNotSupported" => "PodOSNotSupported",
                "TaintToleration" => "TaintToleration",
                "SysctlForbidden" => "SysctlForbidden",
                "SMTAlignmentError" => "SMTAlignmentError",
                "OutOfcpu" => "OutOfcpu",
                "OutOfmemory" => "OutOfmemory",
                "OutOfpods" => "OutOfpods",
                _ => "UnexpectedAdmissionError",
            };
            self.shared.recorder.warning(&self.pod.object, reason, told.message.clone());
            self.state.failed = Some(told);
        }
    }

    /// One pod after the other, so that none is refused for another that is not in yet.
    fn find_place(&self) -> Admission {
        let tree = self.pod.object.tree();
        if let Some(why) = security::forbidden_sysctl(&tree, &self.shared.config.unsafe_sysctls) {
            return Admission::Refused(Told::new(
                "SysctlForbidden",
                format!("Pod was rejected: {why}"),
            ));
        }
        let one = self.shared.admission.lock().unwrap_or_else(PoisonError::into_inner);
        // Before others are looked at: who goes from now on wakes this pod.
        self.slot.lock().held = true;
        // What ran already stays: its place was found before.
        let admission = match self.state.containers.values().any(|c| c.attempt.is_some()) {
            true => Admission::Taken,
            false => admit(&tree, &capacity::node_view(&self.shared, &self.slot.uid)),
        };
        let mut inbox = self.slot.lock();
        inbox.admitted = admission == Admission::Taken;
        inbox.held = matches!(admission, Admission::Waits(_));
        drop((inbox, one));
        admission
    }
}
