//! Macros: calls that are rewritten when they are read. Each becomes a comprehension or a test.
//!
//! Source: github.com/google/cel-go/parser and cel (optional types). The server's version of the language is
//! that of Kubernetes 1.31 for what is newly written, which has no macros of two variables.

use crate::ast::{Fold, Id, Item, Kind};
use crate::syntax::parse::Parser;
use crate::value::Val;

/// What macros of lists and maps collect in.
pub(crate) const ACCUMULATOR: &str = "__result__";
const UNUSED: &str = "#unused";

/// The expansion of the call `name` at `at` (of the method of `of`); nothing if it is no macro.
pub(crate) fn expand(
    parser: &mut Parser<'_, '_>,
    at: u32,
    name: &str,
    of: Option<Id>,
    args: &[Id],
) -> Option<Id> {
    let mut maker = Maker { parser, at };
    let Some(of) = of else {
        return (name == "has" && args.len() == 1).then(|| maker.has(args[0]));
    };
    match (name, args) {
        ("all" | "exists" | "exists_one", [var, test]) => {
            Some(maker.quantifier(name, of, *var, *test))
        }
        ("map", [var, each]) => Some(maker.map(of, *var, None, *each)),
        ("map", [var, filter, each]) => Some(maker.map(of, *var, Some(*filter), *each)),
        ("filter", [var, filter]) => Some(maker.map(of, *var, Some(*filter), *var)),
        ("optMap" | "optFlatMap", [var, each]) => Some(maker.optional(name, of, *var, *each)),
        _ => None,
    }
}

struct Maker<'m, 'p, 'a> {
    parser: &'m mut Parser<'p, 'a>,
    at: u32,
}

impl Maker<'_, '_, '_> {
    fn add(&mut self, kind: Kind) -> Id {
        self.parser.tree.add(self.at, kind)
    }

    fn accu(&mut self) -> Id {
        self.add(Kind::Ident(ACCUMULATOR.into()))
    }

    fn value(&mut self, value: Val<'static>) -> Id {
        self.add(Kind::Const(value))
    }

    fn call(&mut self, name: &str, args: Vec<Id>) -> Id {
        self.parser.call(self.at, name, false, args)
    }

    fn method(&mut self, name: &str, args: Vec<Id>) -> Id {
        self.parser.call(self.at, name, true, args)
    }

    fn list(&mut self, value: Option<Id>) -> Id {
        let items = value.map(|value| Item { value, optional: false });
        self.add(Kind::List(items.into_iter().collect()))
    }

    /// The name that an argument is, else an error in words `or`.
    fn name(&mut self, id: Id, or: &str) -> Result<Box<str>, Id> {
        if let Kind::Ident(name) = self.parser.tree.kind(id) {
            return Ok(name.clone());
        }
        let at = self.parser.tree.get(id).at;
        Err(self.parser.wrong(at, or.into()))
    }

    fn has(&mut self, arg: Id) -> Id {
        match self.parser.tree.kind(arg).clone() {
            Kind::Select { of, field, test: false } => {
                self.add(Kind::Select { of, field, test: true })
            }
            _ => {
                let at = self.parser.tree.get(arg).at;
                self.parser.wrong(at, "invalid argument to has() macro".into())
            }
        }
    }

    fn fold(&mut self, range: Id, var: Box<str>, parts: [Id; 4]) -> Id {
        let [init, condition, step, result] = parts;
        let accu = ACCUMULATOR.into();
        self.add(Kind::Fold(Box::new(Fold {
            range,
            var,
            accu,
            init,
            condition,
            step,
            result,
            slot: 0,
        })))
    }

    fn quantifier(&mut self, name: &str, of: Id, var: Id, test: Id) -> Id {
        let var = match self.name(var, "argument must be a simple name") {
            Ok(var) => var,
            Err(wrong) => return wrong,
        };
        let parts = match name {
            "all" | "exists" => {
                let all = name == "all";
                let init = self.value(Val::Bool(all));
                let mut so_far = self.accu();
                if !all {
                    so_far = self.call("!_", vec![so_far]);
                }
                let condition = self.call("@not_strictly_false", vec![so_far]);
                let accu = self.accu();
                let step = self.call(if all { "_&&_" } else { "_||_" }, vec![accu, test]);
                [init, condition, step, self.accu()]
            }
            _ => {
                let init = self.value(Val::Int(0));
                let condition = self.value(Val::Bool(true));
                let (accu, one) = (self.accu(), self.value(Val::Int(1)));
                let more = self.call("_+_", vec![accu, one]);
                let same = self.accu();
                let step = self.call("_?_:_", vec![test, more, same]);
                let (accu, one) = (self.accu(), self.value(Val::Int(1)));
                [init, condition, step, self.call("_==_", vec![accu, one])]
            }
        };
        self.fold(of, var, parts)
    }

    fn map(&mut self, of: Id, var: Id, filter: Option<Id>, each: Id) -> Id {
        let name = match self.name(var, "argument is not an identifier") {
            Ok(name) => name,
            Err(wrong) => return wrong,
        };
        let init = self.list(None);
        let condition = self.value(Val::Bool(true));
        let (accu, one) = (self.accu(), self.list(Some(each)));
        let mut step = self.call("_+_", vec![accu, one]);
        if let Some(filter) = filter {
            let same = self.accu();
            step = self.call("_?_:_", vec![filter, step, same]);
        }
        let result = self.accu();
        self.fold(of, name, [init, condition, step, result])
    }

    fn optional(&mut self, name: &str, of: Id, var: Id, each: Id) -> Id {
        let wrong = format!("{name}() variable name must be a simple identifier");
        let var = match self.name(var, &wrong) {
            Ok(var) => var,
            Err(wrong) => return wrong,
        };
        let there = self.method("hasValue", vec![of]);
        let again = self.parser.tree.copy(of);
        let range = self.list(None);
        let init = self.method("value", vec![again]);
        let condition = self.value(Val::Bool(false));
        let step = self.add(Kind::Ident(var.clone()));
        let mut found = self.add(Kind::Fold(Box::new(Fold {
            range,
            var: UNUSED.into(),
            accu: var,
            init,
            condition,
            step,
            result: each,
            slot: 0,
        })));
        if name == "optMap" {
            found = self.call("optional.of", vec![found]);
        }
        let none = self.call("optional.none", vec![]);
        self.call("_?_:_", vec![there, found, none])
    }
}
