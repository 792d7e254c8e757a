//! What cannot be, looked at in release builds as well.
//!
//! A state machine whose two halves disagree would go on with what is not true: write over what it did not read,
//! run twice what may run once. So at the places where one half relies on the other the other is asked.
//! A panic ends the task (a request, a reconcile, a pod's worker, a connection), which is caught and told at the
//! task's border, and begun anew from what is true; it never ends the process.

/// Ends the task if `$impossible` holds; `$what` says, as a whole sentence, what was found.
#[macro_export]
macro_rules! never {
    ($impossible:expr, $what:literal) => {
        if $impossible {
            $crate::never::is($what)
        }
    };
}

/// Apart from its callers, each of which is a comparison and a call.
///
/// # Panics
/// Always.
#[cold]
#[inline(never)]
#[track_caller]
pub fn is(what: &'static str) -> ! {
    panic!("what cannot be: {what}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_cannot_be_ends_the_task() {
        crate::never!(false, "It is");
        let ended = std::panic::catch_unwind(|| crate::never!(true, "It is not"));
        let said = ended.unwrap_err();
        assert_eq!(said.downcast_ref::<String>().unwrap(), "what cannot be: It is not");
    }
}
