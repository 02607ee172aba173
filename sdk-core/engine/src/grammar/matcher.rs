//! Where a text stands in a grammar: all ways to read it at once, as a set of places with their open calls.
//!
//! Sets are numbered and their steps remembered, so that a set met before costs one look-up for each byte; walking a whole
//! vocabulary is then hardly more than reading it. Every search is bounded, and too much of it is an error.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::GrammarError;
use super::program::{Node, Program, RETURN};
use super::vocabulary::{Mask, Vocabulary};

/// Most places in one set.
const MOST_PLACES: usize = 1024;
/// Most places that are looked at to find one set.
const MOST_VISITS: usize = 32_768;
/// Most sets while walking the vocabulary once, and most that are kept between two walks. A set with its steps takes a KiB.
const MOST_SETS: usize = 16_384;
const KEPT_SETS: usize = 4096;
/// Most masks that are kept; the largest vocabularies have masks of 32 KiB.
const KEPT_MASKS: usize = 256;

/// The set without any place: the text does not follow the grammar.
const DEAD: u32 = 0;
const UNKNOWN: u32 = u32::MAX;
/// No open call.
const BOTTOM: u32 = 0;

/// A node, and the calls that are open there.
type Place = (u32, u32);

#[derive(Debug)]
struct Set {
    places: Box<[Place]>,
    is_complete: bool,
    next: Box<[u32; 256]>,
}

/// Follows one text.
#[derive(Debug)]
pub(crate) struct Matcher {
    program: Arc<Program>,
    sets: Vec<Set>,
    numbers: HashMap<(Box<[Place]>, bool), u32>,
    /// Open calls: where the innermost goes on, and those around it.
    calls: Vec<Place>,
    call_numbers: HashMap<Place, u32>,
    masks: HashMap<u32, Arc<Mask>>,
    at: u32,
}

impl Matcher {
    /// At the beginning.
    ///
    /// # Errors
    /// [`GrammarError::TooAmbiguous`].
    pub(super) fn new(program: Arc<Program>) -> Result<Self, GrammarError> {
        let start = program.starts.get(program.root).copied().unwrap_or(RETURN);
        let mut matcher = Self {
            program,
            sets: Vec::new(),
            numbers: HashMap::new(),
            calls: vec![(RETURN, BOTTOM)],
            call_numbers: HashMap::new(),
            masks: HashMap::new(),
            at: DEAD,
        };
        matcher.intern(Vec::new(), false)?;
        matcher.at = matcher.close(vec![(start, BOTTOM)])?;
        Ok(matcher)
    }

    /// Whether the text may end here.
    pub(crate) fn is_complete(&self) -> bool {
        self.set(self.at).is_some_and(|set| set.is_complete)
    }

    /// Whether the text must end here.
    pub(crate) fn is_over(&self) -> bool {
        self.set(self.at).is_none_or(|set| set.places.is_empty())
    }

    /// Goes on with these bytes. False, and no step taken, when the grammar forbids them.
    ///
    /// # Errors
    /// [`GrammarError::TooAmbiguous`].
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> Result<bool, GrammarError> {
        let at = self.walk(bytes)?;
        if at == DEAD {
            return Ok(false);
        }
        self.at = at;
        Ok(true)
    }

    /// Whether these bytes may come next.
    ///
    /// # Errors
    /// [`GrammarError::TooAmbiguous`].
    pub(crate) fn allows(&mut self, bytes: &[u8]) -> Result<bool, GrammarError> {
        Ok(self.walk(bytes)? != DEAD)
    }

    fn walk(&mut self, bytes: &[u8]) -> Result<u32, GrammarError> {
        let mut at = self.at;
        for byte in bytes {
            at = self.step(at, *byte)?;
            if at == DEAD {
                break;
            }
        }
        Ok(at)
    }

    /// The tokens that may come next, those that end the text not among them.
    ///
    /// # Errors
    /// [`GrammarError::TooAmbiguous`].
    pub(crate) fn mask(&mut self, vocabulary: &Vocabulary) -> Result<Arc<Mask>, GrammarError> {
        if let Some(mask) = self.masks.get(&self.at) {
            return Ok(Arc::clone(mask));
        }
        if self.sets.len() > KEPT_SETS || self.masks.len() >= KEPT_MASKS {
            self.forget()?;
        }
        let mut mask = vocabulary.mask();
        // The sets behind each byte of the current entry, as far as it follows the grammar.
        let mut path = vec![self.at];
        for (entry, bytes) in vocabulary.entries() {
            let shared = entry.shared as usize;
            if shared >= path.len() {
                continue; // it begins with what was refused
            }
            path.truncate(shared + 1);
            let mut at = path.last().copied().unwrap_or(DEAD);
            for byte in bytes.iter().skip(shared) {
                at = self.step(at, *byte)?;
                if at == DEAD {
                    break;
                }
                path.push(at);
            }
            if at != DEAD {
                mask.allow(entry.token);
            }
        }
        let mask = Arc::new(mask);
        self.masks.insert(self.at, Arc::clone(&mask));
        Ok(mask)
    }

    fn set(&self, number: u32) -> Option<&Set> {
        self.sets.get(number as usize)
    }

    fn step(&mut self, at: u32, byte: u8) -> Result<u32, GrammarError> {
        let Some(set) = self.set(at) else { return Ok(DEAD) };
        match set.next.get(usize::from(byte)) {
            Some(&known) if known != UNKNOWN => return Ok(known),
            _ => {}
        }
        let nodes = &self.program.nodes;
        let behind = set
            .places
            .iter()
            .filter_map(|(node, calls)| match nodes.get(*node as usize) {
                Some(Node::Byte(bytes, next)) if bytes.contains(byte) => Some((*next, *calls)),
                _ => None,
            });
        let behind = behind.collect();
        let found = self.close(behind)?;
        if let Some(set) = self.sets.get_mut(at as usize)
            && let Some(place) = set.next.get_mut(usize::from(byte))
        {
            *place = found;
        }
        Ok(found)
    }

    /// The set of places that read a byte next, from these on.
    fn close(&mut self, mut open: Vec<Place>) -> Result<u32, GrammarError> {
        let program = Arc::clone(&self.program);
        let mut seen: std::collections::HashSet<Place> = open.iter().copied().collect();
        let mut places = Vec::new();
        let mut is_complete = false;
        while let Some((node, calls)) = open.pop() {
            let mut visit = |place: Place| {
                if seen.insert(place) {
                    open.push(place);
                }
                if seen.len() > MOST_VISITS {
                    Err(GrammarError::TooAmbiguous)
                } else {
                    Ok(())
                }
            };
            match program.nodes.get(node as usize) {
                Some(Node::Byte(..)) => places.push((node, calls)),
                Some(Node::Fork(ways)) => ways.iter().try_for_each(|way| visit((*way, calls)))?,
                Some(Node::Call(rule, next)) => {
                    let start = program.starts.get(*rule).copied().unwrap_or(RETURN);
                    // Nothing is left to do behind the call: it needs no place to come back to.
                    let inner = if *next == RETURN {
                        calls
                    } else {
                        self.call((*next, calls))
                    };
                    visit((start, inner))?;
                }
                Some(Node::Return) | None if calls == BOTTOM => is_complete = true,
                Some(Node::Return) | None => {
                    if let Some(outer) = self.calls.get(calls as usize) {
                        visit(*outer)?;
                    }
                }
            }
        }
        self.intern(places, is_complete)
    }

    fn call(&mut self, place: Place) -> u32 {
        let new = self.calls.len() as u32;
        let number = *self.call_numbers.entry(place).or_insert(new);
        if number == new {
            self.calls.push(place);
        }
        number
    }

    fn intern(&mut self, mut places: Vec<Place>, is_complete: bool) -> Result<u32, GrammarError> {
        if places.len() > MOST_PLACES || self.sets.len() >= MOST_SETS {
            return Err(GrammarError::TooAmbiguous);
        }
        places.sort_unstable();
        let places: Box<[Place]> = places.into();
        let new = self.sets.len() as u32;
        let number = *self.numbers.entry((places.clone(), is_complete)).or_insert(new);
        if number == new {
            self.sets.push(Set {
                places,
                is_complete,
                next: Box::new([UNKNOWN; 256]),
            });
        }
        Ok(number)
    }

    /// Drops everything but where the text stands.
    fn forget(&mut self) -> Result<(), GrammarError> {
        let here = self.sets.get_mut(self.at as usize);
        let (places, is_complete) = here.map_or_else(Default::default, |set| {
            (std::mem::take(&mut set.places), set.is_complete)
        });
        let calls = std::mem::take(&mut self.calls);
        self.sets.clear();
        self.numbers.clear();
        self.masks.clear();
        self.call_numbers.clear();
        self.calls.push((RETURN, BOTTOM));
        let mut kept = HashMap::from([(BOTTOM, BOTTOM)]);
        let mut moved = Vec::with_capacity(places.len());
        for (node, top) in places {
            // The chain of open calls, from the outermost: each has a higher number than those around it.
            let mut chain = Vec::new();
            let mut number = top;
            while !kept.contains_key(&number) {
                chain.push(number);
                number = calls.get(number as usize).map_or(BOTTOM, |call| call.1);
            }
            for old in chain.into_iter().rev() {
                if let Some((next, outer)) = calls.get(old as usize) {
                    let outer = kept.get(outer).copied().unwrap_or(BOTTOM);
                    let new = self.call((*next, outer));
                    kept.insert(old, new);
                }
            }
            moved.push((node, kept.get(&top).copied().unwrap_or(BOTTOM)));
        }
        self.intern(Vec::new(), false)?;
        self.at = self.intern(moved, is_complete)?;
        Ok(())
    }
}
