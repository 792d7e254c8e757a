//! Expressions in an administrator's files, in CEL: about who somebody is, and what is wanted.

use api::Value;
use api::policy::{About, Wanted};
use cel::{CALL_MAX, Decision, Host, Input, Program, Query, Spent, Val};

/// An expression, which is about one thing.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    about: About,
    program: Program,
}

struct Nobody;

impl Host for Nobody {
    fn violations(&self, format: &str, text: &str) -> Vec<String> {
        api::violations(format, text)
    }

    fn authorize(&self, _query: &Query) -> Option<Decision> {
        None
    }
}

impl Expression {
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub(super) fn compile(about: About, text: &str, wanted: Wanted) -> Result<Expression, String> {
        let program = about.compile(text, wanted)?;
        Ok(Expression { text: text.to_owned(), about, program })
    }

    /// Whether it looks at the field `name` of what it is about.
    pub(super) fn selects(&self, name: &str) -> bool {
        self.program.selects(0, name)
    }

    /// Its value about `of`.
    ///
    /// # Errors
    /// In upstream's words.
    pub(super) fn value<'v>(&'v self, of: &'v Value) -> Result<Val<'v>, String> {
        let failed = |why: Box<cel::Fail>| {
            format!("expression '{}' resulted in error: {}", self.text, why.message)
        };
        let variables = [Val::typed(of, self.about.schema()).map_err(failed)?];
        let input = Input { variables: &variables, host: &Nobody };
        self.program.run(&input, &mut Spent::up_to(CALL_MAX)).map_err(failed)
    }
}
