//! `circuitBreaker`: what it measures, when it trips, and how it comes back. No clock: time is an argument.

use api::{Lens, Value};

use crate::read::{duration_ms, only};

/// An expression in bytes, and its comparisons.
const TEXT_MAX_BYTES: usize = 1 << 10;
const TERMS_MAX: usize = 16;

/// As it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// One of these lists must hold as a whole.
    any: Vec<Vec<Term>>,
    check_ms: u64,
    fallback_ms: u64,
    recovery_ms: u64,
    /// Answers while it is tripped.
    pub status: u16,
}

/// A measure, compared.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Term {
    measure: Measure,
    compared: Compared,
    with: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    NetworkErrorRatio,
    /// Codes from and below, out of those from and below.
    ResponseCodeRatio(u16, u16, u16, u16),
    LatencyAtQuantileMs(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl Breaker {
    pub(crate) fn read(own: &Value) -> Result<Breaker, String> {
        const KNOWN: &[&str] =
            &["expression", "checkPeriod", "fallbackDuration", "recoveryDuration", "responseCode"];
        only(own, "circuitBreaker", KNOWN)?;
        let status = own.int("responseCode").unwrap_or(503);
        let status = u16::try_from(status).ok().filter(|code| (200..600).contains(code));
        Ok(Breaker {
            any: expression(own.str("expression"))
                .map_err(|error| format!("circuitBreaker: {error}"))?,
            check_ms: duration_ms(own.at("checkPeriod"), 100)?,
            fallback_ms: duration_ms(own.at("fallbackDuration"), 10_000)?,
            recovery_ms: duration_ms(own.at("recoveryDuration"), 10_000)?,
            status: status.ok_or("circuitBreaker: responseCode is no code of an answer")?,
        })
    }
}

/// `A > 0.5 || B < 1 && C == 2`; what is joined by `&&` belongs together.
fn expression(text: &str) -> Result<Vec<Vec<Term>>, String> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(format!("the expression is longer than {TEXT_MAX_BYTES} bytes"));
    }
    if text.matches(['&', '|']).count() / 2 >= TERMS_MAX {
        return Err(format!("the expression compares more than {TERMS_MAX} measures"));
    }
    let all = |part: &str| part.split("&&").map(term).collect::<Result<Vec<_>, _>>();
    text.split("||").map(all).collect()
}

fn term(text: &str) -> Result<Term, String> {
    let bad = || format!("{:?} is no comparison of a measure with a number", text.trim());
    let (name, rest) = text.split_once('(').ok_or_else(bad)?;
    let (arguments, rest) = rest.split_once(')').ok_or_else(bad)?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !"<>=!".contains(c)).ok_or_else(bad)?;
    let compared = match &rest[..end] {
        ">" => Compared::Greater,
        ">=" => Compared::GreaterOrEqual,
        "<" => Compared::Less,
        "<=" => Compared::LessOrEqual,
        "==" => Compared::Equal,
        "!=" => Compared::NotEqual,
        _ => return Err(bad()),
    };
    let with = rest[end..].trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let arguments: Vec<&str> =
        arguments.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    let codes = || -> Option<Vec<u16>> { arguments.iter().map(|one| one.parse().ok()).collect() };
    let measure = match (name.trim(), arguments.as_slice()) {
        ("NetworkErrorRatio", []) => Measure::NetworkErrorRatio,
        ("ResponseCodeRatio", [_, _, _, _]) => match codes().ok_or_else(bad)?.as_slice() {
            [a, b, c, d] => Measure::ResponseCodeRatio(*a, *b, *c, *d),
            _ => return Err(bad()),
        },
        ("LatencyAtQuantileMS", [quantile]) => {
            let quantile = quantile.parse().ok().filter(|q| (0.0..=100.0).contains(q));
            Measure::LatencyAtQuantileMs(quantile.ok_or_else(bad)?)
        }
        _ => return Err(bad()),
    };
    Ok(Term { measure, compared, with: with.ok_or_else(bad)? })
}

/// Ten seconds are looked back on.
const SECONDS: usize = 10;
/// Latencies are counted by powers of two of a quarter millisecond: up to half an hour.
const LATENCIES: usize = 24;
/// Different codes of one second.
const CODES_MAX: usize = 32;

#[derive(Clone, Debug, Default)]
struct Second {
    number: u64,
    n: u32,
    n_network_errors: u32,
    codes: Vec<(u16, u32)>,
    latencies: [u32; LATENCIES],
}

/// How it stands.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    seconds: [Second; SECONDS],
    /// Since when nobody passes, in milliseconds of a clock that only goes on.
    tripped_ms: Option<u64>,
    /// Since when some pass again.
    recovering_ms: Option<u64>,
    checked_ms: u64,
    /// Who came while it recovers, and who of those passed.
    n_came: u64,
    n_passed: u64,
}

impl Circuit {
    /// Whether a request may pass.
    pub fn passes(&mut self, breaker: &Breaker, now_ms: u64) -> bool {
        if let Some(since) = self.tripped_ms {
            if now_ms.saturating_sub(since) < breaker.fallback_ms {
                return false;
            }
            (self.tripped_ms, self.recovering_ms) = (None, Some(now_ms));
            (self.n_came, self.n_passed) = (0, 0);
            self.forget();
        }
        let Some(since) = self.recovering_ms else { return true };
        let gone_ms = now_ms.saturating_sub(since);
        if gone_ms >= breaker.recovery_ms {
            self.recovering_ms = None;
            return true;
        }
        // The share that passes grows with time.
        self.n_came += 1;
        let passes = self.n_passed * breaker.recovery_ms <= self.n_came.saturating_mul(gone_ms);
        self.n_passed += u64::from(passes);
        passes
    }

    /// A request that passed was answered.
    pub fn answered(&mut self, breaker: &Breaker, code: u16, took_ms: f64, now_ms: u64) {
        let number = now_ms / 1000;
        let idx = usize::try_from(number % SECONDS as u64).unwrap_or(0);
        let second = &mut self.seconds[idx];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second.n += 1;
        second.n_network_errors += u32::from(matches!(code, 502 | 504));
        let codes = &mut second.codes;
        match codes.iter().position(|(known, _)| *known == code) {
            Some(idx) => codes[idx].1 += 1,
            None if codes.len() < CODES_MAX => codes.push((code, 1)),
            None => {}
        }
        let slot = (1..LATENCIES).find(|slot| took_ms < latency_ms(*slot));
        second.latencies[slot.unwrap_or(LATENCIES) - 1] += 1;
        if now_ms.saturating_sub(self.checked_ms) < breaker.check_ms {
            return;
        }
        self.checked_ms = now_ms;
        let holds = |term: &Term| self.holds(term, number);
        if breaker.any.iter().any(|all| all.iter().all(holds)) {
            (self.tripped_ms, self.recovering_ms) = (Some(now_ms), None);
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.seconds = Default::default();
    }

    fn holds(&self, term: &Term, number: u64) -> bool {
        let recent = |second: &&Second| second.number + SECONDS as u64 > number;
        let seconds = || self.seconds.iter().filter(recent);
        let ratio = |part: u32, whole: u32| {
            if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
        };
        let measured = match term.measure {
            Measure::NetworkErrorRatio => {
                ratio(seconds().map(|it| it.n_network_errors).sum(), seconds().map(|it| it.n).sum())
            }
            Measure::ResponseCodeRatio(a, b, c, d) => {
                let within = |low: u16, high: u16| -> u32 {
                    let all = seconds().flat_map(|it| &it.codes);
                    all.filter(|(code, _)| (low..high).contains(code)).map(|(_, n)| n).sum()
                };
                ratio(within(a, b), within(c, d))
            }
            Measure::LatencyAtQuantileMs(quantile) => {
                let n: u32 = seconds().map(|it| it.n).sum();
                let mut left = f64::from(n) * quantile / 100.0;
                let slot = (0..LATENCIES).find(|slot| {
                    left -= f64::from(seconds().map(|it| it.latencies[*slot]).sum::<u32>());
                    left <= 0.0
                });
                if n == 0 { 0.0 } else { latency_ms(slot.unwrap_or(LATENCIES)) }
            }
        };
        match term.compared {
            Compared::Greater => measured > term.with,
            Compared::GreaterOrEqual => measured >= term.with,
            Compared::Less => measured < term.with,
            Compared::LessOrEqual => measured <= term.with,
            Compared::Equal => (measured - term.with).abs() < f64::EPSILON,
            Compared::NotEqual => (measured - term.with).abs() >= f64::EPSILON,
        }
    }
}

/// The least latency that is counted in a slot.
fn latency_ms(slot: usize) -> f64 {
    let power = i32::try_from(slot).unwrap_or(0) - 1;
    if slot == 0 { 0.0 } else { 0.25 * 2_f64.powi(power) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn breaker(expression: &str) -> Result<Breaker, String> {
        Breaker::read(&json!({"expression": expression, "checkPeriod": "1ms"}))
    }

    /// Whether it is tripped after these codes, a millisecond each that takes `took_ms`.
    #[track_caller]
    fn trips(expression: &str, codes: &[u16], took_ms: f64) -> bool {
        let breaker = breaker(expression).unwrap();
        let mut circuit = Circuit::default();
        let mut now = 5000;
        for code in codes {
            now += 1;
            circuit.answered(&breaker, *code, took_ms, now);
        }
        !circuit.passes(&breaker, now)
    }

    #[test]
    fn what_trips_it() {
        assert!(trips("NetworkErrorRatio() > 0.30", &[200, 502], 1.0));
        assert!(!trips("NetworkErrorRatio() > 0.50", &[200, 502, 500], 1.0));
        assert!(trips("ResponseCodeRatio(500, 600, 0, 600) >= 0.5", &[200, 503], 1.0));
        assert!(!trips("ResponseCodeRatio(500, 600, 0, 600) > 0.5", &[200, 503], 1.0));
        assert!(trips("LatencyAtQuantileMS(50.0) > 100", &[200; 4], 300.0));
        assert!(!trips("LatencyAtQuantileMS(50.0) > 100", &[200; 4], 3.0));
        let both = "NetworkErrorRatio() > 0.3 && LatencyAtQuantileMS(50.0) > 100";
        assert!(!trips(both, &[502], 1.0) && trips(both, &[502], 400.0));
        assert!(trips(
            "NetworkErrorRatio() > 2 || ResponseCodeRatio(200, 201, 0, 600) == 1",
            &[200],
            1.0
        ));
    }

    #[test]
    fn it_comes_back_little_by_little() {
        let breaker = breaker("NetworkErrorRatio() > 0.3").unwrap();
        let mut circuit = Circuit::default();
        circuit.answered(&breaker, 502, 1.0, 1000);
        assert!(!circuit.passes(&breaker, 1001) && !circuit.passes(&breaker, 10_999));
        let mut n_passed = [0, 0];
        for half in [0, 1] {
            for n in 0..1000 {
                let now = 11_000 + half * 5000 + n * 5;
                n_passed[half as usize] += u32::from(circuit.passes(&breaker, now));
            }
        }
        assert!((100..600).contains(&n_passed[0]) && n_passed[0] < n_passed[1], "{n_passed:?}");
        assert!((0..10).all(|_| circuit.passes(&breaker, 22_000)));
    }

    #[test]
    fn what_is_no_expression() {
        for bad in [
            "",
            "NetworkErrorRatio()",
            "NetworkErrorRatio() > x",
            "NetworkErrorRatio(1) > 1",
            "ResponseCodeRatio(1, 2, 3) > 1",
            "LatencyAtQuantileMS(101) > 1",
            "Other() > 1",
            "NetworkErrorRatio() => 1",
            "NetworkErrorRatio() > 1 &&",
        ] {
            assert!(breaker(bad).is_err(), "{bad}");
        }
    }
}
