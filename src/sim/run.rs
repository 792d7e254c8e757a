//! One seed: a time of faults, then peace, then the question whether all is well.

use std::sync::Arc;
use std::time::Duration;

use rt::sim::End;
use stdx::prng::Prng;

use crate::decide;
use crate::lock;
use crate::plant::Plant;
use crate::user::User;
use crate::world::{self, World};
use crate::{kubelet, world::enter};

/// Task steps of one seed; a loop without end is a bug, too.
const STEPS_MAX: u64 = 3_000_000;

/// In peace, everything must have come to rest after this long.
const PEACE_MAX: Duration = Duration::from_secs(3600);
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How one seed went.
#[derive(Debug)]
pub struct Outcome {
    /// The first rule that was broken.
    pub violation: Option<String>,
    pub n_steps: u64,
    pub n_revisions: u64,
    /// Every event, if it was asked for.
    pub story: String,
}

/// A line of the log of the simulation on this thread; an error is a violation.
pub fn heard(is_error: bool, line: &std::fmt::Arguments<'_>) {
    let Some(world) = world::current() else { return };
    match is_error {
        true => world.fail(&line.to_string()),
        false => world.tell(|| format!("log: {line}")),
    }
}

/// Plays one seed on this thread.
pub fn run(seed: u64, plant: Option<Plant>, verbose: bool) -> Outcome {
    let world = Arc::new(World::new(seed, plant, verbose));
    enter(Some(Arc::clone(&world)));
    let history = play(Arc::clone(&world), seed);
    let end = rt::sim::run(seed, STEPS_MAX, history);
    enter(None);
    let n_steps = match end {
        End::Done(n_steps) => n_steps,
        End::Stuck => {
            world.fail("everything waits for something that cannot come");
            0
        }
        End::OutOfSteps => {
            world.fail("it never comes to rest: out of steps");
            STEPS_MAX
        }
    };
    let n_revisions = lock(&world.checks).known.revision;
    Outcome { violation: world.violation(), n_steps, n_revisions, story: world.story() }
}

async fn play(world: Arc<World>, seed: u64) -> u64 {
    let mut prng = Prng::new(seed ^ 0x9a3e);
    world.tell(|| format!("seed {seed}: {:?}", world.faults.weather()));
    start(&world).await;
    let mut user = User::new(&world, seed);
    user.set_up().await;
    let mut tasks = Vec::new();
    for number in 1..=1 + prng.below(3) {
        tasks.push(rt::spawn(kubelet::run(Arc::clone(&world), number, seed)));
    }
    let n_acts = 4 + prng.below(12);
    let mut mischief = Prng::new(seed ^ 0xbad);
    let chaos = rt::spawn({
        let world = Arc::clone(&world);
        async move { chaos(&world, &mut mischief).await }
    });
    user.run(n_acts).await;
    drop(chaos);
    world.faults.stop();
    world.disk.heal();
    start(&world).await;
    user.tidy_up().await;
    world.tell(|| "peace".into());
    if let Err(why) = settle(&world).await {
        world.fail(&why);
    }
    drop(tasks);
    rt::sim::n_steps()
}

/// Whatever does not run is started.
async fn start(world: &Arc<World>) {
    while !world.is_on() {
        world.power_on().await;
        if !world.is_on() {
            rt::sleep(Duration::from_secs(1)).await;
        }
    }
    if !world.control_runs() {
        decide::start(world);
    }
}

/// Crashes and jumps of the clock, now and then, for ever.
async fn chaos(world: &Arc<World>, prng: &mut Prng) {
    let calm = prng.chance(30);
    loop {
        rt::sleep(Duration::from_millis(2000 + prng.below(25_000))).await;
        if calm {
            continue;
        }
        match prng.below(10) {
            0..4 => world.crash_control(),
            4..7 => world.cut_power(),
            _ => {
                let day_ns = 86_400_000_000_000_u64;
                let nanos = i64::try_from(prng.below(day_ns)).unwrap_or(0);
                let nanos = if prng.chance(50) { nanos } else { -nanos };
                world.tell(|| format!("the clock jumps by {} s", nanos / 1_000_000_000));
                rt::sim::jump_wall(nanos);
            }
        }
        rt::sleep(Duration::from_millis(prng.below(4000))).await;
        start(world).await;
    }
}

/// Waits until the state is what the specs say; then one more look at everything must change nothing.
async fn settle(world: &Arc<World>) -> Result<(), String> {
    let start = rt::now().mono;
    let mut quiet_since = (start, 0);
    loop {
        rt::sleep(LOOK_EVERY).await;
        world.check();
        if world.violation().is_some() {
            return Ok(());
        }
        let now = rt::now().mono;
        let revision = lock(&world.checks).known.busy_revision;
        if revision != quiet_since.1 || !world.is_idle() {
            quiet_since = (now, revision);
        }
        let quiet = now.since(quiet_since.0) >= 2 * LOOK_EVERY;
        if !quiet && now.since(start) <= PEACE_MAX {
            continue;
        }
        let verdict = lock(&world.checks).settled();
        match verdict {
            Ok(()) if quiet => break,
            Err(why) if now.since(start) > PEACE_MAX => {
                return Err(format!("after {} s of peace: {why}", PEACE_MAX.as_secs()));
            }
            Ok(()) if now.since(start) > PEACE_MAX => {
                return Err(format!("after {} s of peace it still changes", PEACE_MAX.as_secs()));
            }
            _ => {}
        }
    }
    let before = lock(&world.checks).known.busy_revision;
    world.tell(|| "one more look at everything".into());
    world.requeue_all();
    rt::sleep(LOOK_EVERY).await;
    world.check();
    let after = lock(&world.checks).known.busy_revision;
    if before != after {
        return Err(format!("at rest, another reconcile changed something (revision {after})"));
    }
    lock(&world.checks).settled()
}
