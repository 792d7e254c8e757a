//! The production tables of controllers, with an ear at every decision.

use std::sync::{Arc, OnceLock};

use api::{Actions, Key, Next, Registered, View};
use client::{Client, Driver, Informers};
use stdx::time::Eras;

use crate::controllers::originals;
use crate::door::Door;
use crate::lock;
use crate::plant::Plant;
use crate::world::{self, Control, World};

type Reconcile = fn(&View<'_>, &Key, &mut Actions) -> Next;

/// Controllers that a table may hold; function pointers need an array of known length.
const CONTROLLERS_MAX: usize = 48;

/// Starts the controllers and the scheduler of a world, which has none at the moment.
pub(crate) fn start(world: &Arc<World>) {
    let door = |name: &'static str| Client::new(Arc::new(Door::new(world, name)));
    let informers = Informers::new(door("informers"));
    let scheduler = Driver::start(scheduler(), &informers, door);
    let driver = Driver::start(controllers(), &informers, door);
    world.controlled_by(Control { driver, scheduler, _informers: informers });
}

/// `control::CONTROLLERS`, listened to.
fn controllers() -> &'static [Registered] {
    &table()[..control::CONTROLLERS.len()]
}

/// `sched::SCHEDULER`, listened to.
fn scheduler() -> &'static [Registered] {
    &table()[control::CONTROLLERS.len()..]
}

fn table() -> &'static [Registered] {
    static TABLE: OnceLock<Vec<Registered>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let listened = originals().zip(&WRAPPERS);
        listened
            .map(|(original, wrapper)| Registered { reconcile: *wrapper, ..*original })
            .collect()
    })
}

static WRAPPERS: [Reconcile; CONTROLLERS_MAX] = wrappers();

const fn wrappers() -> [Reconcile; CONTROLLERS_MAX] {
    macro_rules! of {
        ($($n:literal)*) => { [$(wrapped::<$n> as Reconcile),*] };
    }
    of!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47)
}

/// The `N`-th controller, then the planted bug, then the checkers.
fn wrapped<const N: usize>(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
    // The table has as many entries as there are controllers.
    let Some(original) = originals().nth(N) else { return Next::Done };
    let Some(world) = world::current() else { return (original.reconcile)(view, key, actions) };
    let mut now = view.now;
    if world.plant == Some(Plant::Forgetful) {
        now.eras = Eras::default();
    }
    let next = (original.reconcile)(&View { now, ..*view }, key, actions);
    if let Some(plant) = world.plant {
        plant.spoil(original.name, view, key, actions);
    }
    let verdict = lock(&world.checks).decided(original.name, view, key, actions);
    if let Err(why) = verdict {
        world.fail(&why);
    }
    next
}
