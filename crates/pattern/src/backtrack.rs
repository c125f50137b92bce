//! The backtracking engine: CPython's order of trials, step by step, with a limit on the steps.
//!
//! It decides what a match is: which alternative, which groups, which end. It handles everything that Python's syntax
//! can express. To keep it from exponential time it remembers where it has failed: unless the pattern reads groups,
//! whether the rest matches depends only on the instruction and the position, so that no such pair need be tried twice.
//! Back references and conditions have no such memory; there, and for what is merely polynomial, the limit on steps
//! decides.

use crate::ast::{Assertion, RepeatKind};
use crate::error::StepLimit;
use crate::program::{Address, Instruction, Program, SingleRepeat};
use crate::set::Fold;
use crate::text::Text;
use crate::unicode::Category;

/// Most steps of one call, for all starts and matches together. A step takes about 8 ns, so a hostile name delays the
/// caller by 4 ms at worst; a path of the greatest length (4,096 bytes) gets 122 steps a byte.
const STEPS_MAX: u32 = 500_000;
/// Steps after which failures are remembered. Most matches need fewer and never allocate the memory.
const MEMORY_AFTER: u32 = 512;
/// Largest memory of failures, in bits (1 MiB). A pattern and path that need more go without.
const MEMORY_BITS_MAX: usize = 1 << 23;
/// Loops with possibly empty bodies double the memory each; more of them than this go without.
const REGISTERS_WITH_MEMORY_MAX: u32 = 4;
/// A repeat of one character, and a literal, run over so many characters for the price of one step.
const CHARS_PER_STEP: usize = 8;
/// Frames for which there is room from the start: most matches need no more.
const FRAMES_FIRST: usize = 16;
/// No position: a group that hasn't matched, a loop that hasn't begun.
const NOWHERE: usize = usize::MAX;

/// One run of a program over one text: any number of matches share its limit on steps.
pub(crate) struct Backtracker<'a, T> {
    program: &'a Program,
    text: &'a T,
    slots: Vec<usize>,
    registers: Vec<usize>,
    stack: Vec<Frame>,
    failures: Failures,
    steps: u32,
    /// Steps from which on failures are remembered: [`MEMORY_AFTER`] but for tests.
    memory_after: u32,
    /// An empty match here is no match: one was found here before.
    must_leave: usize,
    /// Slots and registers hold what a match left there; a failure leaves nothing, since it is undone step by step.
    has_matched: bool,
    /// How many look-arounds and atomic groups we are in.
    depth: u32,
}

/// What to do when the engine fails.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// Try there.
    Branch { address: Address, position: usize },
    /// Put a slot back.
    Slot { index: u32, old: usize },
    /// Put a register back.
    Register { index: u32, old: usize },
    /// The repeat at this address may give characters back, from `position` down to `least`.
    Fewer { address: Address, position: usize, least: usize },
    /// The repeat at this address may take characters, from `position` up to `most`.
    More { address: Address, position: usize, most: usize },
}

/// What to do next.
enum Next {
    Go(Address, usize),
    Fail,
    Accept(usize),
}

impl<'a, T: Text> Backtracker<'a, T> {
    pub(crate) fn new(program: &'a Program, text: &'a T) -> Backtracker<'a, T> {
        Backtracker {
            program,
            text,
            slots: vec![NOWHERE; program.groups * 2],
            registers: vec![NOWHERE; program.registers as usize],
            stack: Vec::with_capacity(FRAMES_FIRST),
            failures: Failures::default(),
            steps: 0,
            memory_after: MEMORY_AFTER,
            must_leave: NOWHERE,
            has_matched: false,
            depth: 0,
        }
    }

    /// Whether the pattern matches at `start`; if so, [`Backtracker::group`] gives the groups.
    pub(crate) fn match_at(&mut self, start: usize) -> Result<bool, StepLimit> {
        if std::mem::take(&mut self.has_matched) {
            self.forget_match();
        }
        debug_assert!(
            self.slots.iter().chain(&self.registers).all(|at| *at == NOWHERE),
            "a failure left something"
        );
        let Some(end) = self.run(0, start)? else { return Ok(false) };
        self.has_matched = true;
        self.slots[0] = start;
        self.slots[1] = end;
        Ok(true)
    }

    fn forget_match(&mut self) {
        self.slots.fill(NOWHERE);
        self.registers.fill(NOWHERE);
        self.stack.clear();
        self.failures.clear();
    }

    /// The first match that begins at `start` or later. `after_empty` says that an empty match at `start` was found
    /// before and doesn't count again, as in Python's `sub`.
    pub(crate) fn find(&mut self, start: usize, after_empty: bool) -> Result<bool, StepLimit> {
        self.must_leave = if after_empty { start } else { NOWHERE };
        let last = if self.program.starts_anchored() { 0 } else { self.text.len() };
        for position in start..=last {
            if self.match_at(position)? {
                self.must_leave = NOWHERE;
                return Ok(true);
            }
        }
        self.must_leave = NOWHERE;
        Ok(false)
    }

    /// Start and end of a group, in characters, after a match.
    pub(crate) fn group(&self, group: usize) -> Option<(usize, usize)> {
        let (&start, &end) = (self.slots.get(group * 2)?, self.slots.get(group * 2 + 1)?);
        (start != NOWHERE && end != NOWHERE && start <= end).then_some((start, end))
    }

    /// Runs from `address` to the next [`Instruction::Accept`]; gives the position there. What the stack holds above
    /// its height at the call is left there after a success.
    fn run(&mut self, address: Address, position: usize) -> Result<Option<usize>, StepLimit> {
        let base = self.stack.len();
        let mut next = Next::Go(address, position);
        loop {
            next = match next {
                Next::Go(address, position) => self.step(address, position)?,
                Next::Accept(position) => return Ok(Some(position)),
                Next::Fail => match self.back(base)? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
        }
    }

    #[inline]
    fn step(&mut self, address: Address, position: usize) -> Result<Next, StepLimit> {
        self.spend(1)?;
        let after = address + 1;
        Ok(match self.program.instructions[address as usize] {
            Instruction::Char(code) => self.consume(position, after, |char| char == code),
            Instruction::Literal { first, len } => {
                let codes = &self.program.literals[first as usize..][..len as usize];
                self.spend((codes.len() / CHARS_PER_STEP) as u32)?;
                go_if(self.text.has_at(position, codes), after, position + codes.len())
            }
            Instruction::Single(index) => {
                let single = &self.program.singles[index as usize];
                self.consume(position, after, |char| single.contains(char))
            }
            Instruction::Split { first, second, row } => {
                if self.has_failed(row, position) {
                    return Ok(Next::Fail);
                }
                self.stack.push(Frame::Branch { address: second, position });
                Next::Go(first, position)
            }
            Instruction::Jump(address) => Next::Go(address, position),
            Instruction::Save(index) => {
                let old = std::mem::replace(&mut self.slots[index as usize], position);
                self.stack.push(Frame::Slot { index, old });
                Next::Go(after, position)
            }
            Instruction::Assert(assertion) => go_if(self.holds(assertion, position), after, position),
            Instruction::Repeat { index, row } => self.repeat(address, index, row, position)?,
            Instruction::Reset(index) => {
                self.set_register(index, NOWHERE);
                Next::Go(after, position)
            }
            Instruction::Enter(index) => {
                if self.registers[index as usize] == position {
                    return Ok(Next::Fail);
                }
                self.set_register(index, position);
                Next::Go(after, position)
            }
            Instruction::Look { negated, behind, end } => {
                let matches = self.look(after, position, behind as usize, negated)?;
                go_if(matches != negated, end, position)
            }
            Instruction::Atomic { end } => match self.nested(after, position)? {
                Some(position) => Next::Go(end, position),
                None => Next::Fail,
            },
            Instruction::Backreference { group, fold } => self.backreference(group, fold, after, position),
            Instruction::Condition { group, otherwise } => {
                let has_matched = self.group(group as usize).is_some();
                Next::Go(if has_matched { after } else { otherwise }, position)
            }
            Instruction::Fail => Next::Fail,
            Instruction::Accept if self.depth == 0 && position == self.must_leave => Next::Fail,
            Instruction::Accept => Next::Accept(position),
        })
    }

    /// Undoes what was done since the last choice and takes the next one; `None` if none is left above `base`.
    fn back(&mut self, base: usize) -> Result<Option<Next>, StepLimit> {
        while self.stack.len() > base {
            let Some(frame) = self.stack.pop() else { break };
            match frame {
                Frame::Branch { address, position } => return Ok(Some(Next::Go(address, position))),
                Frame::Slot { index, old } => self.slots[index as usize] = old,
                Frame::Register { index, old } => self.registers[index as usize] = old,
                Frame::Fewer { address, position, least } => {
                    if let Some(next) = self.fewer(address, position, least)? {
                        return Ok(Some(next));
                    }
                }
                Frame::More { address, position, most } => {
                    if let Some(next) = self.more(address, position, most)? {
                        return Ok(Some(next));
                    }
                }
            }
        }
        Ok(None)
    }

    #[inline]
    fn consume(&self, position: usize, after: Address, accepts: impl Fn(u32) -> bool) -> Next {
        let matches = position < self.text.len() && accepts(self.text.at(position));
        go_if(matches, after, position + 1)
    }

    fn repeat(&mut self, address: Address, index: u32, row: u32, position: usize) -> Result<Next, StepLimit> {
        if self.has_failed(row, position) {
            return Ok(Next::Fail);
        }
        let program = self.program;
        let repeat = &program.repeats[index as usize];
        let wanted = if repeat.kind == RepeatKind::Lazy { repeat.min } else { repeat.max };
        let end = self.count(repeat, position, wanted)?;
        let least = position.saturating_add(repeat.min);
        if end < least {
            return Ok(Next::Fail);
        }
        let next = match repeat.kind {
            RepeatKind::Possessive => Some(Next::Go(address + 1, end)),
            RepeatKind::Greedy => self.fewer(address, end, least)?,
            RepeatKind::Lazy => self.more(address, end, position.saturating_add(repeat.max))?,
        };
        Ok(next.unwrap_or(Next::Fail))
    }

    /// The position after at most `wanted` accepted characters.
    fn count(&mut self, repeat: &SingleRepeat, position: usize, wanted: usize) -> Result<usize, StepLimit> {
        let limit = position.saturating_add(wanted).min(self.text.len());
        let end = if let Some(except) = repeat.single.only_exception() {
            self.text.find(except, position, limit)
        } else {
            let mut run = position..limit;
            run.find(|&index| !repeat.single.contains(self.text.at(index))).unwrap_or(limit)
        };
        self.spend(((end - position) / CHARS_PER_STEP) as u32)?;
        Ok(end)
    }

    /// Goes on after a greedy repeat that ends at `position`, or at the first end below where the rest can match.
    fn fewer(&mut self, address: Address, from: usize, least: usize) -> Result<Option<Next>, StepLimit> {
        let (repeat, row) = self.repeat_at(address);
        let mut position = from;
        loop {
            if self.may_follow(repeat, position) && !self.has_failed(row + 1, position) {
                if position > least {
                    self.stack.push(Frame::Fewer { address, position: position - 1, least });
                }
                self.spend(((from - position) / CHARS_PER_STEP) as u32)?;
                return Ok(Some(Next::Go(address + 1, position)));
            }
            if position <= least {
                self.spend(((from - position) / CHARS_PER_STEP) as u32)?;
                return Ok(None);
            }
            position -= 1;
        }
    }

    /// Goes on after a lazy repeat that ends at `position`, or at the first end above where the rest can match.
    fn more(&mut self, address: Address, from: usize, most: usize) -> Result<Option<Next>, StepLimit> {
        let (repeat, row) = self.repeat_at(address);
        let mut position = from;
        loop {
            let may_take = position < most
                && position < self.text.len()
                && repeat.single.contains(self.text.at(position));
            if self.may_follow(repeat, position) && !self.has_failed(row + 1, position) {
                if may_take {
                    self.stack.push(Frame::More { address, position: position + 1, most });
                }
                self.spend(((position - from) / CHARS_PER_STEP) as u32)?;
                return Ok(Some(Next::Go(address + 1, position)));
            }
            if !may_take {
                self.spend(((position - from) / CHARS_PER_STEP) as u32)?;
                return Ok(None);
            }
            position += 1;
        }
    }

    fn repeat_at(&self, address: Address) -> (&'a SingleRepeat, u32) {
        let Instruction::Repeat { index, row } = self.program.instructions[address as usize] else {
            unreachable!("only a repeat pushes the frames that lead here");
        };
        (&self.program.repeats[index as usize], row)
    }

    fn may_follow(&self, repeat: &SingleRepeat, position: usize) -> bool {
        repeat.next.is_none_or(|code| position < self.text.len() && self.text.at(position) == code)
    }

    /// Whether a look-around's body matches. After a match that is not negated its groups stay.
    fn look(
        &mut self,
        body: Address,
        position: usize,
        behind: usize,
        negated: bool,
    ) -> Result<bool, StepLimit> {
        let Some(start) = position.checked_sub(behind) else { return Ok(false) };
        let base = self.stack.len();
        let matches = self.nested(body, start)?.is_some();
        if matches && negated {
            while self.stack.len() > base {
                match self.stack.pop() {
                    Some(Frame::Slot { index, old }) => self.slots[index as usize] = old,
                    Some(Frame::Register { index, old }) => self.registers[index as usize] = old,
                    Some(Frame::Branch { .. } | Frame::Fewer { .. } | Frame::More { .. }) | None => {}
                }
            }
        }
        Ok(matches)
    }

    /// Runs a body whose first way to match is final: its other choices go, what undoes its changes stays.
    fn nested(&mut self, body: Address, position: usize) -> Result<Option<usize>, StepLimit> {
        let base = self.stack.len();
        let mark = self.failures.mark();
        self.depth += 1;
        let end = self.run(body, position)?;
        self.depth -= 1;
        if end.is_some() {
            self.failures.forget_since(mark);
            self.drop_choices(base);
        }
        if self.depth == 0 {
            self.failures.end_nested();
        }
        Ok(end)
    }

    fn drop_choices(&mut self, base: usize) {
        let mut kept = base;
        for index in base..self.stack.len() {
            let frame = self.stack[index];
            if matches!(frame, Frame::Slot { .. } | Frame::Register { .. }) {
                self.stack[kept] = frame;
                kept += 1;
            }
        }
        self.stack.truncate(kept);
    }

    fn backreference(&self, group: u32, fold: Fold, after: Address, position: usize) -> Next {
        let Some((start, end)) = self.group(group as usize) else { return Next::Fail };
        let length = end - start;
        if self.text.len() - position < length {
            return Next::Fail;
        }
        let same =
            |index| fold.apply(self.text.at(start + index)) == fold.apply(self.text.at(position + index));
        go_if((0..length).all(same), after, position + length)
    }

    fn holds(&self, assertion: Assertion, position: usize) -> bool {
        let length = self.text.len();
        let newline = u32::from(b'\n');
        match assertion {
            Assertion::Start => position == 0,
            Assertion::End => position == length,
            Assertion::EndOrFinalNewline => {
                position == length || (position + 1 == length && self.text.at(position) == newline)
            }
            Assertion::LineStart => position == 0 || self.text.at(position - 1) == newline,
            Assertion::LineEnd => position == length || self.text.at(position) == newline,
            Assertion::WordBoundary { ascii } => self.is_boundary(position, ascii),
            Assertion::NotWordBoundary { ascii } => length > 0 && !self.is_boundary(position, ascii),
        }
    }

    fn is_boundary(&self, position: usize, ascii: bool) -> bool {
        let is_word = |index: usize| Category::Word.contains(self.text.at(index), ascii);
        let before = position > 0 && is_word(position - 1);
        let after = position < self.text.len() && is_word(position);
        before != after
    }

    fn set_register(&mut self, index: u32, position: usize) {
        let old = std::mem::replace(&mut self.registers[index as usize], position);
        self.stack.push(Frame::Register { index, old });
    }

    #[inline]
    fn spend(&mut self, steps: u32) -> Result<(), StepLimit> {
        self.steps += steps;
        if self.steps > STEPS_MAX { Err(StepLimit { limit: STEPS_MAX }) } else { Ok(()) }
    }

    /// Whether the engine stood here before, and so failed; from now on it has.
    #[inline]
    fn has_failed(&mut self, row: u32, position: usize) -> bool {
        self.steps > self.memory_after && self.has_failed_in_memory(row, position)
    }

    fn has_failed_in_memory(&mut self, row: u32, position: usize) -> bool {
        if self.failures.state == MemoryState::Unmade {
            self.failures.make(self.program, self.text.len());
        }
        if self.failures.state == MemoryState::Refused {
            return false;
        }
        // A loop with a possibly empty body goes on or not by whether it has moved since its iteration began.
        let moved =
            self.registers.iter().fold(0, |bits, &register| bits * 2 + usize::from(register == position));
        let row = (row as usize) << self.registers.len() | moved;
        self.failures.insert(row * (self.text.len() + 1) + position, self.depth > 0)
    }
}

#[inline]
fn go_if(condition: bool, address: Address, position: usize) -> Next {
    if condition { Next::Go(address, position) } else { Next::Fail }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MemoryState {
    #[default]
    Unmade,
    Made,
    Refused,
}

/// The memory of failures: a bit for each choice and position.
#[derive(Debug, Default)]
struct Failures {
    state: MemoryState,
    bits: Vec<u64>,
    /// Bits that were set inside look-arounds and atomic groups: one that matches was no failure.
    nested: Vec<usize>,
}

impl Failures {
    fn make(&mut self, program: &Program, length: usize) {
        let registers = program.registers.min(REGISTERS_WITH_MEMORY_MAX);
        let bits = ((program.rows as usize) << registers).saturating_mul(length + 1);
        if program.reads_groups || program.registers > registers || bits > MEMORY_BITS_MAX {
            self.state = MemoryState::Refused;
            return;
        }
        self.state = MemoryState::Made;
        self.bits = vec![0; bits.div_ceil(64)];
    }

    /// Sets a bit and says whether it was set.
    fn insert(&mut self, index: usize, is_nested: bool) -> bool {
        let word = &mut self.bits[index / 64];
        let bit = 1 << (index % 64);
        if *word & bit != 0 {
            return true;
        }
        *word |= bit;
        if is_nested {
            self.nested.push(index);
        }
        false
    }

    fn mark(&self) -> usize {
        self.nested.len()
    }

    fn forget_since(&mut self, mark: usize) {
        for index in self.nested.drain(mark..) {
            self.bits[index / 64] &= !(1 << (index % 64));
        }
    }

    fn end_nested(&mut self) {
        self.nested.clear();
    }

    /// After a match: the ways not taken are no failures.
    fn clear(&mut self) {
        self.bits.fill(0);
        self.nested.clear();
    }
}

#[cfg(test)]
#[path = "../tests/suite/grammar.rs"]
mod grammar;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::grammar::{path, pattern_source, run};
    use super::*;
    use crate::parse::parse;
    use crate::text::WideText;

    type Groups = Vec<Option<(usize, usize)>>;

    /// The groups of all matches, found one after the other.
    fn all_matches(program: &Program, text: &WideText, memory_after: u32) -> Result<Vec<Groups>, StepLimit> {
        let mut backtracker = Backtracker::new(program, text);
        backtracker.memory_after = memory_after;
        let (mut found, mut done, mut after_empty) = (Vec::new(), 0, false);
        while backtracker.find(done, after_empty)? {
            let groups: Groups = (0..program.groups).map(|group| backtracker.group(group)).collect();
            let (start, end) = groups[0].unwrap();
            found.push(groups);
            (done, after_empty) = (end, start == end);
        }
        Ok(found)
    }

    #[test]
    fn memory_changes_no_match() {
        run(5_000, &(pattern_source(), path()), |(source, path)| {
            let Ok(parsed) = parse(source.as_bytes()) else { return Ok(()) };
            let Ok(program) = Program::new(&parsed) else { return Ok(()) };
            let text = WideText::new(&path);
            let Ok(without) = all_matches(&program, &text, u32::MAX) else { return Ok(()) };
            prop_assert_eq!(all_matches(&program, &text, 0), Ok(without));
            Ok(())
        });
    }

    /// A body that matched has not failed: the second way to the same look-around must find what the first one found.
    #[test]
    fn memory_forgets_what_matched() {
        for (source, path) in [("(?:ab|a.)(?!c|d).", b"abc"), ("(?:a|b)*(?!(?:c|d)*e)c", b"bce")] {
            let program = Program::new(&parse(source.as_bytes()).unwrap()).unwrap();
            let text = WideText::new(path);
            let without = all_matches(&program, &text, u32::MAX);
            assert_eq!(all_matches(&program, &text, 0), without, "{source}");
        }
    }

    #[test]
    fn memory_needs_fewer_steps() {
        let program = Program::new(&parse(b"(?:(a*)*b?)*x").unwrap()).unwrap();
        let text = WideText::new(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert!(all_matches(&program, &text, u32::MAX).is_err());
        assert_eq!(all_matches(&program, &text, MEMORY_AFTER), Ok(Vec::new()));
    }
}
