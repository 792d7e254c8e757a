//! Seccomp rules to classic BPF: a binary search over call numbers, then comparisons of arguments.

use stdx::{Error, OrdMap, Result};

/// The kernel's `AUDIT_ARCH_*` and the table's column, of this machine and of what else it runs.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: (u32, usize) = (0xc000_003e, 0);
#[cfg(target_arch = "x86_64")]
const COMPATIBLE: Option<(u32, usize)> = Some((0x4000_0003, 1));
#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURE_NAMES: &[&str] = &["amd64", "x32", "x86"];
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: (u32, usize) = (0xc000_00b7, 3);
#[cfg(target_arch = "aarch64")]
const COMPATIBLE: Option<(u32, usize)> = Some((0x4000_0028, 2));
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURE_NAMES: &[&str] = &["arm64", "arm"];
#[cfg(target_arch = "arm")]
pub(super) const NATIVE: (u32, usize) = (0x4000_0028, 2);
#[cfg(target_arch = "arm")]
const COMPATIBLE: Option<(u32, usize)> = None;
#[cfg(target_arch = "arm")]
pub(super) const ARCHITECTURE_NAMES: &[&str] = &["arm"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Errno(u32),
    KillThread,
    KillProcess,
    Trap,
    Trace(u32),
    Log,
}

impl Action {
    fn code(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Errno(errno) => 0x0005_0000 | errno & 0xffff,
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            Action::Trace(data) => 0x7ff0_0000 | data & 0xffff,
            Action::Log => 0x7ffc_0000,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & value == second`
    MaskedEqual,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    pub(super) index: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
    pub(super) second: u64,
}

/// Rules by the names of calls; names that an architecture lacks are left out there.
#[derive(Debug)]
pub(super) struct Rules {
    default: Action,
    /// For numbers above all that we know.
    pub(super) unknown: Action,
    by_name: OrdMap<String, Vec<(Vec<Condition>, Action)>>,
}

/// The kernel's bound.
const INSTRUCTIONS_MAX: usize = 4096;

impl Rules {
    pub(super) fn new(default: Action) -> Rules {
        Rules { default, unknown: default, by_name: OrdMap::new() }
    }

    /// All conditions must hold. Of several rules for a name the first that matches counts, those
    /// without conditions last.
    pub(super) fn add(&mut self, name: &str, action: Action, conditions: Vec<Condition>) {
        self.by_name.entry(name.to_owned()).or_default().push((conditions, action));
    }

    pub(super) fn compile(&self) -> Result<Vec<u8>> {
        const ARCHITECTURE_OFFSET: u32 = 4;
        let mut program = vec![Instruction::load(ARCHITECTURE_OFFSET)];
        for (architecture, column) in [Some(NATIVE), COMPATIBLE].into_iter().flatten() {
            let section = self.section(column);
            program.push(Instruction::jump(JUMP_EQUAL, architecture, 1, 0));
            program.push(Instruction::far(section.len()));
            program.extend(section);
        }
        program.push(Instruction::give(self.default));
        if program.len() > INSTRUCTIONS_MAX {
            return Err(Error::new(format!(
                "the filter has {} instructions, the kernel takes {INSTRUCTIONS_MAX}",
                program.len()
            )));
        }
        Ok(program.iter().flat_map(Instruction::bytes).collect())
    }

    fn section(&self, column: usize) -> Vec<Instruction> {
        let numbers = super::numbers(column);
        // Private calls of ARM are far above the rest.
        const PRIVATE_FIRST: u32 = 0xf_0000;
        let last_known =
            numbers.values().copied().filter(|number| *number < PRIVATE_FIRST).max().unwrap_or(0);
        let mut by_number: OrdMap<u32, &Vec<(Vec<Condition>, Action)>> = OrdMap::new();
        for (name, rules) in &self.by_name {
            if let Some(number) = numbers.get(name.as_str()) {
                by_number.insert(*number, rules);
            }
        }
        // Segments of numbers with the same code, each up to where the next begins.
        let mut segments: Vec<(u32, Vec<Instruction>)> =
            vec![(0, vec![Instruction::give(self.default)])];
        let mut next = 0;
        let unknown = |number: u32| if number > last_known { self.unknown } else { self.default };
        for (number, rules) in by_number {
            if next < number {
                segments.push((next, vec![Instruction::give(unknown(next))]));
                if next <= last_known && number > last_known + 1 {
                    segments.push((last_known + 1, vec![Instruction::give(self.unknown)]));
                }
            }
            segments.push((number, self.block(rules)));
            next = number + 1;
        }
        segments.push((next, vec![Instruction::give(unknown(next))]));
        if next <= last_known {
            segments.push((last_known + 1, vec![Instruction::give(self.unknown)]));
        }
        let mut merged: Vec<(u32, Vec<Instruction>)> = Vec::new();
        for (first, code) in segments {
            match merged.last_mut() {
                Some((last_first, last)) if *last_first == first => *last = code,
                Some((_, last)) if *last == code => {}
                _ => merged.push((first, code)),
            }
        }
        const NUMBER_OFFSET: u32 = 0;
        let mut section = vec![Instruction::load(NUMBER_OFFSET)];
        section.extend(search(&merged));
        section
    }

    fn block(&self, rules: &[(Vec<Condition>, Action)]) -> Vec<Instruction> {
        let mut block = Vec::new();
        for (conditions, action) in rules.iter().filter(|(conditions, _)| !conditions.is_empty()) {
            // Built from the back: each test must know how far it is to the next rule.
            let mut rule = vec![Instruction::give(*action)];
            for condition in conditions.iter().rev() {
                let mut test = condition.test(rule.len());
                test.append(&mut rule);
                rule = test;
            }
            block.append(&mut rule);
        }
        let last = rules.iter().find(|(conditions, _)| conditions.is_empty());
        block.push(Instruction::give(last.map_or(self.default, |(_, action)| *action)));
        block
    }
}

/// Chooses among segments by halves.
fn search(segments: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    match segments {
        [] => Vec::new(),
        [(_, code)] => code.clone(),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let (low_code, high_code) = (search(low), search(high));
            let mut code = vec![
                Instruction::jump(JUMP_GREATER_OR_EQUAL, high[0].0, 0, 1),
                Instruction::far(low_code.len()),
            ];
            code.extend(low_code);
            code.extend(high_code);
            code
        }
    }
}

impl Condition {
    /// Goes on if it holds, else jumps over the `n_after` instructions that follow it.
    fn test(&self, n_after: usize) -> Vec<Instruction> {
        const ARGUMENTS_OFFSET: u32 = 16;
        let (low_at, high_at) = if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) };
        let low = Instruction::load(ARGUMENTS_OFFSET + 8 * self.index + low_at);
        let high = Instruction::load(ARGUMENTS_OFFSET + 8 * self.index + high_at);
        let halves = |value: u64| ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
        let (value_high, value_low) = halves(self.value);
        // At most six conditions of at most six instructions follow, so distances fit into a byte.
        let fail = |n_left: usize| u8::try_from(n_after + n_left).unwrap_or(u8::MAX);
        let jump = Instruction::jump;
        match self.operator {
            Operator::Equal => vec![
                high,
                jump(JUMP_EQUAL, value_high, 0, fail(2)),
                low,
                jump(JUMP_EQUAL, value_low, 0, fail(0)),
            ],
            Operator::NotEqual => vec![
                high,
                jump(JUMP_EQUAL, value_high, 0, 2),
                low,
                jump(JUMP_EQUAL, value_low, fail(0), 0),
            ],
            Operator::MaskedEqual => {
                let (second_high, second_low) = halves(self.second);
                vec![
                    high,
                    Instruction::and(value_high),
                    jump(JUMP_EQUAL, second_high, 0, fail(3)),
                    low,
                    Instruction::and(value_low),
                    jump(JUMP_EQUAL, second_low, 0, fail(0)),
                ]
            }
            Operator::Greater | Operator::GreaterOrEqual => {
                let compare = if matches!(self.operator, Operator::Greater) {
                    JUMP_GREATER
                } else {
                    JUMP_GREATER_OR_EQUAL
                };
                vec![
                    high,
                    jump(JUMP_GREATER, value_high, 3, 0),
                    jump(JUMP_EQUAL, value_high, 0, fail(2)),
                    low,
                    jump(compare, value_low, 0, fail(0)),
                ]
            }
            Operator::Less | Operator::LessOrEqual => {
                let compare = if matches!(self.operator, Operator::Less) {
                    JUMP_GREATER_OR_EQUAL
                } else {
                    JUMP_GREATER
                };
                vec![
                    high,
                    jump(JUMP_GREATER, value_high, fail(3), 0),
                    jump(JUMP_EQUAL, value_high, 0, 2),
                    low,
                    jump(compare, value_low, fail(0), 0),
                ]
            }
        }
    }
}

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_ALWAYS: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// One instruction of classic BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

impl Instruction {
    fn load(offset: u32) -> Instruction {
        Instruction::jump(LOAD_WORD, offset, 0, 0)
    }

    fn and(mask: u32) -> Instruction {
        Instruction::jump(AND, mask, 0, 0)
    }

    fn give(action: Action) -> Instruction {
        Instruction::jump(RETURN, action.code(), 0, 0)
    }

    fn far(distance: usize) -> Instruction {
        Instruction::jump(JUMP_ALWAYS, u32::try_from(distance).unwrap_or(u32::MAX), 0, 0)
    }

    fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
        Instruction { code, if_true, if_false, operand }
    }

    fn bytes(&self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.operand.to_ne_bytes();
        [c0, c1, self.if_true, self.if_false, k0, k1, k2, k3]
    }
}

/// Interprets a program as the kernel would, for tests.
#[cfg(test)]
pub(super) fn run(program: &[u8], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(architecture.to_ne_bytes());
    data.extend([0; 8]);
    arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
    let (mut at, mut value) = (0, 0u32);
    loop {
        let raw: [u8; 8] = program[at * 8..at * 8 + 8].try_into().unwrap();
        let code = u16::from_ne_bytes([raw[0], raw[1]]);
        let operand = u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]);
        at += 1;
        let offset = operand as usize;
        let jump = |holds: bool| usize::from(if holds { raw[2] } else { raw[3] });
        match code {
            LOAD_WORD => value = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap()),
            AND => value &= operand,
            JUMP_ALWAYS => at += offset,
            JUMP_EQUAL => at += jump(value == operand),
            JUMP_GREATER => at += jump(value > operand),
            JUMP_GREATER_OR_EQUAL => at += jump(value >= operand),
            RETURN => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}
