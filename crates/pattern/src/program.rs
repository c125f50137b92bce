//! A pattern compiled for the backtracking engine.
//!
//! Instructions follow one another; a branch names its targets. Counted repeats of more than one character are
//! unrolled: then the instruction alone says what remains to be matched, which the memory of failures (see `backtrack`)
//! needs.

use crate::ast::{Assertion, Conditional, Look, Node, Repeat, RepeatKind, UNBOUNDED, Width};
use crate::error::{Error, Place};
use crate::parse::Parsed;
use crate::set::{Fold, Single};

/// Most instructions of a pattern, and most characters of its literals. An instruction is 16 bytes, so a pattern stays
/// within a few MiB; only repeats of repeats with large counts come near.
const INSTRUCTIONS_MAX: usize = 1 << 16;
/// CPython's bound on how far a look-behind may look.
const LOOK_BEHIND_MAX: u64 = u32::MAX as u64;

/// Index of an instruction.
pub(crate) type Address = u32;

/// A step of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// This character.
    Char(u32),
    /// These characters, of `Program::literals`.
    Literal { first: u32, len: u32 },
    /// A character of `Program::singles`.
    Single(u32),
    /// `first`; if that fails, `second`. `row` is its row in the memory of failures.
    Split { first: Address, second: Address, row: u32 },
    /// Go on there.
    Jump(Address),
    /// Note the position in a slot: twice the number of a group for its start, one more for its end.
    Save(u32),
    /// A condition on the position.
    Assert(Assertion),
    /// A repeat of one character, of `Program::repeats`; `row` and the next are its rows in the memory of failures.
    Repeat { index: u32, row: u32 },
    /// A loop whose body may be empty begins: forget where its last iteration began.
    Reset(u32),
    /// Such an iteration begins; fails if the one before began at the same position.
    Enter(u32),
    /// The instructions up to `end` must match here, or `behind` characters before; negated: must not.
    Look { negated: bool, behind: u32, end: Address },
    /// The instructions up to `end`, whose first way to match is final.
    Atomic { end: Address },
    /// What the group matched.
    Backreference { group: u32, fold: Fold },
    /// Goes on only if the group has matched; else at `otherwise`.
    Condition { group: u32, otherwise: Address },
    /// Never matches.
    Fail,
    /// The end of the pattern, of a look-around or of an atomic group.
    Accept,
}

/// A repeat of one character.
#[derive(Clone, Debug)]
pub(crate) struct SingleRepeat {
    pub(crate) single: Single,
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) kind: RepeatKind,
    /// The character that must follow, if that is certain.
    pub(crate) next: Option<u32>,
}

/// The whole of it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) instructions: Box<[Instruction]>,
    /// Characters that follow one another, for all instructions that need some.
    pub(crate) literals: Box<[u32]>,
    pub(crate) singles: Box<[Single]>,
    pub(crate) repeats: Box<[SingleRepeat]>,
    /// Number of groups, the whole match included.
    pub(crate) groups: usize,
    /// Number of loops that need to know where their last iteration began.
    pub(crate) registers: u32,
    /// Number of rows in the memory of failures.
    pub(crate) rows: u32,
    /// Whether what lies ahead can depend on what groups have matched.
    pub(crate) reads_groups: bool,
}

impl Program {
    pub(crate) fn new(parsed: &Parsed) -> Result<Program, Error> {
        let mut compiler = Compiler {
            instructions: Vec::new(),
            literals: Vec::new(),
            singles: Vec::new(),
            repeats: Vec::new(),
            widths: &parsed.widths,
            registers: 0,
            rows: 0,
            reads_groups: false,
        };
        compiler.node(&parsed.node)?;
        compiler.push(Instruction::Accept)?;
        compiler.note_next_chars();
        Ok(Program {
            instructions: compiler.instructions.into(),
            literals: compiler.literals.into(),
            singles: compiler.singles.into(),
            repeats: compiler.repeats.into(),
            groups: parsed.names.len(),
            registers: compiler.registers,
            rows: compiler.rows,
            reads_groups: compiler.reads_groups,
        })
    }

    /// Whether it can match at the start of the path alone.
    pub(crate) fn starts_anchored(&self) -> bool {
        matches!(self.instructions.first(), Some(Instruction::Assert(Assertion::Start)))
    }

    /// Bytes that it takes beside its own size.
    pub(crate) fn memory_usage(&self) -> usize {
        self.instructions.len() * size_of::<Instruction>()
            + self.literals.len() * size_of::<u32>()
            + self.singles.iter().map(Single::memory_usage).sum::<usize>()
            + self
                .repeats
                .iter()
                .map(|repeat| size_of::<usize>() * 4 + repeat.single.memory_usage())
                .sum::<usize>()
    }
}

struct Compiler<'a> {
    instructions: Vec<Instruction>,
    literals: Vec<u32>,
    singles: Vec<Single>,
    repeats: Vec<SingleRepeat>,
    widths: &'a [Width],
    registers: u32,
    rows: u32,
    reads_groups: bool,
}

impl Compiler<'_> {
    fn node(&mut self, node: &Node) -> Result<(), Error> {
        match node {
            Node::Single(single) => self.single(single),
            Node::Sequence(nodes) => self.sequence(nodes),
            Node::Alternation(nodes) => self.alternation(nodes),
            Node::Group(number, node) => {
                self.push(Instruction::Save(number * 2))?;
                self.node(node)?;
                self.push(Instruction::Save(number * 2 + 1))
            }
            Node::Repeat(repeat) => self.repeat(repeat),
            Node::Assertion(assertion) => self.push(Instruction::Assert(*assertion)),
            Node::Look(look) => self.look(look),
            Node::Atomic(node) => self.atomic(node),
            Node::Backreference(group, fold) => {
                self.reads_groups = true;
                self.push(Instruction::Backreference { group: *group, fold: *fold })
            }
            Node::Conditional(conditional) => self.conditional(conditional),
            Node::Fail => self.push(Instruction::Fail),
        }
    }

    /// Characters that follow one another are compared at once: most of a rule is the name of a directory.
    fn sequence(&mut self, nodes: &[Node]) -> Result<(), Error> {
        for run in nodes.chunk_by(|one, next| char_of(one).is_some() && char_of(next).is_some()) {
            match run {
                [node] => self.node(node)?,
                run => self.literal(run.iter().filter_map(char_of))?,
            }
        }
        Ok(())
    }

    fn literal(&mut self, codes: impl Iterator<Item = u32>) -> Result<(), Error> {
        let first = self.literals.len();
        self.literals.extend(codes);
        if self.literals.len() > INSTRUCTIONS_MAX {
            return Err(too_many_steps());
        }
        let len = self.literals.len() - first;
        self.push(Instruction::Literal { first: first as u32, len: len as u32 })
    }

    fn single(&mut self, single: &Single) -> Result<(), Error> {
        if let Single::Char(code) = single {
            return self.push(Instruction::Char(*code));
        }
        let known = self.singles.iter().rposition(|other| other == single);
        let index = known.unwrap_or_else(|| {
            self.singles.push(single.clone());
            self.singles.len() - 1
        });
        self.push(Instruction::Single(index as u32))
    }

    fn alternation(&mut self, nodes: &[Node]) -> Result<(), Error> {
        let mut jumps = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if index + 1 == nodes.len() {
                self.node(node)?;
                break;
            }
            let split = self.push_split()?;
            self.node(node)?;
            jumps.push(self.here());
            self.push(Instruction::Jump(0))?;
            self.set_split(split, split + 1, self.here());
        }
        for jump in jumps {
            self.instructions[jump as usize] = Instruction::Jump(self.here());
        }
        Ok(())
    }

    fn repeat(&mut self, repeat: &Repeat) -> Result<(), Error> {
        if let Some(single) = lone_single(&repeat.node) {
            return self.single_repeat(single, repeat);
        }
        if repeat.kind != RepeatKind::Possessive {
            return self.iterations(repeat, &repeat.node);
        }
        // Each iteration is final once it has matched, and so is their number.
        let body = Node::Atomic(Box::new(repeat.node.clone()));
        for _ in 0..repeat.min {
            self.node(&body)?;
        }
        let optional = Repeat {
            node: body,
            min: 0,
            max: if repeat.max == UNBOUNDED { UNBOUNDED } else { repeat.max - repeat.min },
            kind: RepeatKind::Greedy,
        };
        self.atomic_of(|compiler| compiler.iterations(&optional, &optional.node))
    }

    fn single_repeat(&mut self, single: &Single, repeat: &Repeat) -> Result<(), Error> {
        let index = self.repeats.len() as u32;
        self.repeats.push(SingleRepeat {
            single: single.clone(),
            min: repeat.min as usize,
            max: if repeat.max == UNBOUNDED { usize::MAX } else { repeat.max as usize },
            kind: repeat.kind,
            next: None,
        });
        let row = self.rows;
        self.rows += 2;
        self.push(Instruction::Repeat { index, row })
    }

    /// `min` copies of the body, then a loop or the optional copies.
    fn iterations(&mut self, repeat: &Repeat, body: &Node) -> Result<(), Error> {
        for _ in 0..repeat.min {
            let before = self.here();
            self.node(body)?;
            if self.here() == before {
                return Ok(());
            }
        }
        let optional = repeat.max - repeat.min;
        let register = (optional > 1 && !body.always_consumes()).then_some(self.registers);
        if let Some(register) = register {
            self.registers += 1;
            self.push(Instruction::Reset(register))?;
        }
        if repeat.max == UNBOUNDED {
            return self.endless(body, register, repeat.kind);
        }
        let mut splits = Vec::new();
        for _ in 0..optional {
            splits.push(self.push_split()?);
            self.enter(register)?;
            let before = self.here();
            self.node(body)?;
            if self.here() == before {
                break;
            }
        }
        for split in splits {
            self.set_loop_split(split, repeat.kind);
        }
        Ok(())
    }

    fn endless(&mut self, body: &Node, register: Option<u32>, kind: RepeatKind) -> Result<(), Error> {
        let split = self.push_split()?;
        self.enter(register)?;
        self.node(body)?;
        self.push(Instruction::Jump(split))?;
        self.set_loop_split(split, kind);
        Ok(())
    }

    fn enter(&mut self, register: Option<u32>) -> Result<(), Error> {
        register.map_or(Ok(()), |register| self.push(Instruction::Enter(register)))
    }

    fn look(&mut self, look: &Look) -> Result<(), Error> {
        let behind = if look.behind { fixed_width(look.node.width(self.widths))? } else { 0 };
        let start = self.here();
        self.push(Instruction::Fail)?;
        self.node(&look.node)?;
        self.push(Instruction::Accept)?;
        let end = self.here();
        self.instructions[start as usize] = Instruction::Look { negated: look.negated, behind, end };
        Ok(())
    }

    fn atomic(&mut self, node: &Node) -> Result<(), Error> {
        self.atomic_of(|compiler| compiler.node(node))
    }

    fn atomic_of(&mut self, body: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let start = self.here();
        self.push(Instruction::Fail)?;
        body(self)?;
        self.push(Instruction::Accept)?;
        self.instructions[start as usize] = Instruction::Atomic { end: self.here() };
        Ok(())
    }

    fn conditional(&mut self, conditional: &Conditional) -> Result<(), Error> {
        self.reads_groups = true;
        let start = self.here();
        self.push(Instruction::Fail)?;
        self.node(&conditional.yes)?;
        let jump = self.here();
        self.push(Instruction::Jump(0))?;
        let otherwise = self.here();
        self.node(&conditional.no)?;
        self.instructions[start as usize] = Instruction::Condition { group: conditional.group, otherwise };
        self.instructions[jump as usize] = Instruction::Jump(self.here());
        Ok(())
    }

    fn here(&self) -> Address {
        self.instructions.len() as Address
    }

    fn push(&mut self, instruction: Instruction) -> Result<(), Error> {
        if self.instructions.len() >= INSTRUCTIONS_MAX {
            return Err(too_many_steps());
        }
        self.instructions.push(instruction);
        Ok(())
    }

    fn push_split(&mut self) -> Result<Address, Error> {
        let address = self.here();
        let row = self.rows;
        self.rows += 1;
        self.push(Instruction::Split { first: 0, second: 0, row })?;
        Ok(address)
    }

    fn set_split(&mut self, address: Address, first: Address, second: Address) {
        if let Instruction::Split { row, .. } = self.instructions[address as usize] {
            self.instructions[address as usize] = Instruction::Split { first, second, row };
        }
    }

    /// A split before a body that follows it, and which leaves to here.
    fn set_loop_split(&mut self, address: Address, kind: RepeatKind) {
        let (body, exit) = (address + 1, self.here());
        match kind {
            RepeatKind::Greedy | RepeatKind::Possessive => self.set_split(address, body, exit),
            RepeatKind::Lazy => self.set_split(address, exit, body),
        }
    }

    /// Notes for each repeat of one character which character must follow it, so that the engine tries nothing else.
    fn note_next_chars(&mut self) {
        for address in 0..self.instructions.len() {
            if let Instruction::Repeat { index, .. } = self.instructions[address] {
                let saves = |instruction: &&Instruction| matches!(instruction, Instruction::Save(_));
                let next = self.instructions[address + 1..].iter().find(|instruction| !saves(instruction));
                self.repeats[index as usize].next = match next {
                    Some(Instruction::Char(code)) => Some(*code),
                    Some(Instruction::Literal { first, .. }) => Some(self.literals[*first as usize]),
                    _ => None,
                };
            }
        }
    }
}

fn too_many_steps() -> Error {
    Error::Unsupported {
        construct: format!("a pattern whose repeats expand to more than {INSTRUCTIONS_MAX} steps"),
        place: Place::default(),
        advice: "use smaller counts, or * and + instead of counts",
    }
}

fn char_of(node: &Node) -> Option<u32> {
    if let Node::Single(Single::Char(code)) = node { Some(*code) } else { None }
}

/// The body of a repeat if it is one character, however wrapped.
fn lone_single(node: &Node) -> Option<&Single> {
    match node {
        Node::Single(single) => Some(single),
        Node::Sequence(nodes) => match &nodes[..] {
            [node] => lone_single(node),
            _ => None,
        },
        Node::Alternation(_)
        | Node::Group(..)
        | Node::Repeat(_)
        | Node::Assertion(_)
        | Node::Look(_)
        | Node::Atomic(_)
        | Node::Backreference(..)
        | Node::Conditional(_)
        | Node::Fail => None,
    }
}

fn fixed_width(width: Width) -> Result<u32, Error> {
    let message = if width.min > LOOK_BEHIND_MAX {
        "looks too much behind"
    } else if width.min == width.max {
        return Ok(width.min as u32);
    } else {
        "look-behind requires fixed-width pattern"
    };
    Err(Error::Syntax { message: message.to_owned(), place: Place::default() })
}
